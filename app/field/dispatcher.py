"""Journal records, with the windows they closed, to the workers: in order, at most so many at a time, until applied."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from app import times
from app.field.blocking import blocking
from app.field.flight import Flight, is_applied
from app.field.lane import MOST_AHEAD, MOST_LANES, SHARE, Lane, matters, newest_first, target, versions_of
from app.field.outage import Outage
from app.field.routing import Router
from app.field.sending import Sending
from app.journal import Position
from app.journal import service as applied
from app.journal.service import DatabaseError, Progress
from app.log import (
    CATCHING_UP,
    DATABASE_BACK,
    DATABASE_LOST,
    JOURNAL_MISSING,
    PIPELINE_UNUSABLE,
    get_logger,
)
from app.messages import VERSION, Message, encoded
from app.pipelines import service as pipelines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sqlalchemy import Engine

    from app.field.windowing import Windowing
    from app.journal import Entry, Journal
    from app.journal.room import Span
    from app.pipelines.service import Version
    from app.queue import Door

log = get_logger(__name__)
Result = TypeVar("Result")

POLL_S: Final = 0.1
CALM_POLL_S: Final = 0.25
"""How often the database is asked what is applied while something is under way: when it holds us up, and else."""
ADVANCE_S: Final = 1.0
"""How often the watermark is raised, and the queue asked whether it has kept its memory."""
IDLE_ADVANCE_S: Final = 10.0
"""The same while only ticks, which are never sent, wait for it."""
RECORDS: Final = 64
"""Read at a time."""


class Dispatcher:
    """Reads the journal behind its head, cuts windows, sends, and watches what becomes of it."""

    def __init__(
        self,
        journal: Journal,
        windowing: Windowing,
        engine: Engine,
        door: Door,
        *,
        queue: str | None,
        batches: int,
        resend_after_s: float,
    ) -> None:
        """Call `prepare`, start the windowing, then `run`. `queue`: the only one, whatever devices workers have."""
        self._journal = journal
        self._newest = Lane(windowing)
        self._backlog: list[Lane] = []
        """What was passed over, in the order of the journal."""
        self._engine = engine
        self._flight = Flight(batches, resend_after_s)
        self._sending = Sending(
            door, self._flight, Router(queue), journal.id, lambda position: is_applied(position, self.progress)
        )
        self._database = Outage(DATABASE_LOST, DATABASE_BACK)
        self._skipped: dict[int, set[int]] = {}
        self._gapped: dict[Position, int] = {}
        """Records under way whose readings were dropped, and of which connection: once applied there is a gap."""
        self._advanced_at = 0.0
        self._moved = asyncio.Event()
        self.reading = asyncio.Lock()
        """Held while records are read to be sent: whoever drops some holds it meanwhile."""
        self.on_gap: Callable[[Collection[int]], None] = lambda _: None
        """Told of connections of which the database has a new gap."""
        self._was_away = False
        """Whether the database was, since it was last looked what that has cost."""
        self.progress = Progress({}, {})
        """What the database last said."""
        self.known: dict[int, Version] = {}
        """Every version that was ever looked up."""

    def epochs(self) -> list[int]:
        """Those on disk, and the one that is written."""
        return sorted({self._journal.epoch, *(epoch for epoch, _, _ in self._journal.epochs())})

    async def prepare(self) -> None:
        """Wait for the database; make a watermark for this epoch, and learn what is applied."""
        epochs = self.epochs()
        await self._ask(lambda: applied.begin_epochs(self._engine, self._journal.id, epochs))
        await self._look()
        for epoch in epochs:
            found = await blocking(self._journal.missing, epoch, self._mark_of(epoch))
            if found is not None:
                await self._miss(*found)

    async def _miss(self, begins: Position, before: Mapping[int, int]) -> None:
        """What the database has not before this place is on no disk any more: tell it, or the watermark stays there."""
        mark, at = self._mark_of(begins.epoch), await blocking(self._received_after, begins)
        ask = partial(applied.absent, self._engine, self._journal.id, mark, begins, before, at)
        self._journal.miss(await self._ask(ask))
        log.error(JOURNAL_MISSING, epoch=begins.epoch, first=mark + 1, last=begins.number - 1)

    def _received_after(self, begins: Position) -> int:
        """ns: when the first record from there on that can be read was received; now if there is none."""
        entries = self._journal.read_after(begins._replace(number=begins.number - 1))
        return next((one.record.received_time for one in entries if one.record is not None), times.now())

    def safe(self) -> Position:
        """Everything up to this record is applied, for good."""
        for epoch, first, last in self._journal.epochs():
            mark = self._mark_of(epoch)
            if mark < last:
                return Position(epoch, max(mark, first - 1))
        return self._journal.head

    def unsent(self) -> list[Span]:
        """After which record, and up to which one, none was sent, nor read to be sent; empty while that cannot be said.

        It can once we are held up: an earlier process was held up by the same records, so that what it had sent has
        been sent again.
        """
        held_up = self._flight.was_full or self._sending.away or self._database.away
        if not held_up or self._newest.taken is None:
            return []
        safe, lanes = self.safe(), sorted(self._backlog, key=lambda one: one.position)
        return [(max(one.taken or safe, safe), one.end) for one in (*lanes, self._newest)]

    def undecided(self) -> bool:
        """Whether something was dropped that is not counted in the database yet."""
        marks = self.progress.watermarks
        return any(stub.last > marks.get(stub.epoch, 0) for stub in self._journal.dropped())

    async def learn(self, versions: tuple[int, ...]) -> None:
        """Look up versions that are not known yet."""
        missing = set(versions) - set(self.known)
        if not missing:
            return
        found, unusable = await self._ask(lambda: pipelines.versions(self._engine, missing))
        self.known.update(found)
        for one in unusable:
            log.error(PIPELINE_UNUSABLE, pipeline=one.pipeline, version=one.id, reason=one.reason)

    async def run(self) -> None:
        """For ever. Cancelling it loses nothing: what was not applied is sent again by the next process."""
        await self._sending.follow()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump())
            group.create_task(self._watch())

    def busy(self) -> bool:
        """Whether answers of the workers are expected."""
        return len(self._flight) > 0

    @property
    def marked(self) -> bool:
        """Whether a loss of the queue's memory would be noticed."""
        return self._sending.marked

    async def applied(self, position: Position) -> None:
        """Wait until everything up to this record is applied, for good."""
        # The database is asked elsewhere, and rings no bell.
        while self.safe() < position:  # noqa: ASYNC110
            await asyncio.sleep(CALM_POLL_S)

    async def drained(self, timeout_s: float) -> None:
        """Wait until every durable record was sent, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._newest.windowing.position != self._journal.head:
                    self._moved.clear()
                    await self._moved.wait()

    async def landed(self, timeout_s: float) -> None:
        """Wait until whatever was sent is applied, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                # The database is asked elsewhere, and rings no bell.
                while self.busy():  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """Let go of the thread that talks to the queue; call after `run` has ended."""
        await self._sending.close()

    async def _pump(self) -> None:
        while True:
            lane = await self._next()
            async with self.reading:
                most = min(RECORDS, max(1, self._flight.limit // (1 if lane.end is None else SHARE)))
                entries = await blocking(partial(self._journal.read_after, lane.position, records=most))
                entries = [one for one in entries if lane.end is None or one.position <= lane.end]
                lane.taken = entries[-1].position if entries else lane.position
            for entry in entries:
                await self._forward(lane, entry)
                # A long replay must not keep the field waiting.
                await asyncio.sleep(0)
                self._moved.set()
            if lane.end is not None and (not entries or lane.position >= lane.end):
                self._backlog.remove(lane)

    async def _next(self) -> Lane:
        """The newest records, as long as there are some; else what waits behind them."""
        ahead = sum(map(len, self.progress.applied.values())) > MOST_AHEAD
        if self._backlog and (ahead or self._newest.position >= self._journal.head):
            return self._backlog[0 if ahead else -1]
        await self._journal.grown_beyond(self._newest.position)
        await self._pass_over()
        return self._newest

    async def _pass_over(self) -> None:
        """Where too much is behind, and all pipelines may be answered in any order: go to the newest, come back later.

        What is passed over is cut twice, now and when its turn has come: windows are a pure function of the journal.
        """
        end = target(self._journal, self._newest.position, self._flight.limit)
        may = newest_first(self._newest.windowing.versions, self.known) and len(self._backlog) < MOST_LANES
        if end is None or not may or self._newest.hole is not None:
            return
        behind = self._newest.behind()
        behind.end = self._newest.taken = end
        self._backlog.append(behind)
        log.info(CATCHING_UP, records=self._journal.waiting(self._newest.position), order="newest_first")
        while self._newest.position < end:
            async with self.reading:
                entries = await blocking(self._journal.read_after, self._newest.position)
            for entry in entries:
                if entry.position > end or not await self._passed(entry):
                    behind.end = self._newest.taken = self._newest.position
                    if behind.end == behind.position:
                        self._backlog.remove(behind)
                    return
                await asyncio.sleep(0)

    async def _passed(self, entry: Entry) -> bool:
        """Whether the newest lane went past this record; it does not past pipelines that go in order."""
        versions = versions_of(entry)
        if versions is not None:
            await self.learn(versions)
            if not newest_first(versions, self.known):
                return False
        self._newest.feed(entry, self.known, self._mark_of(entry.position.epoch))
        return True

    async def _forward(self, lane: Lane, entry: Entry) -> None:
        await self.learn(versions_of(entry) or ())
        windows = lane.feed(entry, self.known, self._mark_of(entry.position.epoch))
        if entry.remains is not None:
            return
        if is_applied(entry.position, self.progress):
            if lane.hole is not None:
                # The record that damage took may have closed them. Those that are stored already stay as they are.
                lane.owed += windows
            return
        windows, lane.owed = [*lane.owed, *windows], []
        if entry.record is None or not matters(entry.record, windows):
            self._skipped.setdefault(entry.position.epoch, set()).add(entry.position.number)
            return
        record, term = entry.record, lane.windowing.term(entry.record.connection)
        message = encoded(Message(VERSION, self._journal.id, *entry.position, record, tuple(windows), term))
        await self._flight.room(len(message), 1 if lane.end is None else SHARE)
        orders = tuple(self.known[one.version_id].spec.devices for one in windows if one.version_id in self.known)
        await self._sending.send(entry.position, message, orders)
        if entry.record.dropped is not None:
            self._gapped[entry.position] = entry.record.connection

    def _mark_of(self, epoch: int) -> int:
        return self.progress.watermarks.get(epoch, 0)

    async def _watch(self) -> None:
        while True:
            # What is applied ahead of others is asked for each time: the more it is, the less often.
            ahead = 1 + sum(map(len, self.progress.applied.values())) // 1000
            await asyncio.sleep(ahead * (POLL_S if self._flight.crowded else CALM_POLL_S))
            if self._flight:
                await self._look()
            if self._was_away:
                self._was_away = False
                await self._sending.database_back()
            now = time.monotonic()
            if self._advance_is_due(now):
                self._advanced_at = now
                await self._advance()
                await self._sending.check_mark()
            await self._sending.follow()
            await self._sending.chase()

    def _advance_is_due(self, now: float) -> bool:
        busy = self._flight or any(self.progress.applied.values()) or self.undecided()
        return now - self._advanced_at >= (ADVANCE_S if busy else IDLE_ADVANCE_S)

    async def _look(self) -> None:
        epochs = self.epochs()
        self.progress = await self._ask(lambda: applied.progress(self._engine, self._journal.id, epochs))
        self._flight.land(self.progress, time.monotonic())
        landed = {at: key for at, key in self._gapped.items() if is_applied(at, self.progress)}
        if landed:
            self._gapped = {at: key for at, key in self._gapped.items() if at not in landed}
            self.on_gap(set(landed.values()))

    async def _advance(self) -> None:
        """Raise the watermarks over what is applied and what was never sent."""
        for epoch in self.epochs():
            skipped = self._skipped.get(epoch, set())
            if not skipped and not self.progress.applied.get(epoch):
                continue
            work = frozenset(skipped)
            mark = await self._ask(partial(applied.advance, self._engine, self._journal.id, epoch, work))
            self._skipped[epoch] = {number for number in skipped if number > mark}
        await self._look()
        await self._decide()

    async def _decide(self) -> None:
        """Have the database count what was dropped, once all before it is applied."""
        for stub in self._journal.dropped():
            mark = self._mark_of(stub.epoch)
            if stub.last <= mark or mark < stub.first - 1 or await blocking(self._journal.seal, stub) is None:
                continue
            counted = await self._ask(partial(applied.claim, self._engine, self._journal.id, stub))
            await self._look()
            if counted:
                self.on_gap(counted.keys())

    async def _ask(self, question: Callable[[], Result]) -> Result:
        """Ask the database in a thread, until it answers."""
        while True:
            try:
                answer = await blocking(question)
            except DatabaseError as error:
                await self._database.wait(error)
            else:
                self._was_away |= self._database.away
                self._database.over()
                return answer
