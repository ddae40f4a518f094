"""An OPC UA server whose tags all change at a steady pace, and whose log has a value before any client can have it."""

from __future__ import annotations

import argparse
import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asyncua import ua
from asyncua.server.server import Server

from examples.lifetime import Lifetime
from examples.ownlog import OwnLog, stamp

if TYPE_CHECKING:
    from asyncua.common.node import Node

NAMESPACE: Final = "urn:headrace:acceptance"
LAST_S: Final = 2.0
"""After the last value it serves on for so long: a server that stops does not publish what changed last."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Plant:
    """The server and its log."""

    def __init__(self, port: int, log: OwnLog) -> None:
        """Nothing listens yet."""
        self._port, self._log = port, log
        self._server = Server()
        self._nodes: dict[str, Node] = {}

    async def start(self, names: list[str]) -> None:
        """Serve these tags, each with a first value. Raises OSError if the port is taken."""
        await self._server.init()
        self._server.set_endpoint(f"opc.tcp://127.0.0.1:{self._port}")
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await self._server.register_namespace(NAMESPACE)
        for name in names:
            self._nodes[name] = await self._server.nodes.objects.add_variable(f"ns={index};s={name}", name, 0.0)
        await self.write(0.0)
        await self._server.start()

    async def write(self, value: float) -> None:
        """Give every tag this value, all under one source time."""
        now = stamp()
        for name in self._nodes:
            self._log.write(name, now, value, 0)
        self._log.flush()
        moment: Any = _EPOCH + timedelta(milliseconds=now // 1_000_000)
        for node in self._nodes.values():
            data = ua.DataValue(ua.Variant(value, ua.VariantType.Double), ua.StatusCode(), moment)
            await self._server.write_attribute_value(node.nodeid, data)

    async def stop(self) -> None:
        """Let clients have the last values, then close."""
        await asyncio.sleep(LAST_S)
        await self._server.stop()


async def run(given: argparse.Namespace) -> None:
    """Change every tag until the lifetime is over."""
    lifetime = Lifetime()
    with OwnLog(given.log) as log:
        plant = Plant(given.port, log)
        await plant.start([f"s{index}" for index in range(given.tags)])
        loop = asyncio.get_running_loop()
        due, number = loop.time(), 0.0
        while not await lifetime.pause(due - loop.time()):
            due, number = max(due + 1 / given.hz, loop.time()), number + 1
            await plant.write(number)
        await plant.stop()


def main() -> None:
    """The command line's entry."""
    logging.basicConfig(level=logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="python -m examples.acceptance.server", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--log", type=Path, required=True, help="folder for its log")
    parser.add_argument("--tags", type=int, default=5, help="how many tags")
    parser.add_argument("--hz", type=float, default=10, help="changes a second and tag")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
