"""The gaps of one connection, filled from what its peer has kept of the past, beside the reading of what is new."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from app import times
from app.backfill import service as backfill
from app.field.backoff import Backoff
from app.field.blocking import blocking
from app.field.holding import Alone
from app.field.repeats import marks_of, picked
from app.journal import JournalError
from app.journal.service import DatabaseError
from app.log import CONNECTION_FILLED, FILLING_FAILED, FILLING_PUT_OFF, get_logger
from app.readings import service as readings
from app.records import FillRecord, to_record
from connectors import Batch, ConnectorError, Historical, NotConnectedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from app.backfill.service import OpenGap
    from app.field.holding import Holding
    from app.journal import Position
    from app.places import Places
    from app.records import Record
    from app.sources.service import Connection
    from connectors import Past, Source

log = get_logger(__name__)
Answer = TypeVar("Answer")

SETTLE_S: Final = 2.0
"""After a connection was made: a historian writes down what it saw with some delay, and so do we."""
SLACK_NS: Final = times.NANOS
"""So much more is asked for at both ends of a gap: its times are of our clock, and of when something arrived."""
PAUSE_S: Final = 0.02
"""Between two requests, at least."""
SLICE_NS: Final = 60 * times.NANOS
SHORTEST_NS: Final = 10 * times.NANOS
LONGEST_NS: Final = 3600 * times.NANOS
"""A gap is filled slice by slice: what is in the database need not be asked for again after a restart."""
FEW, MANY = 5_000, 100_000
"""Readings of a slice below and above which the next one is twice as long, or half."""
MOST_TRIES: Final = 5
CLOSE_S: Final = 2.0
"""A peer that does not answer any more is not told that we stop."""
RETRY_CAP_S: Final = 60.0
MOST_LACKING: Final = 10_000
"""Tags without a past that are named in a record."""
FAILED: Final = "filling its gaps has failed: see `filling_failed` in the log; the next connection tries again"
SWITCHED_OFF: Final = (
    "reading the history is switched off: `backfill: false`, or `use_received_time`, whose stamps no history has"
)


@dataclass(frozen=True, slots=True)
class Means:
    """What the fillings of all connections share."""

    engine: Engine
    append: Callable[[Record], Awaitable[Position]]
    """The journal's."""
    head: Callable[[], Position]
    """The newest durable record."""
    applied: Callable[[Position], Awaitable[None]]
    """Waits until everything up to a record is in the database."""
    holding: Alone | Holding = field(default_factory=Alone)
    """The leases."""
    places: dict[int, Places] = field(default_factory=dict)
    """Of the tags of each connection, by its id."""


