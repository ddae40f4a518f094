"""What damage to the disk took of a journal: each hole in the numbers is told like records that were dropped."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.journal.frames import DamagedError, Kind, Position
from app.journal.remains import BEFORE_NS, VERSION, Counts, Part, Remains, Stub
from app.journal.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from app.records import Record

DAMAGED, MISSING = "journal_damaged", "journal_missing"
"""The reasons under which the ledger and the gaps show it: holes, and records of which a whole beginning is gone."""
BEYOND: Final = 2**31
"""So many numbers are given up where the end of an epoch is gone: how many records it had nobody knows any more."""
LOOK: Final = 1000
"""Records looked through at most for the last sign of life before a hole, and for the first one behind it."""


@dataclass(slots=True)
class _Hole:
    """Numbers of one epoch that no whole record has."""

    epoch: int
    first: int
    last: int
    before: dict[int, int]
    """Per connection, readings up to here; whoever is in it may have had readings in the hole."""
    missing: dict[int, int] = field(default_factory=dict)
    """Per connection, how many are missing from the running counts behind it."""


@dataclass(slots=True)
class Told:
    """A journal's segments with a stub for each hole between and in them."""

    items: list[Segment | Stub]
    totals: dict[int, int]
    """Per connection, readings up to the newest record, those that are missing included."""
    damaged: dict[int, int]
    """Per connection, readings that are missing from the running counts."""


def tell(found: Sequence[Segment | Stub]) -> Told:
    """Find the holes by numbers and by the running counts. Blocking: reads what lies beside each hole. Raises OSError.

    Which record of a hole had how many readings is not known, only their sum per connection: from the counts that each
    later record of a connection carries on, and those of all at the head of a file and now and then inside it.
    """
    walk = _Walk()
    for one in found:
        walk.pass_(one)
    items = [_stub(walk.items, at, one) if isinstance(one, _Hole) else one for at, one in enumerate(walk.items)]
    return Told(items, walk.totals, walk.damaged)


class _Walk:
    """Goes through segments in order."""

    def __init__(self) -> None:
        self.items: list[Segment | Stub | _Hole] = []
        self.totals: dict[int, int] = {}
        self.damaged: dict[int, int] = {}
        self._known = False
        """Whether the counts at the beginning are known: else the first one of each connection is believed."""
        self._hole: _Hole | None = None
        """The newest one: what is found missing is missing there."""
        self._unsettled = False
        """Whether some of what is missing there may not be known yet."""
        self._at: Position | None = None

    def pass_(self, one: Segment | Stub) -> None:
        """The next one in order."""
        if self._at is None:
            self._known = isinstance(one, Stub) or not one.headless
            self.totals |= one.before
        else:
            self._between(self._at, one, one.before)
        if isinstance(one, Stub):
            self.items.append(one)
            self.totals |= one.remains.totals
        else:
            if one.headless:
                one.before = dict(self.totals)
            self._segment(one)
        self._at = Position(one.epoch, max(one.last, one.first - 1))

    def _between(self, at: Position, one: Segment | Stub, before: Mapping[int, int]) -> None:
        """Numbers between two segments, and readings that the head of the second one counts and nothing has."""
        expected = at.number + 1 if at.epoch == one.epoch else 1
        if one.first > expected:
            self._open(one.epoch, expected, one.first - 1)
        elif at.epoch != one.epoch and any(self._lacking(key, total) for key, total in before.items()):
            self._open(at.epoch, at.number + 1, at.number + BEYOND)
        self._settle(before)

    def _settle(self, totals: Mapping[int, int]) -> None:
        """Running counts of every connection: whatever is missing before them is known now."""
        for key, total in totals.items():
            self._miss(key, total)
        self._unsettled = False

    def _segment(self, segment: Segment) -> None:
        """Its records, in parts where damage took some from its middle."""
        start = 0
        for begin, end in _lost(segment):
            if begin > start:
                self._part(segment, start, begin)
            self._open(segment.epoch, segment.first + begin, segment.first + end - 1)
            start = end
        self._part(segment, start, len(segment.kind))

    def _part(self, segment: Segment, begin: int, end: int) -> None:
        whole = begin == 0 and end == len(segment.kind)
        self.items.append(segment if whole else segment.part(begin, end))
        found = segment.counted(begin, end) if self._unsettled else None
        if found is not None:
            place, totals = found
            self._records(segment, begin, place)
            begin = place
            self._settle(totals)
        self._records(segment, begin, end)

    def _records(self, segment: Segment, begin: int, end: int) -> None:
        columns = (segment.connection[begin:end], segment.readings[begin:end], segment.total[begin:end])
        for connection, readings, total in zip(*columns, strict=True):
            self._miss(connection, total - readings)
            self.totals[connection] = max(total, self.totals.get(connection, 0))

    def _open(self, epoch: int, first: int, last: int) -> None:
        self._hole = _Hole(epoch, first, last, dict(self.totals))
        self.items.append(self._hole)
        self._unsettled = True

    def _lacking(self, connection: int, before: int) -> int:
        return before - self.totals.get(connection, 0 if self._known else before)

    def _miss(self, connection: int, before: int) -> None:
        missing = self._lacking(connection, before)
        if missing > 0:
            self.damaged[connection] = self.damaged.get(connection, 0) + missing
            if self._hole is not None:
                self._hole.missing[connection] = self._hole.missing.get(connection, 0) + missing
        self.totals[connection] = max(before, self.totals.get(connection, 0))


