"""Readings that a peer sends again because we died, or lost it, between writing them down and acknowledging them.

Such a reading is told by its tag, source time, value and status, and it is looked for only where it can be: after a
connection was made, among what was journaled just before. It is acknowledged like any other, and journaled once.
"""

from __future__ import annotations

import hashlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from app import times
from app.journal.frames import DamagedError
from app.log import READINGS_REPEATED, get_logger
from app.records import decode_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.journal import Journal, Position
    from app.records import Record
    from connectors import Batch, Value

log = get_logger(__name__)

KEEP_NS: Final = 60 * times.NANOS
"""Nothing stays unacknowledged for so long while its connection is up. But a broker that is killed comes back as it was
when it last wrote down its state, and has again what we acknowledged since; ours writes it down every 30 s."""
SURE_NS: Final = 10 * times.NANOS
MOST_READINGS: Final = 1_000_000
"""More are remembered only of the last `SURE_NS`."""
WATCH_NS: Final = 60 * times.NANOS
"""How long after a connection was made repeats may come: a broker first sends what waited meanwhile."""
TAIL_RECORDS: Final = 1024
"""Of a journal that is opened again."""
_ODD: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class _Written:
    received_time: int
    """ns; or when it was written down, where that took long."""
    columns: bytes
    readings: int


class Repeats:
    """Of one connection."""

    def __init__(self, most: int = MOST_READINGS) -> None:
        """Nothing was journaled yet. `most`: readings to remember beyond those of the last seconds."""
        self._most = most
        self.alive_until = 0
        """ns: up to when the connection was alive, as far as it was noted; 0 when it never was."""
        self._name = ""
        self._tail: deque[_Written] = deque()
        self._remembered = 0
        """Readings in it."""
        self._marks = np.empty(0, np.uint64)
        """Of the readings to look for, sorted."""
        self._newest = 0
        """ns: the newest source time among them."""
        self._until = 0
        """ns: received time up to which they are looked for."""

    def note(self, record: Record) -> None:
        """A record of this connection is being journaled; what was read from its past is no sign of life."""
        if record.fill is not None:
            return
        self.alive_until = max(self.alive_until, record.alive_until)
        if record.count:
            self._tail.append(_Written(record.received_time, record.columns, record.count))
            self._remembered += record.count
        while self._tail and self._tail[0].received_time < record.received_time - self._keep_ns:
            self._remembered -= self._tail.popleft().readings

    def durable(self, record: Record, at: int) -> None:
        """The record that was noted last is written down, and acknowledged at this time (ns), if it can be.

        A disk that took nothing for minutes has kept it unacknowledged for as long: from now on its peer may forget it.
        """
        if record.count and record.fill is None:
            self._tail[-1] = replace(self._tail[-1], received_time=max(at, record.received_time))

    @property
    def _keep_ns(self) -> int:
        return KEEP_NS if self._remembered <= self._most else SURE_NS

    def expect(self, name: str) -> None:
        """The connection of this name was made: from now on look for what was journaled last. Blocking: takes CPU."""
        columns = [decode_columns(one.columns) for one in self._tail]
        self._name = name
        self._until = times.now() + WATCH_NS
        marks = [marks_of(*one) for one in columns]
        self._marks = np.sort(np.concatenate(marks)) if marks else np.empty(0, np.uint64)
        self._newest = max((int(one[1].max()) for one in columns), default=0)

    def without(self, batch: Batch) -> Batch:
        """The batch without the readings that are in the journal already; it keeps its signs of life."""
        if not len(self._marks) or not len(batch):
            return batch
        if batch.received_time > self._until:
            self._marks = np.empty(0, np.uint64)
            return batch
        if int(batch.source_time.min()) > self._newest:
            return batch
        marks = marks_of(batch.tags, batch.source_time, batch.values, batch.others, batch.status)
        place = np.minimum(self._marks.searchsorted(marks), len(self._marks) - 1)
        new = self._marks[place] != marks
        if new.all():
            return batch
        log.info(READINGS_REPEATED, connection=self._name, readings=int(len(new) - new.sum()))
        return picked(batch, new)


def picked(batch: Batch, which: NDArray[np.bool_]) -> Batch:
    """Some of its readings, shape (n,)."""
    rows = np.flatnonzero(which)
    others = {i: batch.others[row] for i, row in enumerate(rows.tolist()) if row in batch.others}
    return replace(
        batch, tags=batch.tags[rows], source_time=batch.source_time[rows], values=batch.values[rows],
        others=others, status=batch.status[rows],
    )  # fmt: skip


def marks_of(
    tags: NDArray[np.int64],
    time: NDArray[np.int64],
    values: NDArray[np.float64],
    others: Mapping[int, Value],
    status: NDArray[np.uint32],
) -> NDArray[np.uint64]:
    """64 bits per reading, equal for equal readings; of different ones two in 10**19 are alike."""
    bits = np.where(np.isnan(values), np.nan, values).view(np.uint64)
    for row, value in others.items():
        text = f"{type(value).__name__}:{value!r}".encode()
        bits[row] = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    mark = np.zeros(len(tags), np.uint64)
    for part, odd in zip(
        (tags.view(np.uint64), time.view(np.uint64), bits, status.astype(np.uint64)), _ODD, strict=True
    ):
        mark = (mark ^ part) * np.uint64(odd)
        mark ^= mark >> np.uint64(29)
    return mark


def of_journal(journal: Journal) -> dict[int, Repeats]:
    """By connection, from the last records of a journal that was just opened. Blocking: reads the disk. OSError.

    Where the disk gives back other bytes than were written, what comes after them is not looked for.
    """
    found: dict[int, Repeats] = {}
    with suppress(DamagedError):
        position = _start(journal)
        while entries := journal.read_after(position):
            position = entries[-1].position
            for entry in entries:
                if entry.record is not None and entry.record.connection:
                    found.setdefault(entry.record.connection, Repeats()).note(entry.record)
    return found


def _start(journal: Journal) -> Position:
    """The place before the last records, but not before the first."""
    wanted = TAIL_RECORDS
    for epoch, first, last in reversed(journal.epochs()):
        if last - first >= wanted:
            return journal.head._replace(epoch=epoch, number=last - wanted)
        wanted -= last - first + 1
    return journal.first
