"""A gate that knows the protocol's messages: it notes each, and lets the peer fail at whichever one is asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

CUTS: Final = ("cut", "torn")
"""The connection breaks instead of the message, or in the middle of it; then nobody takes a connection."""
SILENCES: Final = ("stalled", "half_closed")
"""Nothing more comes either way, without an end or with one; what we send is still taken."""
GARBAGE: Final = ("noise", "spoilt")
"""The message is random bytes, or one byte of it is another; then all goes on."""
FAULTS: Final = CUTS + SILENCES + GARBAGE
READ_BYTES: Final = 65_536


@dataclass(frozen=True)
class Framing:
    """Where the messages of a protocol begin and end."""

    size: Callable[[bytes], int]
    """Bytes of the message that begins here; 0 while that cannot be told yet."""
    head: Callable[[bytes], int]
    """Bytes at its beginning that say where it ends."""
    name: Callable[[bytes], str]
    """What to call it."""


@dataclass(frozen=True)
class Step:
    """One message of a connection."""

    ours: bool
    name: str

    def __str__(self) -> str:
        """As a reader sees it."""
        return f"{'we' if self.ours else 'peer'} {self.name}"


@dataclass(eq=False)
class _Way:
    """One connection through the gate."""

    ours: asyncio.StreamWriter
    """Towards the connector."""
    theirs: asyncio.StreamWriter
    dead: bool = False
    held: bool = True
    """The connector has not let go of it."""


class MessageGate:
    """Passes whole messages on to `host:port`, until it is told to `fail` at one."""

    def __init__(self, host: str, port: int, framing: Framing, seed: int = 0) -> None:
        """Nothing listens yet. `seed`: of its garbage."""
        self._target = (host, port)
        self._framing = framing
        self.fault, self._at = "", -1
        self._random = random.Random(seed)  # noqa: S311 - garbage that is the same each time
        self._server: asyncio.Server | None = None
        self._ways: set[_Way] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.steps: list[Step] = []
        self.failed = asyncio.Event()
        self.port = 0

    async def start(self) -> None:
        """Listen on 127.0.0.1, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def fail(self, fault: str, at: int) -> None:
        """At message number `at` from now, counted from 0 over both directions and all connections."""
        self.fault, self._at = fault, len(self.steps) + at

    async def mend(self) -> None:
        """Let go of the connections there are; from now on all passes."""
        await self.close()
        self.fault, self._at = "", -1
        await self.start()

    async def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        for way in self._ways:
            way.ours.transport.abort()
            way.theirs.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        self._server = None

    @property
    def held(self) -> int:
        """Connections that the connector has not let go of."""
        return sum(way.held for way in self._ways)

    @property
    def over(self) -> bool:
        """Whether every connection there was has ended, and all that was said on it has been counted."""
        return not self._tasks

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.failed.is_set() and self.fault in CUTS:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        way = _Way(writer, there_writer)
        way.dead = self.failed.is_set() and self.fault in SILENCES
        self._ways.add(way)
        both = [self._pump(way, reader, ours=True), self._pump(way, there_reader, ours=False)]
        for one in both:
            task = asyncio.create_task(one)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, way: _Way, reader: asyncio.StreamReader, *, ours: bool) -> None:
        """One direction, message by message; after a failure what comes is read and goes nowhere."""
        sink, held = (way.theirs if ours else way.ours), bytearray()
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                held += data
                while not way.dead and (size := self._framing.size(bytes(held))) and size <= len(held):
                    message = bytes(held[:size])
                    del held[:size]
                    self._pass_on(way, message, sink, ours=ours)
                if not way.dead:
                    await sink.drain()
        if ours:
            way.held = False
        if ours or not way.dead:
            sink.close()

    def _pass_on(self, way: _Way, message: bytes, sink: asyncio.StreamWriter, *, ours: bool) -> None:
        number = len(self.steps)
        self.steps.append(Step(ours, self._framing.name(message)))
        if number != self._at:
            sink.write(message)
            return
        self.failed.set()
        if self.fault in GARBAGE:
            sink.write(self._garbage(message))
            return
        way.dead = True
        if self.fault == "torn":
            sink.write(message[: max(1, len(message) // 2)])
        if self.fault in CUTS:
            self._break()
        elif self.fault == "half_closed":
            way.ours.write_eof()

    def _break(self) -> None:
        """Every connection, in turn of what was written."""
        for way in self._ways:
            way.dead = True
            for writer in (way.ours, way.theirs):
                # What was written is sent first: an abort would take it back.
                writer.close()

    def _garbage(self, message: bytes) -> bytes:
        if self.fault == "noise":
            return self._random.randbytes(len(message))
        spoilt, head = bytearray(message), self._framing.head(message)
        if head < len(spoilt):
            spoilt[self._random.randrange(head, len(spoilt))] ^= self._random.randrange(1, 256)
        return bytes(spoilt)
