"""The same HTTP request over many connections at once, each sent anew as soon as the last one is answered."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_OK: Final = b"HTTP/1.1 200"


@dataclass(slots=True)
class Result:
    """What a load has seen after its warm-up."""

    seconds: float
    latencies_ns: list[int] = field(repr=False)
    failed: int
    answer: bytes
    """The last one, with its headers."""

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.latencies_ns) / self.seconds

    def ms(self, percent: float) -> float:
        """A percentile of the latency."""
        return float(np.percentile(np.array(self.latencies_ns), percent)) / 1e6


class _Connection(asyncio.Protocol):
    """One request under way at any time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._began = 0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A loop other than asyncio's own has transports that derive from nothing of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._began = time.perf_counter_ns()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._answer = self._answer + data if self._answer else data
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._answer, 0, head + 2)
        assert length is not None, self._answer[:500]
        if len(self._answer) < head + 4 + int(length[1]):
            return
        answer, self._answer = self._answer, b""
        if self._load.note(answer, time.perf_counter_ns() - self._began):
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.ended(exc)


@dataclass(slots=True)
class _Load:
    request: bytes
    connections: int
    warm_until: float
    until: float
    latencies: list[int] = field(default_factory=list)
    failed: int = 0
    answer: bytes = b""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, answer: bytes, taken_ns: int) -> bool:
        now = time.perf_counter()
        if now >= self.until:
            return False
        if now >= self.warm_until:
            self.latencies.append(taken_ns)
            self.failed += not answer.startswith(_OK)
            self.answer = answer
        return True

    def ended(self, error: Exception | None) -> None:
        self.connections -= 1
        self.failed += error is not None
        if not self.connections:
            self.done.set()


async def load(port: int, request: bytes, connections: int, seconds: float, warm_s: float) -> Result:
    """Load a server on this machine. Answers during the warm-up are not counted."""
    begin = time.perf_counter() + warm_s
    run = _Load(request, connections, begin, begin + seconds)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
    await asyncio.wait_for(run.done.wait(), warm_s + seconds + 30)
    return Result(seconds, run.latencies, run.failed, run.answer)


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A POST as bytes; `_` in a header's name stands for `-`."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