class Filling:
    """Of one connection. What it puts into the journal closes no window and is no sign of life."""

    def __init__(
        self, connection: Connection, means: Means, *, settle_s: float = SETTLE_S, cap_s: float = RETRY_CAP_S
    ) -> None:
        """Nothing is done before `begin`. `cap_s`: the longest wait after a try in vain."""
        self._connection = connection
        self._means = means
        self._settle_s = settle_s
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tries: dict[int, int] = {}
        self._retry = Backoff(cap_s)
        self.notes: tuple[str, ...] = ()
        """What an operator should see while it goes on."""

    def begin(self, source: Source) -> None:
        """It is connected: gaps that are still open are looked for."""
        self.look()
        name = self._connection.config.name
        self._task = asyncio.create_task(self._run(source), name=f"filling {name}")

    def rebind(self, connection: Connection) -> None:
        """The same connection reads other tags now: of gaps filled from now on."""
        self._connection = connection

    def look(self) -> None:
        """There is a new gap."""
        self._due.set()

    async def end(self) -> None:
        """The connection ends; what is open stays so. Safe to call twice."""
        task, self._task, self.notes = self._task, None, ()
        if task is not None:
            task.cancel()
            # Not awaited itself: its cancellation would hide one of ours.
            await asyncio.wait([task])

    async def _run(self, source: Source) -> None:
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                await asyncio.sleep(self._settle_s)
                await self._means.applied(self._means.head())
                for gap in await self._asked(backfill.open_gaps, self._means.engine, self._connection.id):
                    await self._fill(source, gap)
                    self.notes = ()
        except JournalError:
            # Whoever reads what is new meets it as well, and says so.
            return
        except Exception:
            # The outermost loop of filling: a fault in it must not stop the reading of what is new.
            log.exception(FILLING_FAILED, connection=self._connection.config.name)
            self.notes = (FAILED,)

    async def _asked(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Ask the database in a thread, until it answers; others say that it is away."""
        while True:
            try:
                return await blocking(question, *arguments)
            except DatabaseError:
                await asyncio.sleep(self._retry.next_s())

    async def _fill(self, source: Source, gap: OpenGap) -> None:
        """Fill it, or say why not."""
        if not isinstance(source, Historical):
            await self._close(gap, "none", f"{self._connection.connector} has no history to read from")
            return
        allowance = source.allowance
        if allowance is None:
            await self._close(gap, "none", SWITCHED_OFF)
            return
        start, oldest = gap.filled_until or gap.since, times.now() - allowance.reach_ns
        if oldest >= gap.until:
            await self._close(gap, "none", "it is longer ago than may be asked for: `backfill_hours`")
            return
        past = source.history()
        try:
            taken = await self._read(past, gap, max(start, oldest), allowance.readings_per_s)
        except NotConnectedError as error:
            await self._failed(gap, error)
        except ConnectorError as error:
            await self._close(gap, "partly" if gap.filled_until else "none", str(error))
        else:
            await self._done(past, gap, empty=not taken and not gap.filled_until, cut=start < oldest)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await past.close()

    async def _failed(self, gap: OpenGap, error: NotConnectedError) -> None:
        """Try again while the connection stands; a peer that breaks over its own history is left in peace."""
        tries = self._tries[gap.id] = self._tries.get(gap.id, 0) + 1
        if tries >= MOST_TRIES:
            await self._close(gap, "partly" if gap.filled_until else "none", f"given up after {tries} tries: {error}")
            return
        log.info(FILLING_PUT_OFF, connection=self._connection.config.name, reason=str(error), tries=tries)
        await asyncio.sleep(self._retry.next_s())
        self.look()

    async def _read(self, past: Past, gap: OpenGap, start: int, rate: int) -> int:
        """Slice by slice, the next one when the last is in the database; returns how many readings there were."""
        length, taken = SLICE_NS, 0
        while start < gap.until:
            end = min(start + length, gap.until)
            count = await self._slice(past, gap, (start, end), rate)
            taken += count
            if len(past.lacking) >= len(self._connection.config.tags):
                return taken
            done = (end - gap.since) / (gap.until - gap.since)
            self.notes = (f"filling the gap since {times.rfc3339(gap.since)}: {done:.0%}, {taken} readings",)
            if count < FEW:
                length = min(2 * length, LONGEST_NS)
            elif count > MANY:
                length = max(length // 2, SHORTEST_NS)
            start = end
            self._tries.pop(gap.id, None)
            self._retry.reset()
        return taken

    async def _slice(self, past: Past, gap: OpenGap, span: tuple[int, int], rate: int) -> int:
        """Journal what is not stored yet of a span, page by page; returns how many readings the peer was asked for."""
        start, end = span
        since = start - SLACK_NS if start == gap.since else start
        until = end + SLACK_NS if end == gap.until else end
        known = await self._asked(_known, self._means.engine, self._connection.id, since, until)
        last = np.empty(0, np.uint64)
        loop = asyncio.get_running_loop()
        began, taken = loop.time(), 0
        await past.begin(since, until)
        while (page := await past.read()) is not None:
            taken += len(page) + sum(one.readings for one in page.refused)
            # What is asked for again from the last value on comes with the next page.
            fresh, last = _fresh(page, known, last)
            if len(fresh) or fresh.refused:
                await self._append(fresh, FillRecord(gap.id))
            await asyncio.sleep(max(taken / rate - (loop.time() - began), PAUSE_S))
        await self._means.applied(await self._append(self._nothing(), FillRecord(gap.id, end)))
        return taken

    async def _done(self, past: Past, gap: OpenGap, *, empty: bool, cut: bool) -> None:
        lacking, tags = past.lacking, len(self._connection.config.tags)
        if len(lacking) >= tags and empty:
            why = next(iter(lacking.values()), "the connection has no tags")
            await self._close(gap, "none", why, tuple(lacking))
            return
        reasons = [f"{len(lacking)} of {tags} tags: {next(iter(lacking.values()))}"] if lacking else []
        reasons += ["its beginning is longer ago than may be asked for: `backfill_hours`"] if cut else []
        await self._close(gap, "partly" if reasons else "filled", "; ".join(reasons), tuple(lacking))

    async def _close(self, gap: OpenGap, end: str, reason: str, lacking: tuple[int, ...] = ()) -> None:
        fill = FillRecord(gap.id, 0, end, reason, lacking[:MOST_LACKING])
        await self._means.applied(await self._append(self._nothing(), fill))
        log.info(CONNECTION_FILLED, connection=self._connection.config.name, gap=gap.id, end=end, reason=reason)

    async def _append(self, batch: Batch, fill: FillRecord) -> Position:
        key = self._connection.id
        return await self._means.append(to_record(key, batch, fill=fill, places=self._means.places.get(key)))

    def _nothing(self) -> Batch:
        none, now = np.zeros(0, dtype=np.int64), times.now()
        return Batch(none, none, np.zeros(0), {}, none.astype(np.uint32), now, 0, self._connection.config.revision)


def _known(engine: Engine, connection: int, start: int, end: int) -> NDArray[np.uint64]:
    """Marks of what is stored of this span, sorted. Blocking."""
    found = [marks_of(*one.columns) for one in readings.between(engine, [connection], start, end)]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def _fresh(page: Batch, *known: NDArray[np.uint64]) -> tuple[Batch, NDArray[np.uint64]]:
    """What of a page is not known, each reading once, and the page's own marks; marks are sorted."""
    marks, first = np.unique(
        marks_of(page.tags, page.source_time, page.values, page.others, page.status), return_index=True
    )
    is_new = np.ones(len(marks), dtype=np.bool_)
    for some in known:
        if len(some):
            is_new &= some[np.minimum(some.searchsorted(marks), len(some) - 1)] != marks
    new = np.zeros(len(page), dtype=np.bool_)
    new[first[is_new]] = True
    return (page if new.all() else picked(page, new)), marks
