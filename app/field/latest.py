"""The newest reading of every tag, as far as the journal was fed: what windows of a new pipeline version begin with.

A tag that is reported by exception may never be reported again; without this, a version put in force while the field
is connected would wait for it for ever. It is a pure function of the journal, and part of the windows' snapshot.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from app.records import decode_columns, encode_columns
from connectors import NO_TIME, Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from app.records import Record
    from connectors import Value
    from inference.window import Router

Columns = tuple[
    "NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.float64]", "Mapping[int, Value]", "NDArray[np.uint32]"
]
"""tags, source_time, values, others, status: those of `connectors.Batch`."""


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """One connection in a snapshot."""

    connection: int
    alive_until: int
    columns: bytes
    """Empty when it never had a reading."""


@dataclass(slots=True)
class _Connection:
    """One row per tag, in the order of tag ids."""

    alive_until: int = -1
    tags: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    time: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    status: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    others: dict[int, Value] = field(default_factory=dict)
    """By tag."""

    def take(self, columns: Columns) -> None:
        """Of each tag the reading with the newest source time stays; of several, or without one, the last to arrive."""
        tags, time, values, others, status = columns
        order = np.argsort(np.where(time == NO_TIME, np.iinfo(np.int64).max, time), kind="stable")[::-1]
        _, first = np.unique(tags[order], return_index=True)
        rows = order[first]
        self._make_room(tags[rows])
        place = self.tags.searchsorted(tags[rows])
        newer = (time[rows] >= self.time[place]) | (time[rows] == NO_TIME)
        rows, place = rows[newer], place[newer]
        self.time[place], self.values[place], self.status[place] = time[rows], values[rows], status[rows]
        if self.others or others:
            for tag, row in zip(tags[rows].tolist(), rows.tolist(), strict=True):
                self.others.pop(tag, None)
                if row in others:
                    self.others[tag] = others[row]

    def _make_room(self, tags: NDArray[np.int64]) -> None:
        new = np.setdiff1d(tags, self.tags, assume_unique=True)
        if not len(new):
            return
        order = np.argsort(np.concatenate((self.tags, new)))
        self.tags = np.concatenate((self.tags, new))[order]
        self.time = np.concatenate((self.time, np.full(len(new), NO_TIME)))[order]
        self.values = np.concatenate((self.values, np.full(len(new), np.nan)))[order]
        self.status = np.concatenate((self.status, np.zeros(len(new), np.uint32)))[order]

    def columns(self) -> Columns:
        """All of it."""
        others = {row: self.others[tag] for row, tag in enumerate(self.tags.tolist()) if tag in self.others}
        return self.tags, self.time, self.values, others, self.status


class Latest:
    """By connection."""

    def __init__(self, clock: int = 0, kept: tuple[Kept, ...] = ()) -> None:
        """As a snapshot has it. ValueError when its bytes are not ours."""
        self.clock = clock
        """ns: the largest received time of any record."""
        self._connections: dict[int, _Connection] = {}
        for one in kept:
            made = self._connections[one.connection] = _Connection(one.alive_until)
            if one.columns:
                made.take(decode_columns(one.columns))

    def hear(self, connection: int, received_time: int, alive_until: int, columns: Columns | None) -> None:
        """A record is fed; `columns` is None when it has no readings."""
        self.clock = max(self.clock, received_time)
        mine = self._connections.setdefault(connection, _Connection())
        mine.alive_until = max(mine.alive_until, alive_until)
        if columns is not None:
            mine.take(columns)

    def forget(self, connections: Iterable[int]) -> None:
        """Another gateway has read these meanwhile: what was in force then is not known here."""
        for connection in connections:
            self._connections.pop(connection, None)

    def alive_until(self, connection: int) -> int:
        """ns: up to when a connection was alive; negative when it never was."""
        mine = self._connections.get(connection)
        return -1 if mine is None else mine.alive_until

    def prime(self, router: Router) -> None:
        """Let windows that were never fed know what is in force."""
        for connection, mine in sorted(self._connections.items()):
            router.prime(connection, *mine.columns(), self.clock, mine.alive_until)

    def kept(self) -> tuple[Kept, ...]:
        """For a snapshot."""
        return tuple(self._kept())

    def _kept(self) -> Iterator[Kept]:
        for connection, mine in sorted(self._connections.items()):
            alive, (tags, time, values, others, status) = mine.alive_until, mine.columns()
            batch = Batch(tags, time, values, others, status, alive, alive, 0)
            yield Kept(connection, alive, encode_columns(batch) if len(tags) else b"")


class Following:
    """What is in force after records that are dropped: see `app.journal.remains.Keeper`."""

    def __init__(self, before: bytes = b"") -> None:
        """`before`: what an earlier one has kept. ValueError when its bytes are not ours."""
        self._latest = Latest(0, kept_in(before))

    def hear(self, record: Record) -> None:
        """The next record; what was read from a history is no news."""
        if record.fill is not None:
            return
        columns = None
        # What cannot be read is counted, and in force it never was.
        with suppress(ValueError):
            columns = decode_columns(record.columns) if record.count else left_in_force(record)
        self._latest.hear(record.connection, record.received_time, record.alive_until, columns)

    def kept(self) -> bytes:
        """After the last one."""
        return msgspec.msgpack.encode(self._latest.kept())


def left_in_force(record: Record) -> Columns | None:
    """What was in force after readings that were dropped from this record and those before it, if it tells that.

    ValueError when its bytes are not ours.
    """
    kept = () if record.dropped is None else kept_in(record.dropped.kept)
    return next((decode_columns(one.columns) for one in kept if one.columns), None)


def kept_in(kept: bytes) -> tuple[Kept, ...]:
    """What a `Following` has kept. ValueError when its bytes are not ours."""
    return msgspec.msgpack.decode(kept, type=tuple[Kept, ...]) if kept else ()
