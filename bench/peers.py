"""Child processes of a benchmark: they say `ready`, answer lines, and end with their standard input."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app import settings
from app.launcher import usage
from app.launcher.stack import SOURCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True)
class Peer:
    """A child that says `ready`, and answers lines."""

    process: asyncio.subprocess.Process

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far."""
        return usage.of_process(self.process.pid).cpu_s

    async def line(self) -> str:
        """Its next line. Raises RuntimeError when it has ended instead."""
        assert self.process.stdout is not None
        text = (await self.process.stdout.readline()).decode().strip()
        if not text:
            message = f"a process of the benchmark ended: {self.process.pid}"
            raise RuntimeError(message)
        return text

    def tell(self, text: str) -> None:
        """One line for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())

    def close(self) -> None:
        """Nothing more comes: it reports and ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def end(self) -> None:
        """Close its standard input and wait until it is gone."""
        self.close()
        try:
            await asyncio.wait_for(self.process.wait(), 10)
        except TimeoutError:
            with suppress(ProcessLookupError):  # it has ended just now
                self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def peer(module: str, *arguments: object) -> AsyncIterator[Peer]:
    """Run one module of the benchmark until this context ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, *map(str, arguments),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**26,
        env={**settings.inherited(), "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    made = Peer(process)
    try:
        # A library may greet on standard output first.
        while await made.line() != "ready":
            pass
        yield made
    finally:
        await made.end()
