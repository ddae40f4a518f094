"""A Modbus TCP device with a few registers: `python -m bench.modbus_device --port P` prints `ready` and serves."""

from __future__ import annotations

import argparse
import asyncio
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    registers = [SimData(0, values=list(range(10)), datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(SimDevice(1, registers), address=("127.0.0.1", given.port))
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    asyncio.run(main())
