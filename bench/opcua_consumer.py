"""A client that takes what an OPC UA plant sends: our connector, or asyncua's own subscription handler.

`python -m bench.opcua_consumer --who ours|asyncua --port P --tags N [--journal FOLDER]` prints `ready` once every tag
has its first value. A line on standard input is answered with `CPU-SECONDS VALUES` so far. At the end of input it
prints one JSON line: per source time (ns) how many values came and their fingerprint (`fingerprint`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from asyncua.client.client import Client
from numpy.typing import NDArray

import connectors
from app.journal import Journal
from app.records import to_record
from connectors import ConnectionConfig, Source, TagBinding

QUEUE: Final = 10
"""Values a server keeps per tag: a client that is a second late at 10 Hz has lost something."""
PUBLISHING_MS: Final = 50


def fingerprint(tags: NDArray[np.int64], values: NDArray[np.float64]) -> int:
    """The same for the same values of the same tags, in any order."""
    bits = np.ascontiguousarray(values).view(np.uint64)
    return int(np.bitwise_xor.reduce(bits * (2 * tags.astype(np.uint64) + np.uint64(1))))


class Consumer(Protocol):
    """Connects, takes values in the background, and has them in columns at the end."""

    count: int
    whole: asyncio.Event
    """Every tag has a value."""

    async def start(self) -> None:
        """Return when connected and subscribed."""

    async def stop(self) -> None:
        """Let go of the plant."""

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Tag, source time in ns, value."""


class Ours:
    """The connector as the gateway runs it; with the journal behind it if a folder is given."""

    def __init__(self, port: int, tags: int, journal: Path | None) -> None:
        """Nothing is opened yet."""
        self.count = 0
        self.whole = asyncio.Event()
        self._tags = tags
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        self._journal = (
            None if journal is None else Journal(journal, "bench", commit_interval_s=0.005, budget=2**34)
        )
        options = {
            "url": f"opc.tcp://127.0.0.1:{port}", "security": "None", "publishing_interval_ms": PUBLISHING_MS,
            "queue_size": QUEUE, "resume": False,
        }  # fmt: skip
        bindings = tuple(TagBinding(n, f"ns=1;s=T{n}") for n in range(tags))
        self._folder = tempfile.TemporaryDirectory()
        config = ConnectionConfig("plant", options, bindings, 1, self._folder.name)
        self._source: Source = connectors.load("opcua").source(config)
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See `Consumer`."""
        await self._source.connect()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            batch = await self._source.read()
            if self._journal is not None:
                await self._journal.append(to_record(1, batch))
            await batch.ack()
            self.count += len(batch)
            self._parts.append((batch.tags, batch.source_time, batch.values))
            if self.count >= self._tags:
                self.whole.set()

    async def stop(self) -> None:
        """See `Consumer`."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._source.close()
        if self._journal is not None:
            await asyncio.to_thread(self._journal.close)
        self._folder.cleanup()

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """See `Consumer`."""
        tags, times, values = zip(*self._parts, strict=True)
        return np.concatenate(tags), np.concatenate(times), np.concatenate(values)


class Asyncua:
    """asyncua's client with the handler its own examples have: one call per value."""

    def __init__(self, port: int, tags: int) -> None:
        """Nothing is opened yet."""
        self.count = 0
        self.whole = asyncio.Event()
        self._client = Client(f"opc.tcp://127.0.0.1:{port}", timeout=30)
        self._tags = tags
        self._taken: list[tuple[str, Any, Any]] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:  # noqa: ANN401 - the library's own
        """Called by the library."""
        self.count += 1
        self._taken.append((node.nodeid.Identifier, value, data.monitored_item.Value.SourceTimestamp))
        if self.count == self._tags:
            self.whole.set()

    async def start(self) -> None:
        """See `Consumer`."""
        await self._client.connect()
        subscription = await self._client.create_subscription(PUBLISHING_MS, self)
        nodes = [self._client.get_node(f"ns=1;s=T{n}") for n in range(self._tags)]
        for begin in range(0, len(nodes), 1000):
            await subscription.subscribe_data_change(nodes[begin : begin + 1000], queuesize=QUEUE)

    async def stop(self) -> None:
        """See `Consumer`."""
        await self._client.disconnect()

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """See `Consumer`."""
        tags = np.array([int(name[1:]) for name, _, _ in self._taken], dtype=np.int64)
        times = np.array([np.datetime64(at.replace(tzinfo=None), "ns") for _, _, at in self._taken]).astype(np.int64)
        return tags, times, np.array([value for _, value, _ in self._taken], dtype=np.float64)


def by_time(consumer: Consumer) -> dict[str, tuple[int, int]]:
    """Source time → how many values came, and their fingerprint."""
    if not consumer.count:
        return {}
    tags, times, values = consumer.columns()
    order = times.argsort(kind="stable")
    found, begin = np.unique(times[order], return_index=True)
    groups = np.split(order, begin[1:])
    return {
        str(at): (len(rows), fingerprint(tags[rows], values[rows]))
        for at, rows in zip(found.tolist(), groups, strict=True)
    }


async def main() -> None:
    """Connect, wait for lines, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--who", choices=("ours", "asyncua"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tags", type=int, default=5000)
    parser.add_argument("--journal", type=Path)
    given = parser.parse_args()
    make: dict[str, Callable[[], Consumer]] = {
        "ours": lambda: Ours(given.port, given.tags, given.journal),
        "asyncua": lambda: Asyncua(given.port, given.tags),
    }
    consumer = make[given.who]()
    await consumer.start()
    await consumer.whole.wait()
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), consumer.count, flush=True)
    await consumer.stop()
    print(json.dumps(by_time(consumer)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
