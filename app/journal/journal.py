"""The journal: records are durable when `append` returns, keep their order, and can be read back until released."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from app.durable import make_folder
from app.journal.frames import Entry, Kind, Meta, Position, frame, record_payload, switch_payload
from app.journal.index import Held, Index, load
from app.journal.room import drop_oldest, nothing_kept, thin_oldest
from app.journal.segment import TornError, Writing, totals_frame
from app.journal.store import JournalError, explain, lock, next_identity
from app.log import JOURNAL_WRITER_FAILED, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from app.journal.remains import Remains, Stub
    from app.journal.room import MakeKeeper
    from app.journal.segment import Sync
    from app.records import Leased, Record

log = get_logger(__name__)

SEGMENT_BYTES: Final = 64 * 2**20
SMALLEST_SEGMENT: Final = 2**20
RETRY_S: Final = 1.0
"""How long a stopped journal waits before it tries the disk again."""
COUNTS_S: Final = 10.0
"""So often the running counts are written: what damage takes of a connection that falls silent is known by them."""
GROUP_BYTES: Final = 16 * 2**20
"""One write is no larger than this, unless a single record is."""


@dataclass(frozen=True, slots=True)
class JournalState:
    """How a journal stands."""

    state: str
    """`running`, `stopped` (nothing is acknowledged; it goes on by itself), `closed`."""
    reason: str
    bytes: int
    segments: int
    head: Position
    """The newest durable record."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    meta: Meta
    payload: bytes
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Journal:
    """One gateway's journal. `append` belongs to one event loop; everything else may be called from any thread."""

    def __init__(
        self, folder: Path, name: str, *, commit_interval_s: float, budget: int, sync: Sync = os.fdatasync,
        segment_s: float = math.inf, counts_s: float = COUNTS_S,
    ) -> None:  # fmt: skip
        """Open, and begin an epoch. Blocking: reads every segment. Raises JournalError, JournalBusyError, OSError.

        `budget`: bytes on disk at most; when they are used up the journal is stopped until segments are released.
        `sync`: makes what was written to a descriptor durable. `segment_s`: a new segment begins after so long.
        `counts_s`: so often the running counts are written between records.
        """
        make_folder(folder)
        self._folder = folder
        self._interval = commit_interval_s
        self._budget = budget
        self._sync = sync
        self._segment_bytes = max(SMALLEST_SEGMENT, min(SEGMENT_BYTES, budget // 16))
        self._segment_s, self._counts_s = segment_s, counts_s
        self._begun_at = self._counted_at = 0.0
        self._dropping = threading.Lock()
        self._lock_fd = lock(folder)
        try:
            self._index: Index = load(folder, sync)
            identity = next_identity(folder, name, self._index.newest_epoch)
        except BaseException:
            os.close(self._lock_fd)
            raise
        self.id = identity.journal
        """Names this journal in the database, for ever."""
        self.epoch = identity.epoch
        self.damaged: Mapping[int, int] = dict(self._index.damaged)
        """Per connection, readings that were durable once and that damage to the disk took."""
        self._totals = dict(self._index.totals)
        self._next = 1
        self._serial = 1
        self._writing: Writing | None = None
        self._waiting: list[_Waiting] = []
        self._condition = threading.Condition()
        self._in_work: list[_Waiting] = []
        self._closing = False
        self.dropped_readings = 0
        """Since it was opened."""
        self._reason = ""
        self._full = False
        """Whether it stands still for want of room."""
        self._grown = asyncio.Event()
        self._index.open_epoch(self.epoch)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def append(self, record: Record) -> Position:
        """Return when the record is durable; waits while the journal is stopped. JournalError when it is closed."""
        payload = record_payload(record)
        return await self._enqueue(Kind.RECORD, record.connection, record.readings(), payload, record.places)

    async def switch(self, versions: Sequence[int], leased: Leased | None = None) -> Position:
        """Make durable that windows of these pipeline versions, and no others, are cut from the next record on.

        `leased`: under which leases, where several gateways share a database.
        """
        return await self._enqueue(Kind.SWITCH, 0, 0, switch_payload(versions, leased))

    async def _enqueue(
        self, kind: Kind, connection: int, readings: int, payload: bytes, places: tuple[tuple[int, int], ...] = ()
    ) -> Position:
        loop = asyncio.get_running_loop()
        with self._condition:
            if self._closing:
                message = "the journal is closed"
                raise JournalError(message)
            position = Position(self.epoch, self._next)
            self._next += 1
            total = self._totals.get(connection, 0) + readings
            self._totals[connection] = total
            meta = Meta(kind, position, connection, total, readings, places=places)
            one = _Waiting(meta, payload, loop.create_future(), loop)
            self._waiting.append(one)
            self._condition.notify()
        await one.done
        return position

    def _run(self) -> None:
        """The writer's thread. What is no error of the disk is a fault of ours: after it nothing is acknowledged."""
        try:
            self._write_groups()
        except Exception as error:
            log.exception(JOURNAL_WRITER_FAILED)
            with self._condition:
                self._closing = True
                self._reason = f"{type(error).__name__}: {error}"
                self._give_up([*self._in_work, *self._waiting])

    def _write_groups(self) -> None:
        """One group after the other, at most one every commit interval."""
        earliest = 0.0
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing)
                self._condition.wait_for(lambda: self._closing, max(0.0, earliest - time.monotonic()))
                if not self._waiting:
                    break
                self._in_work = group = self._take_group()
            earliest = time.monotonic() + self._interval
            if not self._persist(group):
                break
        if self._writing is not None:
            self._writing.close()

    def _take_group(self) -> list[_Waiting]:
        size = 0
        for i, one in enumerate(self._waiting):
            size += len(one.payload)
            if size > GROUP_BYTES and i:
                group, self._waiting = self._waiting[:i], self._waiting[i:]
                return group
        group, self._waiting = self._waiting, []
        return group

    def _persist(self, group: list[_Waiting]) -> bool:
        """Try until it is on disk; False when the journal was closed before that."""
        while True:
            try:
                self._commit(group)
            except OSError as error:
                with self._condition:
                    self._reason, self._full = explain(error), error.errno in {errno.ENOSPC, errno.EDQUOT}
                    if self._closing:
                        self._give_up([*group, *self._waiting])
                        return False
                    self._condition.wait(RETRY_S)
                continue
            self._reason, self._full = "", False
            _settle(group, None, self._grown)
            return True

    def _give_up(self, waiting: list[_Waiting]) -> None:
        _settle(waiting, JournalError(f"the journal was closed while it was stopped: {self._reason}"), self._grown)

    def _commit(self, group: list[_Waiting]) -> None:
        """One write and one fsync. Raises OSError; what was durable before stays so."""
        metas = [replace(one.meta, since=i) for i, one in enumerate(group)]
        chunks = [frame(meta, one.payload) for meta, one in zip(metas, group, strict=True)]
        size = sum(map(len, chunks))
        if self._index.bytes() + size > self._budget:
            raise OSError(errno.EDQUOT, f"the journal's budget of {self._budget // 2**20} MB is used up")
        writing = self._segment_for(metas[0].position)
        lead = self._counts_before(metas[0].position)
        try:
            offset = writing.append([*lead, *chunks])
        except TornError:
            writing.close()
            self._writing = None
            self._index.abandon(writing.segment)
            raise
        self._index.extend(writing.segment, metas, [*map(len, chunks)], offset, lead=sum(map(len, lead)))

    def _segment_for(self, first: Position) -> Writing:
        """The open segment, or a new one when it is full. Raises OSError."""
        fresh = time.monotonic() - self._begun_at < self._segment_s
        if self._writing is not None and fresh and self._writing.segment.size < self._segment_bytes:
            return self._writing
        made = Writing(self._folder, self._serial, first, self._index.totals, self._sync)
        self._serial += 1
        if self._writing is not None:
            self._writing.close()
        self._writing = made
        self._begun_at = self._counted_at = time.monotonic()
        self._index.begin(made.segment)
        return made

    def _counts_before(self, first: Position) -> list[bytes]:
        """The running counts as a frame, when they are due."""
        if time.monotonic() - self._counted_at < self._counts_s:
            return []
        self._counted_at = time.monotonic()
        return [totals_frame(first, self._index.totals)]

    async def grown_beyond(self, position: Position) -> None:
        """Wait until a record after this position is durable."""
        while self.head <= position:
            self._grown.clear()
            if self.head <= position:
                await self._grown.wait()

    def waiting(self, position: Position) -> int:
        """How many durable records come after this one, dropped ones included."""
        return self._index.waiting(position)

    def read_after(self, position: Position, *, records: int = 64, size: int = 8 * 2**20) -> list[Entry]:
        """The next durable records in order, at most so many and about so many bytes; empty at the head. Blocking.

        Raises DamagedError when the disk gives back other bytes than were written; OSError.
        """
        return self._index.read_after(position, records, size)

    def release(self, position: Position) -> int:
        """Delete files whose records all lie at or before this position; returns how many. Blocking."""
        gone = self._index.release(position)
        for path in gone:
            path.unlink(missing_ok=True)
        if gone:
            with self._condition:
                self._condition.notify()
        return len(gone)

    @property
    def crowded(self) -> bool:
        """Whether less than two segments are left of the budget, or the disk has no room."""
        return self._full or self._index.bytes() > self._budget - 2 * self._segment_bytes

    @property
    def roomy(self) -> bool:
        """Whether a quarter of the budget is free."""
        return not self._full and 4 * self._index.bytes() <= 3 * self._budget

    def age_ns(self, beyond: Position, now: int, until: Position | None = None) -> int:
        """How long ago the newest record of the oldest segment that could be dropped was received; 0 without one.

        `beyond`, `until`: as in `drop`; `now` in ns. Blocking. Raises OSError.
        """
        segment = next(self._index.droppable(beyond, until), None)
        if segment is None:
            return 0
        if not segment.newest:
            segment.newest = segment.received()
        return max(0, now - segment.newest)

    def drop(
        self, beyond: Position, reason: str, keeper: MakeKeeper = nothing_kept, until: Position | None = None
    ) -> Remains | None:
        """Drop the oldest segment that begins after this position; what remains of it, None when there is none.

        Nothing at or before `beyond` may be read or sent meanwhile, nothing after it and up to `until` may have been
        sent by this process. `keeper`: made from what was kept of the records before. Blocking: reads the segment.
        Raises OSError: nothing was dropped; DamagedError.
        """
        with self._dropping:
            found = None if self._closing else drop_oldest(self._index, self.epoch, (beyond, until), reason, keeper)
            if found is None:
                return None
            made, readings = found
            self.dropped_readings += readings
        with self._condition:
            self._condition.notify()
        return made

    def thin(
        self, beyond: Position, reason: str, rank: Callable[[int], int], keeper: MakeKeeper = nothing_kept,
        until: Position | None = None,
    ) -> int | None:  # fmt: skip
        """Drop the readings of the lowest rank from the oldest segment after this position that has some.

        How many went; None when all that is left there has one rank: then `drop` is as good. `rank`: of a connection,
        the lowest goes first. Else as `drop`.
        """
        with self._dropping:
            readings = None if self._closing else thin_oldest(self._index, (beyond, until), reason, rank, keeper)
            self.dropped_readings += readings or 0
        with self._condition:
            self._condition.notify()
        return readings

    def missing(self, epoch: int, applied: int) -> tuple[Position, Mapping[int, int]] | None:
        """Where an epoch begins on disk, and the running counts there, if records after `applied` lie before that."""
        return self._index.missing(epoch, applied)

    def miss(self, stub: Stub) -> None:
        """Tell them like records that were dropped."""
        self._index.miss(stub)

    def dropped(self) -> list[Stub]:
        """Where records were dropped, in order, as far as it was not released."""
        return self._index.stubs()

    def seal(self, stub: Stub) -> Stub | None:
        """Let it grow no more, before the database is asked about it; None when it has grown into another one."""
        with self._dropping:
            stub.sealed = True
            return stub if stub in self._index.stubs() else None

    def held(self, watermarks: Mapping[int, int], applied: Mapping[int, Collection[int]]) -> Held:
        """Count, record by record, what is not applied, and the readings taken so far, at one head position."""
        return self._index.held(watermarks, applied)

    def epochs(self) -> list[tuple[int, int, int]]:
        """Every epoch with records on disk: epoch, first number, last number."""
        return self._index.epochs()

    @property
    def first(self) -> Position:
        """The position before the oldest record that can be read."""
        return self._index.before_first()

    @property
    def head(self) -> Position:
        """The newest durable record."""
        return self._index.head

    @property
    def state(self) -> JournalState:
        """How it stands."""
        state = "closed" if self._closing else "stopped" if self._reason else "running"
        return JournalState(state, self._reason, self._index.bytes(), self._index.count(), self.head)

    def close(self) -> None:
        """Write what waits, stop the writer, let go of the folder. Blocking. Safe to call twice."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()
        with self._dropping, self._condition:
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
            self._lock_fd = -1


def _settle(group: Sequence[_Waiting], error: JournalError | None, grown: asyncio.Event) -> None:
    """Tell those who wait, in one step of their loop. A loop that is gone has nobody waiting."""

    def tell() -> None:
        for one in group:
            if one.done.done():
                continue
            if error is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(error)
        grown.set()

    if group:
        with suppress(RuntimeError):
            group[0].loop.call_soon_threadsafe(tell)
