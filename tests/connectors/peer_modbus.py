"""A real Modbus TCP server as a peer: on a test's own loop, or for the conformance suite on a loop beside it."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from app.launcher.ports import Port
from connectors import Batch, ConnectionConfig, TagBinding
from connectors.modbus.source import ModbusSource
from tests.connectors.message_gate import Framing
from tests.connectors.peering import Peer
from tests.waiting import wait_for

SIZE: Final = 2048
FUNCTIONS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
SOON_S: Final = 10.0
VARIANTS: Final = ("TCP",)
LENGTH_END: Final = 6
"""Of the length in the MBAP header (Modbus Messaging on TCP/IP V1.0b, 3.1.3); it counts what follows it."""
FRAMES: Final = Framing(
    lambda data: LENGTH_END + int.from_bytes(data[4:LENGTH_END], "big") if len(data) >= LENGTH_END else 0,
    lambda _data: LENGTH_END,
    lambda data: f"function {data[LENGTH_END + 1]}" if len(data) > LENGTH_END + 1 else "an empty frame",
)

T = TypeVar("T")


def registers(data: bytes) -> list[int]:
    """These bytes as registers, the high byte of each first."""
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def _bits() -> list[SimData]:
    return [SimData(0, values=[False] * SIZE, datatype=DataType.BITS)]


def _registers() -> list[SimData]:
    return [SimData(0, values=[0] * SIZE, datatype=DataType.REGISTERS)]


def _past(moment: float) -> bool:
    return time.monotonic() >= moment


class Plc:
    """Units with the four tables, addresses 0 to 2047 each, which tells what it was asked."""

    def __init__(self, *units: int) -> None:
        """Nothing listens yet."""
        self._units = units or (1,)
        self._server: Any = None
        """A ModbusTcpServer; not all of it is typed."""
        self._never = asyncio.Event()
        self.port = 0
        self.requests: list[tuple[int, int, int, int]] = []
        """Unit, function code, address and number, in the order they came."""
        self.holes: dict[tuple[int, int], ExcCodes] = {}
        """Function code and address -> what a request that touches it is answered with."""
        self.silent: set[int] = set()
        self.slow_s = 0.0
        """How long an answer takes."""
        self.longest = SIZE
        """Registers in one request; more is an illegal data value."""

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1, or on the one before."""
        self._never.clear()
        devices = [self._device(unit) for unit in self._units]
        self._server = ModbusTcpServer(devices, address=("127.0.0.1", self.port), trace_pdu=self._trace)
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]

    def _device(self, unit: int) -> SimDevice:
        async def answer(
            function: int, _first: int, address: int, count: int, _held: list[int], values: object
        ) -> ExcCodes | None:
            if values is not None:
                return None
            await wait_for(partial(_past, time.monotonic() + self.slow_s))
            if unit in self.silent:
                await self._never.wait()
            if count > self.longest:
                return ExcCodes.ILLEGAL_VALUE
            return next(
                (code for (of, at), code in self.holes.items() if of == function and address <= at < address + count),
                None,
            )

        return SimDevice(unit, (_bits(), _bits(), _registers(), _registers()), action=answer)

    def _trace(self, sending: bool, pdu: ModbusPDU) -> ModbusPDU:  # noqa: FBT001 - the library calls it so
        if not sending:
            self.requests.append((pdu.dev_id, pdu.function_code, pdu.address, pdu.count))
        return pdu

    async def put(self, table: str, address: int, *values: int, unit: int = 1) -> None:
        """Change what the device holds."""
        await self._server.async_setValues(unit, FUNCTIONS[table], address, list(values))

    async def stop(self) -> None:
        """End every connection and listen no more."""
        self._never.set()
        if self._server is not None:
            await self._server.shutdown()
        self._server = None


def tag(number: int, address: str, datatype: str = "any", **options: object) -> TagBinding:
    """A tag that takes what comes, unless it is told otherwise."""
    return TagBinding(number, address, datatype, options)


def source(port: int, *tags: TagBinding, **options: object) -> ModbusSource:
    """A connection that polls often."""
    given = {"url": f"modbus://127.0.0.1:{port}", "poll_s": 0.02, **options}
    return ModbusSource(ConnectionConfig("plc", given, tags, 3, ""))


def readings(batch: Batch) -> dict[int, object]:
    """Tag -> value, or the status where that is Bad."""
    rows = zip(batch.tags.tolist(), batch.values.tolist(), batch.status.tolist(), strict=True)
    return {tag: code or batch.others.get(row, value) for row, (tag, value, code) in enumerate(rows)}


async def first(plc: Plc, *tags: TagBinding, **options: object) -> Batch:
    """What the first poll brings."""
    modbus = source(plc.port, *tags, **options)
    await modbus.connect()
    batch = await modbus.read()
    await modbus.close()
    return batch


class Beside:
    """A Plc on an event loop and thread of its own, for a fixture that cannot wait."""

    def __init__(self) -> None:
        """It listens."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.plc = self._run(self._made())

    async def _made(self) -> Plc:
        plc = Plc()
        await plc.start()
        return plc

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SOON_S)

    async def emit(self, number: float, text: str) -> None:
        """A new number at holding:0 and a new text at holding:10."""
        await self._there(self._emit(number, text))

    async def _emit(self, number: float, text: str) -> None:
        await self.plc.put("holding", 0, *registers(struct.pack(">d", number)))
        await self.plc.put("holding", 10, *registers(text.encode().ljust(32, b"\0")))

    async def cut(self) -> None:
        """The server is gone."""
        await self._there(self.plc.stop())

    async def _there(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def end(self) -> None:
        """Stop the server, the loop and the thread."""
        self._run(self.plc.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SOON_S)
        self._loop.close()


def peer(request: pytest.FixtureRequest, tmp_path: Path, variant: str = VARIANTS[0]) -> Peer:
    """A server of its own."""
    del tmp_path, variant
    beside = Beside()
    request.addfinalizer(beside.end)
    options = {"url": f"modbus://127.0.0.1:{beside.plc.port}", "poll_s": 0.02, "timeout_s": 3}
    with Port() as nobody:
        return Peer(
            options,
            TagBinding(41, "holding:0:float64"),
            TagBinding(42, "holding:10:string(32)", "string"),
            beside.emit,
            {**options, "url": f"modbus://127.0.0.1:{nobody.number}"},
            ("holding", "holding:65536", "holding:1.16", "coil:1:int16", "register:1", "50001", "40000", ""),
            cut=beside.cut,
            framing=FRAMES,
        )