def absent(epoch: int, numbers: tuple[int, int], before: Mapping[int, int], parts: Iterable[Part]) -> Stub:
    """Numbers, first and last, before the oldest of an epoch that lie in no file though the database has them not.

    `before`: running counts behind them.
    """
    first, last = numbers
    remains = Remains(
        version=VERSION, epoch=epoch, first=first, last=last, serials=(0, 0), reason=MISSING, parts=tuple(parts),
        before=dict(before), totals=dict(before), versions=None, kept=b"",
    )  # fmt: skip
    return Stub(None, remains, 0)


def _lost(segment: Segment) -> Iterator[tuple[int, int]]:
    """Where in its columns records are lost: first, and one beyond the last."""
    begin = -1
    for i, kind in enumerate(segment.kind):
        if kind == Kind.LOST and begin < 0:
            begin = i
        elif kind != Kind.LOST and begin >= 0:
            yield begin, i
            begin = -1
    if begin >= 0:
        yield begin, len(segment.kind)


def _stub(items: Sequence[Segment | Stub | _Hole], at: int, hole: _Hole) -> Stub:
    """A hole as records that were dropped: from the last sign of life before it to the first record behind it.

    One record of one connection touches nobody else. Of several, or of one without readings, everybody may have had
    some: a sign that changes were missed has no readings, and is as important to windows.
    """
    until = next((record.received_time for record in _after(items, at)), 0)
    seen = {record.connection: record for record in reversed([*_before(items, at)])}
    newest = max((record.received_time for record in seen.values()), default=until - BEFORE_NS)
    alone = hole.first == hole.last and any(hole.missing.values())
    parts = []
    for connection in sorted(hole.missing if alone else {*hole.before, *hole.missing} - {0}):
        missing, last = hole.missing.get(connection, 0), seen.get(connection)
        since = newest if last is None else min(newest, max(last.alive_until, last.last_time))
        counts = Counts(missing, 1 if missing else 0)
        parts.append(Part(connection, filling=False, since=since, until=max(until, newest), counts=counts))
    totals = {key: hole.before.get(key, 0) + hole.missing.get(key, 0) for key in {*hole.before, *hole.missing}}
    remains = Remains(
        version=VERSION, epoch=hole.epoch, first=hole.first, last=hole.last, serials=(0, 0), reason=DAMAGED,
        parts=tuple(parts), before=hole.before, totals=totals, versions=None, kept=b"",
    )  # fmt: skip
    return Stub(None, remains, 0)


def _before(items: Sequence[Segment | Stub | _Hole], at: int) -> Iterator[Record]:
    """Records before a hole that can be read, the newest first."""
    numbers = ((one, number) for one in reversed(items[:at]) if isinstance(one, Segment)
               for number in range(one.last, one.first - 1, -1))  # fmt: skip
    return _readable(numbers)


def _after(items: Sequence[Segment | Stub | _Hole], at: int) -> Iterator[Record]:
    """Records behind a hole that can be read, the oldest first."""
    numbers = ((one, number) for one in items[at + 1 :] if isinstance(one, Segment)
               for number in range(one.first, one.last + 1))  # fmt: skip
    return _readable(numbers)


def _readable(numbers: Iterator[tuple[Segment, int]]) -> Iterator[Record]:
    for (segment, number), _ in zip(numbers, range(LOOK), strict=False):
        fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with suppress(DamagedError):
                record = segment.read(fd, number).record
                if record is not None:
                    yield record
        finally:
            os.close(fd)
