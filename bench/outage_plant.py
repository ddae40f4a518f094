"""An OPC UA server that outages are tried on, of one of two makes, as a program: it writes its own log and obeys.

`python -m bench.outage_plant --make o6|asyncua --port P --log FOLDER` prints `ready` and changes every node ten
times a second. Each line on standard input is a command: `hide NAME`, `show NAME` (the node is not there, is there
again), `clock SECONDS` (its clock jumps), `room` (a server that was started with `--full` lets sessions in), `count`.
Each is answered by the number of the newest scan. It ends when standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from connectors.opcua.own import CERTIFICATE, KEY
from examples.ownlog import OwnLog

if TYPE_CHECKING:
    from collections.abc import Sequence

URI: Final = "urn:headrace:tests:outages"
SERVER_URI: Final = f"{URI}:server"
OTHER: Final = "urn:headrace:tests:another"
NODES: Final = ("N0", "N1", "N2", "N3", "N4")
PERIOD_S: Final = 0.1
EPOCH_TICKS: Final = 116_444_736_000_000_000
"""1970 in ticks of 100 ns since 1601 (IEC 62541-6, 5.2.2.5)."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Make(Protocol):
    """A server of one make."""

    async def start(self) -> None:
        """Serve, with all nodes there."""

    async def write(self, name: str, value: float, micros: int) -> None:
        """Give a node a new value under this source time (µs since 1970)."""

    async def hide(self, name: str) -> None:
        """The node is not there any more."""

    async def show(self, name: str) -> None:
        """The node is there again."""

    def room(self) -> None:
        """Let sessions in."""


