"""Makes room in a journal: the oldest segment is dropped whole, or the readings of some connections from inside it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from app.durable import replace as replace_file
from app.durable import sync_folder, write_all
from app.journal import remains as dropping
from app.journal.frames import DamagedError, Kind, Position, entry, frame, parse, places, record_payload
from app.journal.segment import Segment, totals_frame
from app.records import DroppedRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from app.journal.frames import Meta
    from app.journal.index import Index
    from app.journal.remains import Keeper, Remains
    from app.records import Record

    MakeKeeper: TypeAlias = Callable[[bytes], Keeper]
    Span: TypeAlias = tuple[Position, Position | None]
    """After, and up to: what nobody has read to send it."""

THIN: Final = ".thin"
"""A segment that is being written anew; one that is found when the journal is opened was never finished."""


def nothing_kept(_: bytes) -> Keeper:
    """Where nobody asks what was in force."""
    return dropping.NothingKept()


def drop_oldest(
    index: Index, epoch: int, span: Span, reason: str, keeper: MakeKeeper
) -> tuple[Remains, int] | None:
    """See `Journal.drop`; what remains, and how many readings went. `epoch`: the one that is written."""
    segment = next(index.droppable(*span), None)
    if segment is None:
        return None
    stub = index.before(segment)
    if stub is not None and (stub.sealed or Position(stub.epoch, stub.first) <= span[0]):
        stub = None
    grown = None if stub is None else stub.path
    earlier = None if grown is None else dropping.read(grown)
    made = dropping.remains_of(
        segment, keeper(earlier.kept if earlier else b""), reason, earlier=earlier, exact=segment.epoch < epoch
    )
    path = segment.path.with_suffix(dropping.SUFFIX)
    try:
        replace_file(path, dropping.encode(made))
    except OSError:
        # Once the name is there the next process will believe it, and so must this one.
        if not path.exists():
            raise
    fresh = dropping.load_stub(path)
    fresh.sealed = bool(made.rows)
    index.put(segment, stub, fresh)
    for gone in (segment.path, *(() if grown is None else (grown,))):
        gone.unlink(missing_ok=True)
    return made, sum(segment.readings) - segment.thinned


def thin_oldest(
    index: Index, span: Span, reason: str, rank: Callable[[int], int], keeper: MakeKeeper
) -> int | None:
    """See `Journal.thin`."""
    there = [(one, {key: rank(key) for key in one.thick()}) for one in index.droppable(*span)]
    ranks = {of for _, ranked in there for of in ranked.values()}
    if not ranks or (lowest := min(ranks)) == max(ranks):
        return None
    segment, ranked = next((one, ranked) for one, ranked in there if lowest in ranked.values())
    mine = frozenset(key for key, of in ranked.items() if of == lowest)
    with segment.path.open("rb") as file:
        dropped = _to_drop(segment, file.fileno(), mine, keeper)
        if not dropped:
            segment.tried |= mine
            return 0
        made = _without(segment, file.fileno(), dropped, reason)
    made.tried = segment.tried | mine
    index.swap(segment, made)
    return made.thinned - segment.thinned


@dataclass(slots=True)
class _Dropped:
    """The records of one connection that are dropped from a segment, in order."""

    keeper: Keeper
    last: int = 0
    """Number of the last of them: it tells what is in force after all of them."""
    until: int = 0
    """ns: its last sign of life."""
    before: int | None = None
    """ns: the last sign of life of the one before."""

    def hear(self, number: int, record: Record) -> None:
        """The next of them."""
        self.keeper.hear(record)
        self.last, self.until = number, max(self.until, record.alive)

    def slim(self, number: int, record: Record, reason: str) -> Record:
        """The same record without its readings; asked for each of them, in order."""
        since = max(min(record.first_time, record.received_time), record.received_time - dropping.BEFORE_NS)
        is_first, is_last = self.before is None, number == self.last
        since, self.before = since if self.before is None else min(since, self.before), record.alive
        dropped = DroppedRecord(
            reason, record.count, since,
            until=self.until if is_first or is_last else 0,
            kept=self.keeper.kept() if is_last else b"",
        )  # fmt: skip
        return msgspec.structs.replace(record, count=0, columns=b"", dropped=dropped)


def _to_drop(segment: Segment, fd: int, mine: Collection[int], keeper: MakeKeeper) -> dict[int, _Dropped]:
    """Whose readings go, by connection. Raises OSError."""
    found: dict[int, _Dropped] = {}
    for i, connection in enumerate(segment.connection):
        if segment.kind[i] == Kind.RECORD and connection in mine:
            record = _thick(os.pread(fd, segment.length[i], segment.offset[i]))
            if record is not None:
                found.setdefault(connection, _Dropped(keeper(b""))).hear(segment.first + i, record)
    return found


def _thick(data: bytes) -> Record | None:
    """The record in a frame if it has readings that can go; what was read from a history stays, to end its gap."""
    with suppress(DamagedError):
        record = entry(data).record
        return record if record is not None and record.count and record.fill is None else None
    return None


def _without(segment: Segment, fd: int, dropped: dict[int, _Dropped], reason: str) -> Segment:
    """Write a segment anew without these readings, durably, in its own place. Raises OSError: it is as it was.

    Each record stays, with its number and all that it has beside readings: it is sent like any other, and the
    transaction that applies it counts what went. So there is no moment at which half of this is done.
    """
    made = Segment(segment.path, segment.epoch, segment.first, segment.before)
    made.newest, made.thinned = segment.newest, segment.thinned
    with _anew(segment.path) as write:
        made.size = write(totals_frame(Position(segment.epoch, segment.first), segment.before))
        for data in _frames(segment, fd):
            meta, _ = parse(memoryview(data), 0)
            if meta.kind == Kind.TOTALS:
                made.counts.extend((meta.position.number, made.size, len(data)))
                made.size += write(data)
                continue
            content = data
            record = _thick(data) if meta.connection in dropped else None
            if record is not None:
                made.thinned += record.count
                content = _slim(meta, record, dropped[meta.connection], reason)
            made.add(replace(meta, places=places(memoryview(data), 0, len(data))), made.size, len(content))
            made.size += write(content)
    made.group = segment.group
    return made


def _slim(meta: Meta, record: Record, of: _Dropped, reason: str) -> bytes:
    return frame(meta, record_payload(of.slim(meta.position.number, record, reason)))


def _frames(segment: Segment, fd: int) -> Iterator[bytes]:
    """Its records and the running counts between them, as they stand on disk. Raises DamagedError, OSError."""
    counts = {segment.counts[i] + 1: segment.counts[i + 1 : i + 3] for i in range(0, len(segment.counts), 3)}
    for i in range(len(segment.kind)):
        if segment.first + i in counts:
            offset, length = counts[segment.first + i]
            yield os.pread(fd, length, offset)
        yield os.pread(fd, segment.length[i], segment.offset[i])


@contextmanager
def _anew(path: Path) -> Iterator[Callable[[bytes], int]]:
    """Write a file that takes the place of this one once all of it is durable. Raises OSError: the old one stays."""
    beside = path.with_suffix(THIN)
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        yield lambda data: write_all(fd, data)
        os.fsync(fd)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    # The name is there for us. If it is not for the next process, that has all of the readings again: those that are
    # decided in the database stay so.
    with suppress(OSError):
        sync_folder(path.parent)
