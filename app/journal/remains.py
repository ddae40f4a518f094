"""What stands in the journal for records that were dropped: how many readings of whom, from when to when, and why."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import zstandard

from app.journal.frames import DamagedError, Kind
from app.records import Leased
from app.times import NANOS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from app.journal.segment import Segment
    from app.records import Record

SUFFIX: Final = ".drop"
VERSION: Final = 1
_CRC: Final = 4
BEFORE_NS: Final = 60 * NANOS
"""A source time so much earlier than its receipt comes from a wrong clock; it does not say since when readings miss."""
MOST_ROWS: Final = 2**28
"""Bytes of the rows of one file, unpacked: more is damage."""


class Counts(NamedTuple):
    """Of one connection, in records that were dropped."""

    readings: int = 0
    """Refused ones included."""
    records: int = 0
    events: int = 0
    by_peer: int = 0
    """Readings that the peer said it had dropped."""

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*map(sum, zip(self, other, strict=True)))


class Part(msgspec.Struct, array_like=True, frozen=True):
    """Of one connection; what was read from its peer's history is a part of its own."""

    connection: int
    filling: bool
    since: int
    """ns: from here on changes may be missing."""
    until: int
    """ns: up to here it was alive; of readings from a history, their last source time."""
    counts: Counts


class Remains(msgspec.Struct, array_like=True, frozen=True):
    """In place of the records `first` to `last` of an epoch."""

    version: int
    epoch: int
    first: int
    last: int
    serials: tuple[int, int]
    """The first and the last segment whose place this takes."""
    reason: str
    """Why they were dropped: `journal_full`, `journal_age`; `journal_damaged` where nobody chose it."""
    parts: tuple[Part, ...]
    before: dict[int, int]
    """Per connection, readings before these records, as in the totals of a segment."""
    totals: dict[int, int]
    """The same up to and with the last of them."""
    versions: tuple[int, ...] | None
    """Pipeline versions in force after them, where they were switched."""
    kept: bytes
    """What was in force after them; the journal's user makes and reads it."""
    rows: bytes = b""
    """Where an earlier process may have sent them, each record by itself: int64 (last - first + 1, 4), zstd.

    Connection, readings, events, lost by the peer. Empty where nobody ever saw the records: then the sums are enough.
    """
    leased: Leased | None = None
    """The leases in force after them, where `versions` were switched under any."""
    places: dict[int, int] = {}
    """Readings per place of the ledger, of those that have one; where each record stands by itself, see `placed`."""
    placed: bytes = b""
    """With `rows`: which record (counted from `first`), place, readings: int64 (n, 3), zstd."""


class Keeper(Protocol):
    """Follows dropped records in order, to keep what was in force after them."""

    def hear(self, record: Record) -> None:
        """The next of them."""

    def kept(self) -> bytes:
        """After the last one."""


class NothingKept:
    """Where nobody asks what was in force."""

    def hear(self, record: Record) -> None:
        """Forget it."""

    def kept(self) -> bytes:
        """Nothing."""
        return b""


