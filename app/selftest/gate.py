"""A gate on the way to a real server: lets bytes through, late if asked, or cuts, half-closes, holds them back."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Gate:
    """Listens on a port of its own and passes everything on to `host:port` while it is open."""

    def __init__(self, host: str, port: int) -> None:
        """Nothing listens yet."""
        self.target = (host, port)
        """Where it leads to."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._never = asyncio.Event()
        self._answers: set[asyncio.StreamWriter] = set()
        """Those that carry the server's bytes."""
        self._ended: set[asyncio.StreamWriter] = set()
        """Those of them that have ended by half: what a server sends after that goes nowhere."""
        self.port = 0
        self._left = 0
        """Answers that still come through before it freezes; 0: all."""
        self.delay_s = 0.0
        """How late bytes are passed on."""
        self.opened = asyncio.Event()

    async def start(self) -> None:
        """Listen on 127.0.0.1, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        self._writers.add(there_writer)
        self._answers.add(writer)
        self.opened.set()
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._late()
                await self._flowing.wait()
                if sink in self._ended:
                    continue
                sink.write(data)
                await sink.drain()
                self._count(sink)
        sink.close()

    def _count(self, sink: asyncio.StreamWriter) -> None:
        if self._left and sink in self._answers:
            self._left -= 1
            if not self._left:
                self.freeze()

    async def _late(self) -> None:
        if self.delay_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._never.wait(), self.delay_s)

    def half_close(self) -> None:
        """The server's side ends, as when its process is gone and its kernel says so; ours may still send."""
        for writer in self._answers:
            if not writer.is_closing():
                writer.write_eof()
        self._ended |= self._answers
        self._answers.clear()

    @property
    def frozen(self) -> bool:
        """Whether it holds everything back."""
        return not self._flowing.is_set()

    def thaw(self) -> None:
        """Let bytes through again."""
        self._flowing.set()

    def freeze_after(self, answers: int) -> None:
        """Freeze when the server has answered so often, counted in pieces as they come over the line."""
        self._left = answers

    def freeze(self) -> None:
        """Hold every byte back, but keep the connections."""
        self._flowing.clear()

    async def cut(self) -> None:
        """Break every connection and listen no more, as when the peer is killed."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._answers.clear()
        self._flowing.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        self._server = None
