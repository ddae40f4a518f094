"""One file of a journal: frames one after the other, and an index of them in memory."""

from __future__ import annotations

import mmap
import os
from array import array
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from app.durable import sync_folder
from app.journal.frames import (
    OVERHEAD,
    DamagedError,
    Entry,
    Kind,
    Meta,
    Position,
    entry,
    frame,
    frames,
    parse,
    places,
    totals,
    totals_payload,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Sync = Callable[[int], None]

SUFFIX: Final = ".hrj"


@dataclass(slots=True)
class Placed:
    """What of a segment's records belongs to which place of the ledger, in flat columns: most belong to few."""

    row: array[int] = field(default_factory=lambda: array("I"))
    """Which record, by its place in the columns of the segment; in order."""
    place: array[int] = field(default_factory=lambda: array("q"))
    readings: array[int] = field(default_factory=lambda: array("I"))

    def add(self, row: int, places: Sequence[tuple[int, int]]) -> None:
        """The next record that has any."""
        for place, readings in places:
            self.row.append(row)
            self.place.append(place)
            self.readings.append(readings)

    def cut(self, keep: int) -> None:
        """Forget records from this one on."""
        first = bisect_left(self.row, keep)
        for column in (self.row, self.place, self.readings):
            del column[first:]

    def part(self, begin: int, end: int) -> Placed:
        """Of some of the records, counted from the first of them."""
        first, last = bisect_left(self.row, begin), bisect_left(self.row, end)
        rows = array("I", (row - begin for row in self.row[first:last]))
        return Placed(rows, self.place[first:last], self.readings[first:last])

    def table(self) -> NDArray[np.int64]:
        """Row, place, readings: shape (n, 3)."""
        return np.stack([np.array(one, dtype=np.int64) for one in (self.row, self.place, self.readings)], axis=1)


@dataclass(slots=True)
class Segment:
    """Records `first`, `first` + 1, … of one epoch; record i of the arrays has number `first` + i."""

    path: Path
    epoch: int
    first: int
    before: Mapping[int, int]
    """Per connection, readings before this segment."""
    headless: bool = False
    """Damage took its head: where it begins and what was before it follow from its first whole record."""
    size: int = 0
    """Bytes that are known to be good; what lies behind them is torn or abandoned."""
    offset: array[int] = field(default_factory=lambda: array("Q"))
    length: array[int] = field(default_factory=lambda: array("I"))
    kind: array[int] = field(default_factory=lambda: array("B"))
    connection: array[int] = field(default_factory=lambda: array("q"))
    readings: array[int] = field(default_factory=lambda: array("I"))
    total: array[int] = field(default_factory=lambda: array("Q"))
    placed: Placed = field(default_factory=Placed)
    group: int = 0
    """The first number of the newest group."""
    counts: array[int] = field(default_factory=lambda: array("Q"))
    """Where running counts stand inside: the number before them, offset and length, of each."""
    newest: int = 0
    """ns: when the newest record was received, once somebody asked."""
    thinned: int = 0
    """Readings that this process has dropped from inside it."""
    tried: frozenset[int] = frozenset()
    """Connections of which it has no readings any more that could be dropped."""
    _theirs: frozenset[int] | None = None

    @property
    def last(self) -> int:
        """The newest number; `first` - 1 while it is empty."""
        return self.first + len(self.offset) - 1

    def thick(self) -> frozenset[int]:
        """Connections that may have readings in it to drop; asked of a segment that grows no more."""
        if self._theirs is None:
            self._theirs = frozenset(one for one, count in zip(self.connection, self.readings, strict=True) if count)
        return self._theirs - self.tried

    def add(self, meta: Meta, offset: int, length: int) -> None:
        """Put one frame in the index, and a place for each number that is missing before it."""
        while self.last + 1 < meta.position.number:
            self._put(Kind.LOST, 0, 0, Meta(Kind.LOST, Position(self.epoch, self.last + 1), 0, 0, 0))
        self._put(meta.kind, offset, length, meta)
        self.group = meta.position.number - meta.since

    def _put(self, kind: Kind, offset: int, length: int, meta: Meta) -> None:
        self.kind.append(kind)
        self.offset.append(offset)
        self.length.append(length)
        self.connection.append(meta.connection)
        self.readings.append(meta.readings)
        self.total.append(meta.read_total)
        self.placed.add(len(self.kind) - 1, meta.places)

    def cut_before(self, number: int) -> None:
        """Forget records from this number on: a later segment of the same epoch holds them."""
        keep = max(0, number - self.first)
        for column in (self.offset, self.length, self.kind, self.connection, self.readings, self.total):
            del column[keep:]
        self.placed.cut(keep)

    def part(self, begin: int, end: int) -> Segment:
        """Some of its records, by their places in the columns; the bytes of the file count with the last part."""
        made = Segment(self.path, self.epoch, self.first + begin, self.before)
        made.offset, made.length, made.kind = self.offset[begin:end], self.length[begin:end], self.kind[begin:end]
        made.connection, made.readings = self.connection[begin:end], self.readings[begin:end]
        made.total, made.group, made.counts = self.total[begin:end], self.group, self.counts
        made.placed = self.placed.part(begin, end)
        made.size = self.size if end == len(self.kind) else 0
        return made

    def cut_torn(self) -> None:
        """In the last segment of an epoch: forget a newest group that is not whole: its fsync never returned."""
        for number in range(max(self.group, self.first), self.last):
            if self.kind[number - self.first] == Kind.LOST:
                self.cut_before(number)
                return

    def settle(self, sync: Sync) -> None:
        """Make its newest group durable: whoever wrote it may have been killed before the fsync, or seen it fail.

        It is written anew, the same bytes in the same place: the kernel may have marked the pages clean after a failed
        fsync, and another one would prove nothing. Raises OSError.
        """
        place = self.group - self.first
        begin = self.offset[place] if 0 <= place < len(self.offset) else 0
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _write_all(fd, memoryview(os.pread(fd, self.size - begin, begin)), begin)
            sync(fd)
        finally:
            os.close(fd)

    def counted(self, begin: int, end: int) -> tuple[int, dict[int, int]] | None:
        """The first running counts between two places in the columns, and the place before which they hold. OSError."""
        for at in range(0, len(self.counts), 3):
            number, offset, length = self.counts[at : at + 3]
            place = number + 1 - self.first
            if not begin <= place <= end:
                continue
            with self.path.open("rb") as file, suppress(DamagedError):
                data = memoryview(os.pread(file.fileno(), length, offset))
                parse(data, 0)
                return place, totals(data, 0, length)
        return None

    def received(self) -> int:
        """ns: when the newest of its records was received; 0 when none can be read. Raises OSError."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for number in range(self.last, self.first - 1, -1):
                with suppress(DamagedError):
                    record = self.read(fd, number).record
                    if record is not None:
                        return record.received_time
        finally:
            os.close(fd)
        return 0

    def read(self, fd: int, number: int) -> Entry:
        """One record from the open file. Raises DamagedError when it is not what was written; OSError."""
        i = number - self.first
        if self.kind[i] == Kind.LOST:
            return Entry(Position(self.epoch, number))
        return entry(os.pread(fd, self.length[i], self.offset[i]))


def scan(path: Path) -> Segment | None:
    """Read a file of which nothing is known; None when no frame of it is whole: it holds no record."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < OVERHEAD:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as data:
            return _scan(path, data)


def _scan(path: Path, data: memoryview) -> Segment | None:
    found: Segment | None = None
    for bare, offset, end in frames(data):
        meta = replace(bare, places=places(data, offset, end)) if bare.kind == Kind.RECORD else bare
        if meta.kind == Kind.TOTALS and found is None and offset == 0:
            found = Segment(path, meta.position.epoch, meta.position.number + 1, totals(data, offset, end), size=end)
        elif found is not None and meta.kind == Kind.TOTALS and meta.position.epoch == found.epoch:
            found.counts.extend((meta.position.number, offset, end - offset))
            found.size = end
        elif found is None and meta.kind != Kind.TOTALS:
            found = Segment(path, meta.position.epoch, meta.position.number, {}, headless=True, size=end)
            found.add(meta, offset, end - offset)
        elif found is not None and meta.position.epoch == found.epoch and meta.position.number > found.last:
            found.add(meta, offset, end - offset)
            found.size = end
    return found


def totals_frame(at: Position, before: Mapping[int, int]) -> bytes:
    """The running counts before a record, as they stand at the head of a segment and from time to time inside."""
    return frame(Meta(Kind.TOTALS, Position(at.epoch, at.number - 1), 0, 0, 0), totals_payload(before))


class Writing:
    """The one segment that is open for appending. Only the writer's thread touches it."""

    def __init__(self, folder: Path, serial: int, at: Position, before: Mapping[int, int], sync: Sync) -> None:
        """Create the file durably; its first record will be `at`. Raises OSError; then no file is left."""
        self._sync = sync
        path = folder / f"{at.epoch:08d}-{serial:08d}{SUFFIX}"
        head = totals_frame(at, before)
        self.segment = Segment(path, at.epoch, at.number, dict(before))
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            self.append([head])
            sync_folder(folder)
        except OSError:
            os.close(self._fd)
            path.unlink()
            raise

    def append(self, chunks: Sequence[bytes]) -> int:
        """Write and make durable; returns the offset of the first byte. Raises OSError, TornError.

        OSError: the file is as it was before. TornError: nobody knows what of it is on disk; never use it again.
        """
        offset = self.segment.size
        data = memoryview(b"".join(chunks))
        try:
            _write_all(self._fd, data, offset)
        except OSError as error:
            self._take_back(offset, error)
            raise
        try:
            self._sync(self._fd)
        except OSError as error:
            # The kernel may have marked the pages clean: a second fsync would succeed and prove nothing.
            raise TornError(error.errno, f"fdatasync: {error.strerror}") from error
        self.segment.size = offset + len(data)
        return offset

    def _take_back(self, size: int, cause: OSError) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise TornError(error.errno, f"ftruncate: {error.strerror}") from cause

    def close(self) -> None:
        """Let go of the file. What was appended is durable already."""
        with suppress(OSError):
            os.close(self._fd)


class TornError(OSError):
    """The end of this segment can no longer be trusted; write the records again elsewhere."""


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        offset += written
        data = data[written:]