@dataclass(eq=False)
class Stub:
    """Remains as the index has them, without what was in force."""

    path: Path | None
    """None where damage took the records: it is found again whenever the journal is opened."""
    remains: Remains
    size: int
    sealed: bool = True
    """Somebody may have asked the database about them: they never grow any more."""
    epoch: int = field(init=False)
    first: int = field(init=False)
    last: int = field(init=False)
    before: Mapping[int, int] = field(init=False)

    def __post_init__(self) -> None:
        """What a segment has, too."""
        self.epoch, self.first, self.last = self.remains.epoch, self.remains.first, self.remains.last
        self.before = self.remains.before

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Shape (n, 4); empty where the sums are enough."""
        return rows_of(self.remains)

    @cached_property
    def placed(self) -> NDArray[np.int64]:
        """Shape (n, 3); empty where the sums are enough."""
        return _unpacked(self.remains.placed, 3)

    def undecided(self, mark: int, applied: Collection[int]) -> dict[int, Counts]:
        """Per connection, what of it the database has not: its watermark, and what it applied above that."""
        return undecided(self.remains, self.rows, mark, applied)

    def undecided_places(self, mark: int, applied: Collection[int]) -> dict[int, int]:
        """The same readings per place of the ledger, of those that have one."""
        if self.last <= mark:
            return {}
        if not self.remains.rows:
            return dict(self.remains.places)
        number = np.arange(self.first, self.last + 1)
        open_ = (number > mark) & ~np.isin(number, np.fromiter(applied, dtype=np.int64, count=len(applied)))
        return by_place(self.placed, open_)


def by_place(placed: NDArray[np.int64], wanted: NDArray[np.bool_]) -> dict[int, int]:
    """Readings by place. `placed`: record, place, readings: shape (n, 3); `wanted`: which records, shape (m,)."""
    mine = placed[wanted[placed[:, 0]]]
    return {place: int(mine[mine[:, 1] == place, 2].sum()) for place in np.unique(mine[:, 1]).tolist()}


def rows_of(remains: Remains) -> NDArray[np.int64]:
    """Each record by itself, shape (n, 4); empty where the sums are enough. Raises DamagedError."""
    found = _unpacked(remains.rows, len(Counts._fields))
    if len(found) not in {0, remains.last - remains.first + 1}:
        message = "the rows of dropped records are not ours: others than there were records"
        raise DamagedError(message)
    return found


def _packed(rows: NDArray[np.int64]) -> bytes:
    return zstandard.ZstdCompressor().compress(rows.astype("<i8").tobytes())


def _unpacked(packed: bytes, columns: int) -> NDArray[np.int64]:
    if not packed:
        return np.empty((0, columns), np.int64)
    try:
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=MOST_ROWS)
        return np.frombuffer(data, "<i8").reshape(-1, columns).astype(np.int64, copy=False)
    except (zstandard.ZstdError, ValueError) as error:
        message = f"the rows of dropped records are not ours: {error}"
        raise DamagedError(message) from error


def undecided(remains: Remains, rows: NDArray[np.int64], mark: int, applied: Collection[int]) -> dict[int, Counts]:
    """Per connection, what is neither at or below the watermark nor among what was applied above it."""
    found: dict[int, Counts] = {}
    if remains.last <= mark:
        return found
    if not remains.rows:
        for part in remains.parts:
            found[part.connection] = found.get(part.connection, Counts()).plus(part.counts)
        return found
    number = np.arange(remains.first, remains.last + 1)
    open_ = (number > mark) & ~np.isin(number, np.fromiter(applied, dtype=np.int64, count=len(applied)))
    for one in np.unique(rows[open_, 0]).tolist():
        mine = rows[open_ & (rows[:, 0] == one)]
        readings, events, by_peer = mine[:, 1:].sum(axis=0).tolist()
        if one:
            found[one] = Counts(readings, len(mine), events, by_peer)
    return found


def encode(remains: Remains) -> bytes:
    """As a file: CRC-32 (4 bytes), then msgpack."""
    content = msgspec.msgpack.encode(remains)
    return zlib.crc32(content).to_bytes(_CRC, "little") + content


def read(path: Path) -> Remains:
    """The whole file. Raises DamagedError when it is not what was written; OSError."""
    data = path.read_bytes()
    if zlib.crc32(data[_CRC:]) != int.from_bytes(data[:_CRC], "little"):
        message = f"the checksum of {path.name} does not match"
        raise DamagedError(message)
    try:
        found = msgspec.msgpack.decode(data[_CRC:], type=Remains)
    except msgspec.MsgspecError as error:
        message = f"{path.name} is not ours: {error}"
        raise DamagedError(message) from error
    if found.version != VERSION:
        message = f"{path.name} is of version {found.version}, this reads version {VERSION}"
        raise DamagedError(message)
    return found


def load_stub(path: Path) -> Stub:
    """As the index has it. Raises DamagedError, OSError."""
    found = read(path)
    stub = Stub(path, msgspec.structs.replace(found, kept=b""), path.stat().st_size)
    _ = stub.rows, stub.placed
    return stub


def serial_of(path: Path) -> tuple[int, int]:
    """Epoch and serial number in the name of a segment or of what remains of it; zeros for another name."""
    epoch, _, serial = path.stem.partition("-")
    return (int(epoch), int(serial)) if epoch.isdecimal() and serial.isdecimal() else (0, 0)


class _Sum:
    """Adds up the records of one part."""

    def __init__(self) -> None:
        self.since, self.until, self.counts = 2**62, -1, Counts()

    def add(self, since: int, until: int, counts: Counts) -> None:
        self.since, self.until = min(self.since, since), max(self.until, until)
        self.counts = self.counts.plus(counts)


def remains_of(segment: Segment, keeper: Keeper, reason: str, *, earlier: Remains | None, exact: bool) -> Remains:
    """What remains of a segment, and of what was dropped just before it. Blocking: reads all of it. Raises OSError.

    `exact`: an earlier process may have sent its records. A record that cannot be read counts by the index.
    """
    sums: dict[tuple[int, bool], _Sum] = {}
    for part in earlier.parts if earlier else ():
        sums.setdefault((part.connection, part.filling), _Sum()).add(part.since, part.until, part.counts)
    versions, leased = (earlier.versions, earlier.leased) if earlier else (None, None)
    rows = np.zeros((segment.last - segment.first + 1, 4), np.int64)
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for i, kind in enumerate(segment.kind):
            rows[i, :2] = segment.connection[i], segment.readings[i]
            if kind == Kind.LOST:
                continue
            with suppress(DamagedError):
                entry = segment.read(fd, segment.first + i)
                if entry.versions is not None:
                    versions, leased = entry.versions, entry.leased
                if entry.record is not None and entry.record.connection:
                    rows[i, 2:] = len(entry.record.events), entry.record.lost
                    keeper.hear(entry.record)
                    _add(sums, entry.record)
                    continue
            if segment.connection[i]:
                counts = Counts(segment.readings[i], 1)
                sums.setdefault((segment.connection[i], False), _Sum()).add(2**62, -1, counts)
    finally:
        os.close(fd)
    placed = segment.placed.table()
    there = Counter(earlier.places if earlier else {}) + Counter(by_place(placed, np.ones(len(rows), np.bool_)))
    places = dict(sorted(there.items()))
    parts = tuple(Part(*key, one.since, one.until, one.counts) for key, one in sorted(sums.items()))
    epoch, serial = serial_of(segment.path)
    return Remains(
        version=VERSION,
        epoch=epoch,
        first=earlier.first if earlier else segment.first,
        last=segment.last,
        serials=(earlier.serials[0] if earlier else serial, serial),
        reason=reason,
        parts=parts,
        before=earlier.before if earlier else dict(segment.before),
        totals=_totals(segment),
        versions=versions,
        kept=keeper.kept(),
        rows=_packed(rows) if exact else b"",
        leased=leased,
        places=places,
        placed=_packed(placed) if exact else b"",
    )


def _add(sums: dict[tuple[int, bool], _Sum], record: Record) -> None:
    at, filling = record.received_time, record.fill is not None
    counts = Counts(record.readings(), 1, len(record.events), record.lost)
    mine = sums.setdefault((record.connection, filling), _Sum())
    if not filling:
        since = max(min(record.first_time, at), at - BEFORE_NS)
        since = since if record.dropped is None else min(since, record.dropped.since)
        mine.add(min(since, record.gap_since or since), max(at, record.alive_until), counts)
    elif record.count:
        mine.add(record.first_time, record.last_time, counts)
    else:
        mine.add(2**62, -1, counts)


def _totals(segment: Segment) -> dict[int, int]:
    totals: Mapping[int, int] = segment.before
    found = dict(totals)
    for connection, total in zip(segment.connection, segment.total, strict=True):
        found[connection] = max(total, found.get(connection, 0))
    return found
