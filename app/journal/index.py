"""What lies in a journal, in memory: its segments in order, their records, and the readings taken so far."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from app.durable import sync_folder
from app.journal.damage import tell
from app.journal.frames import DamagedError, Entry, Kind, Meta, Position
from app.journal.remains import SUFFIX as REMAINS
from app.journal.remains import Stub, by_place, load_stub, read, serial_of
from app.journal.room import THIN
from app.journal.segment import SUFFIX, Segment, scan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from app.journal.segment import Sync


@dataclass(frozen=True, slots=True)
class Held:
    """What a scan of the journal found, at one head position."""

    head: Position
    read: Mapping[int, int]
    """Per connection, readings taken from the field up to `head`, refused ones included."""
    readings: Mapping[int, int]
    """Per connection, readings in records that are not applied, counted one by one."""
    places: Mapping[int, int]
    """The same per place of the ledger, of those that have one."""
    records: int
    """Records that are not applied."""
    segments: int
    bytes: int


@dataclass(slots=True)
class Index:
    """Guarded by one lock: the writer's thread adds, the gateway reads and releases."""

    segments: list[Segment | Stub]
    """In order; a stub stands where segments were dropped or damage took records, also inside a file."""
    totals: dict[int, int]
    """Per connection, readings up to the head."""
    damaged: Mapping[int, int]
    head: Position
    _size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """What the segments take on disk."""
        self._size = sum(segment.size for segment in self.segments)

    @property
    def newest_epoch(self) -> int:
        """0 when there is no segment."""
        return max((segment.epoch for segment in self.segments), default=0)

    def open_epoch(self, epoch: int) -> None:
        """Nothing is written in this epoch yet."""
        self.head = Position(epoch, 0)

    def begin(self, segment: Segment) -> None:
        """A segment was created."""
        with self._lock:
            self.segments.append(segment)
            self._size += segment.size

    def extend(
        self, segment: Segment, metas: Sequence[Meta], lengths: Sequence[int], offset: int, *, lead: int
    ) -> None:
        """A group became durable in the newest segment, from this offset on, behind `lead` bytes of running counts."""
        offset += lead
        with self._lock:
            for meta, length in zip(metas, lengths, strict=True):
                segment.add(meta, offset, length)
                offset += length
                self.totals[meta.connection] = meta.read_total
            self._size += lead + sum(lengths)
            self.head = metas[-1].position

    def abandon(self, segment: Segment) -> None:
        """Its end cannot be trusted. What it held before stays; when that is nothing it is forgotten."""
        if segment.last >= segment.first:
            return
        with self._lock:
            self.segments.remove(segment)
            self._size -= segment.size
        segment.path.unlink(missing_ok=True)

    def stubs(self) -> list[Stub]:
        """Where records were dropped, in order."""
        with self._lock:
            return [one for one in self.segments if isinstance(one, Stub)]

    def missing(self, epoch: int, applied: int) -> tuple[Position, Mapping[int, int]] | None:
        """See `Journal.missing`."""
        with self._lock:
            one = next((one for one in self.segments if one.epoch == epoch), None)
        return None if one is None or one.first <= applied + 1 else (Position(epoch, one.first), one.before)

    def miss(self, stub: Stub) -> None:
        """Let it stand before the oldest of its epoch."""
        with self._lock:
            place = next(i for i, one in enumerate(self.segments) if one.epoch == stub.epoch)
            self.segments.insert(place, stub)

    def droppable(self, beyond: Position, until: Position | None = None) -> Iterator[Segment]:
        """Segments that begin after this position, the oldest first; never the newest, which is written to.

        `until`: and that end there at the latest.

        A file that damage has parted is passed over: it is dropped by nobody.
        """
        with self._lock:
            files = Counter(one.path for one in self.segments)
            there = [one for one in self.segments[:-1] if isinstance(one, Segment) and files[one.path] == 1]
        there = [one for one in there if until is None or (one.epoch, one.last) <= until]
        return (one for one in there if (one.epoch, one.first) > beyond and one.last >= one.first)

    def swap(self, segment: Segment, made: Segment) -> None:
        """A segment was written anew."""
        with self._lock:
            self.segments[self.segments.index(segment)] = made
            self._size += made.size - segment.size

    def before(self, segment: Segment) -> Stub | None:
        """The stub just before a segment, of the same epoch."""
        with self._lock:
            place = self.segments.index(segment)
            one = self.segments[place - 1] if place else None
        return one if isinstance(one, Stub) and one.epoch == segment.epoch else None

    def put(self, segment: Segment, earlier: Stub | None, stub: Stub) -> None:
        """Let a stub stand for a segment, and for an earlier stub."""
        with self._lock:
            self.segments[self.segments.index(segment)] = stub
            self._size += stub.size - segment.size
            if earlier is not None:
                self.segments.remove(earlier)
                self._size -= earlier.size

    def release(self, position: Position) -> set[Path]:
        """Take out segments that end at or before this position; returns the files that nothing lies in any more.

        Never the newest one: it holds the running counts.
        """
        gone: set[Path | None] = set()
        with self._lock:
            while len(self.segments) > 1 and (self.segments[0].epoch, self.segments[0].last) <= position:
                one = self.segments.pop(0)
                gone.add(one.path)
                self._size -= one.size
            return {path for path in gone - {one.path for one in self.segments} if path is not None}

    def read_after(self, position: Position, records: int, size: int) -> list[Entry]:
        """See `Journal.read_after`."""
        found: list[Entry] = []
        with self._lock:
            segments = [s for s in self.segments if (s.epoch, s.last) > position]
            ends = [s.last for s in segments]
        for segment, last in zip(segments, ends, strict=True):
            if isinstance(segment, Stub):
                remains = segment.remains if segment.path is None else read(segment.path)
                found.append(Entry(Position(segment.epoch, last), remains=remains))
                size -= segment.size
                if len(found) >= records or size <= 0:
                    return found
                continue
            first = max(segment.first, position.number + 1) if segment.epoch == position.epoch else segment.first
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for number in range(first, last + 1):
                    found.append(segment.read(fd, number))
                    size -= segment.length[number - segment.first]
                    if len(found) >= records or size <= 0:
                        return found
            finally:
                os.close(fd)
        return found

    def held(self, watermarks: Mapping[int, int], applied: Mapping[int, Collection[int]]) -> Held:
        """See `Journal.held`."""
        readings: dict[int, int] = {}
        places: dict[int, int] = {}
        records = 0
        with self._lock:
            for segment in self.segments:
                mark = watermarks.get(segment.epoch, 0)
                if segment.last > mark:
                    records += _count(segment, mark, applied.get(segment.epoch, ()), readings, places)
            return Held(self.head, dict(self.totals), readings, places, records, len(self.segments), self._size)

    def waiting(self, position: Position) -> int:
        """See `Journal.waiting`."""
        with self._lock:
            beyond = [one for one in self.segments if (one.epoch, one.last) > position]
            return sum(
                one.last - max(one.first - 1, position.number if one.epoch == position.epoch else 0) for one in beyond
            )

    def epochs(self) -> list[tuple[int, int, int]]:
        """See `Journal.epochs`."""
        found: dict[int, tuple[int, int]] = {}
        with self._lock:
            for segment in self.segments:
                if segment.last >= segment.first:
                    first, _ = found.get(segment.epoch, (segment.first, 0))
                    found[segment.epoch] = (first, segment.last)
        return [(epoch, first, last) for epoch, (first, last) in found.items()]

    def before_first(self) -> Position:
        """See `Journal.first`."""
        with self._lock:
            if not self.segments:
                return Position(self.head.epoch, 0)
            return Position(self.segments[0].epoch, self.segments[0].first - 1)

    def bytes(self) -> int:
        """On disk."""
        return self._size

    def count(self) -> int:
        """Of segments."""
        return len(self.segments)


