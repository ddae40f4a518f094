"""Peers that a test holds in its hand: they keep the contract of `connectors` and do nothing by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel

from connectors import Batch, ConnectionConfig, Connector, NotConnectedError, Publication, Refusal, Source, no_ack

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND


def batch(
    tags: Sequence[int] = (1,),
    values: Sequence[float] = (1.0,),
    *,
    at: int = BASE,
    refused: tuple[Refusal, ...] = (),
    lost: int = 0,
    continues: bool = True,
    ack: Callable[[], Awaitable[None]] = no_ack,
) -> Batch:
    """Good readings, all of one source time that is the received time too."""
    n = len(tags)
    return Batch(
        tags=np.array(tags, dtype=np.int64),
        source_time=np.full(n, at, dtype=np.int64),
        values=np.array(values, dtype=np.float64),
        others={},
        status=np.zeros(n, dtype=np.uint32),
        received_time=at,
        alive_until=at,
        revision=1,
        refused=refused,
        lost=lost,
        continues=continues,
        ack=ack,
    )


@dataclass
class Peer:
    """What a source reads from: batches, or errors to raise, in order; it waits when there is none."""

    inbox: asyncio.Queue[Batch | Exception] = field(default_factory=asyncio.Queue)
    refusals: list[Exception] = field(default_factory=list)
    """Raised by the next calls of `connect`."""
    connects: int = 0
    closes: int = 0

    async def connect(self) -> None:
        """See `Source`."""
        self.connects += 1
        if self.refusals:
            raise self.refusals.pop(0)

    async def read(self) -> Batch:
        """See `Source`."""
        found = await self.inbox.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None:
        """See `Source`."""
        self.closes += 1


@dataclass
class Consumer:
    """What a sink publishes to: keeps all it took, in order."""

    taken: list[Publication] = field(default_factory=list)
    connects: int = 0
    closes: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[Exception] = field(default_factory=list)
    """Raised by the next calls of `publish`, nothing being taken."""
    poison: set[str] = field(default_factory=set)
    """Ids it can never publish."""
    hung: bool = False

    async def connect(self) -> None:
        """See `Sink`."""
        self.connects += 1
        if not self.up.is_set():
            message = "nobody listens"
            raise NotConnectedError(message)

    async def publish(self, items: Sequence[Publication]) -> None:
        """See `Sink`."""
        if self.errors:
            raise self.errors.pop(0)
        if self.hung:
            await asyncio.Event().wait()
        if any(item.id in self.poison for item in items):
            message = "no topic can be made of this"
            raise ValueError(message)
        self.taken.extend(items)

    async def close(self) -> None:
        """See `Sink`."""
        self.closes += 1

    def ids(self) -> list[str]:
        """What it took."""
        return [item.id for item in self.taken]


class _Options(BaseModel):
    """None."""


@dataclass
class Plug:
    """A connector whose sources and sinks are those given, by the connection's name."""

    sources: dict[str, Source] = field(default_factory=dict)
    sinks: dict[str, Consumer] = field(default_factory=dict)
    SCHEMES: tuple[str, ...] = ("plug",)
    Options: type[BaseModel] = _Options
    TagOptions: type[BaseModel] = _Options

    def check_address(self, address: str) -> str | None:
        """Any will do."""
        return None if address else "empty"

    def source(self, config: ConnectionConfig) -> Source:
        """The source of this name."""
        return self.sources[config.name]

    def sink(self, config: ConnectionConfig) -> Consumer:
        """The sink of this name."""
        return self.sinks[config.name]

    def load(self, name: str) -> Connector:
        """Whatever the name, this connector; KeyError for `absent`."""
        if name == "absent":
            message = "there is no connector 'absent'"
            raise KeyError(message)
        return self
