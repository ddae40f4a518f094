"""Outages on a way of a box into the field: what is done to it, what is waited for, and what came of it."""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from app import times
from app.ledger.service import gaps
from connectors.opcua.columns import OVERFLOW
from tests.journeys.history import arrived, stored
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from app.selftest.gate import Gate
    from examples.ownlog import Entry
    from tests.journeys.box import Box

LATE_S: Final = 0.2
JUMP_S: Final = 3600
"""How far a server's clock jumps; a source time that is further from the present than half of it has jumped."""
SLACK_NS: Final = 1_000_000_000
"""A gap begins with the last answer; what was stamped before it may have been on its way then, on a busy host long."""


async def nothing() -> None:
    """Meanwhile, nothing is asked."""


@dataclass
class Way:
    """Connections that reach the field through one gate."""

    box: Box
    names: tuple[str, ...]
    gate: Gate | None = None
    """None where nothing is done to the line itself."""
    meanwhile: Callable[[], Awaitable[None]] = nothing
    """Done while the outage lasts."""

    @property
    def line(self) -> Gate:
        """The gate."""
        assert self.gate is not None
        return self.gate

    async def states(self) -> set[str]:
        """How its connections stand."""
        return {one["state"] for one in await self.box.get("/connections") if one["name"] in self.names}

    async def reached(self, state: str) -> None:
        """Wait until all of them are shown so."""

        async def all_are() -> bool:
            return await self.states() == {state}

        await wait_for(all_are, 30, f"{self.names} are {state}")

    async def lost(self) -> None:
        """Wait until the gateway has noticed, and do what is done meanwhile."""
        await self.reached("lost")
        await self.meanwhile()

    async def fresh(self, ahead_s: float = 0.0) -> None:
        """Wait until a Good reading is stored of each that happened after now, by a clock that is ahead."""
        now = times.now()
        then = now + round(ahead_s * times.NANOS)

        def new(name: str) -> bool:
            found = arrived(self.box.engine, name, now)
            return any(entry[0] > then and entry[2] == 0 for _, entry in found)

        for name in self.names:
            await wait_for(partial(new, name), 60, f"new readings of {name}")

    def losses(self) -> int:
        """How often the gateway has said that a connection was lost."""
        return len(self.box.logged("connection_lost"))


async def cut(way: Way) -> None:
    """Every connection is broken and none is taken; then the way is open again."""
    await way.line.cut()
    await way.lost()
    await way.line.start()


async def stalled(way: Way) -> None:
    """Nothing is closed and nothing comes: the watchdog has to notice. Then all of it flows again."""
    way.line.freeze()
    await way.lost()
    way.line.thaw()


async def half_closed(way: Way) -> None:
    """The peer's side ends while ours could still send."""
    before = way.losses()
    way.line.half_close()
    await wait_for(lambda: way.losses() > before, 30, "the end of the peer's side is noticed")


async def delayed(way: Way) -> None:
    """Everything comes, late: no connection is lost over it."""
    before = way.losses()
    way.line.delay_s = LATE_S
    await way.fresh()
    await way.meanwhile()
    way.line.delay_s = 0.0
    assert way.losses() == before


@dataclass(frozen=True)
class Episode:
    """One outage that is over."""

    name: str
    connection: str
    since: int
    until: int
    """ns: from before it began until new readings were stored."""
    seconds: float
    """To recover: from the way being open."""


@dataclass
class Report:
    """All outages of a journey, and the logs of those who published."""

    box: Box
    logs: Mapping[str, Callable[[], Mapping[str, Sequence[Entry]]]]
    """By connection."""
    episodes: list[Episode] = field(default_factory=list)

    async def tried(self, outage: Callable[[Way], Awaitable[None]], way: Way, *also: Way, name: str = "") -> None:
        """An outage, and how long it takes until new readings are stored of this way, and of those it also hits."""
        since = times.now()
        await outage(way)
        began = time.monotonic()
        for one in (way, *also):
            await one.fresh()
            seconds = time.monotonic() - began
            called = name or outage.__name__
            self.episodes += [Episode(called, each, since, times.now(), seconds) for each in one.names]

    def tell(self) -> None:
        """A line for each: what was sent of our tags, what is stored of it, gaps, seconds to recover."""
        logs = {name: log() for name, log in self.logs.items()}
        for one in self.episodes:
            kept, log = stored(self.box.engine, one.connection), logs[one.connection]
            sent = [entry for tag in kept for entry in log.get(tag, ()) if _during(one, entry)]
            there = [entry for entries in kept.values() for entry in entries if _during(one, entry)]
            told = gaps(self.box.engine, connection=one.connection)
            told = [gap for gap in told if one.since < gap.until < one.until]
            sys.stdout.write(
                f"\n{one.name:20} {one.connection:12} sent {len(sent):5} stored {len(there):5} gaps {len(told)} "
                f"{one.seconds:5.1f} s to recover"
            )
        sys.stdout.write("\n")


def true_time(entry: Entry) -> int:
    """When it was, whatever the clock of its server said (ns)."""
    away = entry[0] - times.now()
    jump = JUMP_S * times.NANOS
    return entry[0] - jump if away > jump // 2 else entry[0] + jump if away < -jump // 2 else entry[0]


def _during(episode: Episode, entry: Entry) -> bool:
    return episode.since <= true_time(entry) <= episode.until


def unsaid(
    engine: Engine,
    connection: str,
    log: Mapping[str, Sequence[Entry]],
    until: int,
    clock: Callable[[Entry], int] = true_time,
) -> list[tuple[str, Entry]]:
    """What was published up to `until` (ns), is not stored and of which nothing is said; `clock`: when an entry was.

    A gap says it, and so does the reading before or after the hole with the bit of an overflow: a server that keeps a
    session for us keeps no more than it is willing to.
    """
    spans = [(one.since - SLACK_NS, one.until) for one in gaps(engine, connection=connection)]
    missing = []
    for tag, entries in stored(engine, connection).items():
        kept, ordered = set(entries), sorted(entries)
        first = min(clock(entry) for entry in entries if entry[2] == 0)
        missing += [
            (tag, entry)
            for entry in log.get(tag, ())
            if first <= clock(entry) <= until
            and entry not in kept
            and not any(since <= clock(entry) <= end for since, end in spans)
            and not overflowed(ordered, entry)
        ]
    return missing


def overflowed(ordered: Sequence[Entry], lost: Entry) -> bool:
    """Whether the reading before or after one that is lost says that the server's queue has dropped some."""
    at = bisect_left(ordered, lost[0], key=itemgetter(0))
    beside = (*ordered[max(at - 1, 0) : at], *ordered[at : at + 1])
    return any(one[2] & OVERFLOW == OVERFLOW for one in beside)


async def invented(
    engine: Engine, connection: str, log: Callable[[], Mapping[str, Sequence[Entry]]]
) -> list[tuple[str, Entry]]:
    """Good readings that nobody has published, but for the 0 that a server begins with.

    The log is read after what is stored, again and again for some seconds: those who publish go on meanwhile, and write
    down what was confirmed only then.
    """
    kept = stored(engine, connection)

    def unknown() -> list[tuple[str, Entry]]:
        published = log()
        return [
            (tag, entry)
            for tag, entries in kept.items()
            for entry in set(entries) - set(published.get(tag, ()))
            if entry[2] == 0 and entry[1] != 0
        ]

    with suppress(TimeoutError):
        await wait_for(lambda: not unknown(), 10, "all of it is in the log")
    return unknown()