def _count(
    segment: Segment | Stub, mark: int, applied: Collection[int], readings: dict[int, int], places: dict[int, int]
) -> int:
    """Add the readings of unapplied records to `readings` and `places`; returns how many records these are."""
    if isinstance(segment, Stub):
        undecided = segment.undecided(mark, applied)
        for one, counts in undecided.items():
            readings[one] = readings.get(one, 0) + counts.readings
        for place, here in segment.undecided_places(mark, applied).items():
            places[place] = places.get(place, 0) + here
        return sum(counts.records for counts in undecided.values())
    skip = max(0, mark + 1 - segment.first)
    kind = np.array(segment.kind[skip:])
    connection, count = np.array(segment.connection[skip:]), np.array(segment.readings[skip:], dtype=np.int64)
    number = np.arange(segment.first + skip, segment.last + 1)
    open_ = kind == Kind.RECORD
    if applied:
        open_ &= ~np.isin(number, np.fromiter(applied, dtype=np.int64, count=len(applied)))
    for one in np.unique(connection[open_]).tolist():
        readings[one] = readings.get(one, 0) + int(count[open_ & (connection == one)].sum())
    mask = np.concatenate([np.zeros(skip, np.bool_), open_])
    for place, here in by_place(segment.placed.table(), mask).items():
        places[place] = places.get(place, 0) + here
    return int(open_.sum())