class Asyncua:
    """A server of asyncua."""

    def __init__(self, port: int, uris: Sequence[str], *, full: bool, keys: Path | None) -> None:
        """`uris`: in the order of the namespace array; `keys`: a folder with the key of a secured endpoint."""
        from asyncua.server.internal_session import InternalSession  # noqa: PLC0415 - of this make alone
        from asyncua.server.server import Server  # noqa: PLC0415

        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self._port, self._uris, self._keys, self._sessions = port, uris, keys, InternalSession
        self._room = InternalSession.max_connections
        InternalSession.max_connections = 0 if full else self._room
        self._server = Server()
        self._nodes: dict[str, Any] = {}
        self._index = 0

    async def start(self) -> None:
        """See `Make`."""
        from asyncua import ua  # noqa: PLC0415

        await self._server.init()
        self._server.set_endpoint(f"opc.tcp://127.0.0.1:{self._port}")
        kinds = [ua.SecurityPolicyType.NoSecurity]
        if self._keys is not None:
            await self._server.set_application_uri(SERVER_URI)
            await self._server.load_certificate(self._keys / CERTIFICATE)
            await self._server.load_private_key(self._keys / KEY)
            kinds.append(ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
        self._server.set_security_policy(kinds)
        for uri in self._uris:
            await self._server.register_namespace(uri)
        self._index = await self._server.get_namespace_index(URI)
        for name in NODES:
            await self.show(name)
        await self._server.start()

    async def show(self, name: str) -> None:
        """See `Make`."""
        self._nodes[name] = await self._server.nodes.objects.add_variable(f"ns={self._index};s={name}", name, 0.0)

    async def hide(self, name: str) -> None:
        """See `Make`. It is deleted without a word to those who monitor it."""
        await self._server.delete_nodes([self._nodes[name]])

    async def write(self, name: str, value: float, micros: int) -> None:
        """See `Make`."""
        from asyncua import ua  # noqa: PLC0415

        moment: Any = EPOCH + timedelta(microseconds=micros)
        data = ua.DataValue(ua.Variant(value, ua.VariantType.Double), ua.StatusCode(), moment)
        await self._server.write_attribute_value(self._nodes[name].nodeid, data)

    def room(self) -> None:
        """See `Make`."""
        self._sessions.max_connections = self._room


class Open62541:
    """A server of open62541, through `o6`."""

    def __init__(self, port: int, uris: Sequence[str], *, full: bool, keys: Path | None) -> None:
        """As `Asyncua`."""
        import o6  # noqa: PLC0415 - it ends the process that has it after ten minutes

        peer = self

        class Access(o6.AccessControl):  # type: ignore[misc]
            """Anyone, while there is room."""

            def activateSession(self, *given: object) -> None:  # noqa: N802 - the library calls it so
                """Raises what the client is answered."""
                del given
                if peer._full:
                    raise o6.StatusCodeError(o6.StatusCode.BAD_TOO_MANY_SESSIONS)

        self._o6, self._full = o6, full
        secured = {}
        if keys is not None:
            secured = {"certificate": keys / CERTIFICATE, "privateKey": keys / KEY, "acceptAllCertificates": True}
        self._server = o6.Server(port=port, accessControl=Access(), applicationUri=SERVER_URI, **secured)
        self._uris, self._index = uris, 0

    async def start(self) -> None:
        """See `Make`."""
        for number, uri in enumerate(self._uris):
            self._server._add_namespace(uri, 2 + number)  # noqa: SLF001 - the library has no public call for it
        self._index = 2 + list(self._uris).index(URI)
        for name in NODES:
            await self.show(name)
        self._server.start()
        await self._server.waitReady()

    def _node(self, name: str) -> Any:  # noqa: ANN401 - not typed
        return self._o6.NodeId(f"ns={self._index};s={name}")

    async def show(self, name: str) -> None:
        """See `Make`."""
        await self._server.addVariable(
            name, self._server.objectsNode, self._o6.Double(0.0), nodeId=self._node(name), writable=False
        )

    async def hide(self, name: str) -> None:
        """See `Make`."""
        await self._server.deleteNode(self._node(name))

    async def write(self, name: str, value: float, micros: int) -> None:
        """See `Make`."""
        cell = self._o6.DataValue(value=self._o6.Double(value))
        cell.sourceTimestamp = self._o6.DateTime(EPOCH_TICKS + micros * 10)
        attribute = int(self._o6.AttributeId.VALUE)
        status = self._server._write_data_value(self._node(name), cell, None, attribute, True).result()  # noqa: FBT003, SLF001 - as in `bench.opcua_plant`
        assert status == int(self._o6.StatusCode.GOOD), status

    def room(self) -> None:
        """See `Make`."""
        self._full = False


class Peer:
    """The server and what it was told."""

    def __init__(self, make: Make, log: OwnLog, first: int) -> None:
        """Nothing serves yet. `first`: the number that the first scan is one more than."""
        self._make, self._log, self._first = make, log, first
        self._there = dict.fromkeys(NODES, True)
        self._ahead_us = 0
        self._scans = first

    async def run(self) -> None:
        """Serve until standard input ends."""
        await self._make.start()
        writing = asyncio.create_task(self._write())
        print("ready", flush=True)
        writing.add_done_callback(_ended)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await self._obey(*line.split()), flush=True)
        writing.cancel()

    async def _write(self) -> None:
        """A scan: each node gets one more than before, under one source time. Noted before a client can have it."""
        due, number = time.monotonic(), float(self._first)
        while True:
            due, number = max(due + PERIOD_S, time.monotonic()), number + 1
            await asyncio.sleep(due - time.monotonic())
            micros = time.time_ns() // 1_000_000 * 1000 + self._ahead_us
            names = [name for name in NODES if self._there[name]]
            for name in names:
                self._log.write(name, micros * 1000, number, 0)
            self._log.flush()
            for name in names:
                await self._make.write(name, number, micros)
            self._scans = int(number)

    async def _obey(self, order: str, about: str = "") -> str:
        if order == "hide":
            self._there[about] = False
            await self._make.hide(about)
        elif order == "show":
            await self._make.show(about)
            self._there[about] = True
        elif order == "clock":
            self._ahead_us = round(float(about) * 1e6)
        elif order == "room":
            self._make.room()
        return str(self._scans)


def _ended(writing: asyncio.Task[None]) -> None:
    """A server that writes no more is no peer: end, with the traceback."""
    if not writing.cancelled() and (error := writing.exception()) is not None:
        traceback.print_exception(error)
        os._exit(1)


def main() -> None:
    """Serve as it was told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", choices=("o6", "asyncua"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--reordered", action="store_true")
    given = parser.parse_args()
    uris = (OTHER, URI) if given.reordered else (URI, OTHER)
    kind = Open62541 if given.make == "o6" else Asyncua

    async def serve() -> None:
        with OwnLog(given.log) as log:
            await Peer(kind(given.port, uris, full=given.full, keys=given.keys), log, given.first).run()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