def load(folder: Path, sync: Sync = os.fdatasync) -> Index:
    """Read every segment of a folder. Blocking. Files that hold no whole record are removed. Raises OSError.

    What is read is durable from then on: it may be sent, and windows may be cut from it. Of earlier epochs it was made
    so when the next one was opened, and of a segment that is not the newest before that was begun.
    """
    for unfinished in folder.glob(f"*{THIN}"):
        unfinished.unlink()
    stubs = _stubs(folder)
    places = {serial_of(path): path for path in folder.glob(f"*{SUFFIX}")}
    grown = {place for place in stubs if _covered(place, stubs)}
    for path in [*(stubs[place].path for place in grown), *_dropped(places, stubs)]:
        if path is not None:
            path.unlink()
    stubs = {place: stub for place, stub in stubs.items() if place not in grown}
    places = {place: path for place, path in places.items() if path.exists()}
    found = _in_order(places, stubs)
    if found and isinstance(found[-1], Segment):
        found[-1].settle(sync)
        sync_folder(folder)
    told = tell(found)
    items = told.items
    head = Position(items[-1].epoch, items[-1].last) if items else Position(0, 0)
    return Index(items, told.totals, told.damaged, head)


def _in_order(places: Mapping[tuple[int, int], Path], stubs: Mapping[tuple[int, int], Stub]) -> list[Segment | Stub]:
    """By epoch and serial number; each ends where the next one begins."""
    found: list[Segment | Stub] = []
    for place in sorted({*places, *stubs}):
        one = stubs[place] if place in stubs else scan(places[place])
        if one is None:
            places[place].unlink()
            continue
        if found and isinstance(found[-1], Segment) and isinstance(one, Segment):
            _end(found[-1], one)
        found.append(one)
    if found and isinstance(found[-1], Segment):
        found[-1].cut_torn()
    return found


def _stubs(folder: Path) -> dict[tuple[int, int], Stub]:
    """What remains of dropped records, by epoch and serial number; a file that is not whole drops nothing."""
    found = {}
    for path in folder.glob(f"*{REMAINS}*"):
        if path.suffix == REMAINS:
            with suppress(DamagedError):
                found[serial_of(path)] = load_stub(path)
                continue
        path.unlink()
    return found


def _covered(place: tuple[int, int], stubs: Mapping[tuple[int, int], Stub]) -> bool:
    """Whether what lies there was dropped: then its file was left behind by a crash."""
    return any(
        stub.epoch == place[0] and stub.remains.serials[0] <= place[1] <= stub.remains.serials[1]
        for at, stub in stubs.items()
        if at != place
    )


def _dropped(places: Mapping[tuple[int, int], Path], stubs: Mapping[tuple[int, int], Stub]) -> list[Path]:
    return [path for place, path in places.items() if place in stubs or _covered(place, stubs)]


def _end(segment: Segment, after: Segment) -> None:
    """A segment ends where the next one of its epoch begins, or with its newest whole group."""
    if segment.epoch == after.epoch:
        segment.cut_before(after.first)
    else:
        segment.cut_torn()
