"""Which readings of a batch each windower needs, found for all of them at once and checked against their policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from inference.resample import Readings
from inference.windower_context import ContextValue, context_value
from inference.windower_spec import BAD_STATUS, CYCLES, NOT_FINITE, WRONG_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from inference.windower_spec import Input, Spec

AHEAD_NS: Final = 600 * 1_000_000_000
"""A source time further ahead of the clock comes from a wrong clock: it would prove order and hold memory for ever."""
TABLE: Final = 1 << 22
"""Tag ids below this are looked up in a table, larger ones by bisection."""

TRIGGER: Final = -1
STOP: Final = -2
MESSAGE: Final = -3
FIRST_CONTEXT: Final = -4
"""Roles of an entry: a column of the model from 0 on, the trigger, the stop of a cycle, a message that is a window by
itself, and context fields from here downwards."""


class Entry(NamedTuple):
    """That one windower needs one tag, and for what."""

    tag: int
    windower: int
    role: int
    severity: int
    """The worst severity that is accepted: 0 Good, 1 Uncertain."""
    received: bool
    """Whether received time stands in for a missing source time."""


class Special(NamedTuple):
    """A reading of a trigger or a context tag, or a message."""

    role: int
    time: int
    value: ContextValue
    """None for a message."""
    message: object = None
    """As it came."""
    status: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What of a batch one windower gets, in order of arrival."""

    readings: Readings
    specials: Sequence[Special]
    untimed: int
    """Readings without a source time, ignored."""
    ahead: int
    """Readings too far in the future, ignored."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a batch, as `connectors.Batch` has them."""

    tags: NDArray[np.int64]
    source_time: NDArray[np.int64]
    values: NDArray[np.float64]
    others: Mapping[int, object]
    status: NDArray[np.uint32]
    received_time: int


def _entries(windower: int, spec: Spec) -> Iterator[Entry]:
    def received(inputs: Sequence[Input]) -> bool:
        return any(one.use_received_time for one in inputs)

    for column, one in enumerate(spec.inputs):
        role = MESSAGE if spec.kind == "message" else column
        yield Entry(one.tag, windower, role, int(one.policy != "good"), one.use_received_time)
    events = ((TRIGGER, spec.trigger, spec.trigger_connection), (STOP, spec.stop, spec.stop_connection))
    for role, tag, connection in events:
        if spec.kind in CYCLES and (tag or role == TRIGGER):
            beside = [one for one in spec.inputs if one.connection == connection]
            yield Entry(tag, windower, role, 1, received(beside))
    for index, (_, tag) in enumerate(spec.context):
        yield Entry(tag, windower, FIRST_CONTEXT - index, 1, received(spec.inputs))


class Routing:
    """Tag -> (windower, column), for every spec together.

    A trigger without a source time counts at its received time if an input of its connection may, a context tag if
    any input may.
    """

    def __init__(self, specs: Sequence[Spec]) -> None:
        """Once per set of specs."""
        entries = sorted(entry for index, spec in enumerate(specs) for entry in _entries(index, spec))
        self._size = len(specs)
        self._tags, self._begin, self._count = np.unique(
            np.array([one.tag for one in entries], dtype=np.int64), return_index=True, return_counts=True,
        )
        self._windower = np.array([one.windower for one in entries], dtype=np.uint16)
        self._role = np.array([one.role for one in entries], dtype=np.int32)
        self._severity = np.array([one.severity for one in entries], dtype=np.uint32)
        self._received = np.array([one.received for one in entries], dtype=np.bool_)
        self._special = [any(entry.role < 0 for entry in entries if entry.windower == i) for i in range(self._size)]
        self._single = bool((self._count == 1).all())
        self._table = self._tabulate()

    def _tabulate(self) -> NDArray[np.int64] | None:
        """Tag -> place in the sorted tags; -1, also in the first and last place, for tags nobody needs."""
        if not len(self._tags) or self._tags[0] < 0 or self._tags[-1] >= TABLE:
            return None
        table = np.full(int(self._tags[-1]) + 3, -1, dtype=np.int64)
        table[self._tags + 1] = np.arange(len(self._tags))
        return table

    def split(self, columns: Columns, clock: int) -> list[Share | None]:
        """Per windower its share of the batch, None where it has none. `clock`: the largest received time so far."""
        row, entry = self._needed(columns.tags)
        if not len(row):
            return [None] * self._size
        time = columns.source_time[row]
        absent = time < 0
        if absent.any():
            time = np.where(absent & self._received[entry], columns.received_time, time)
        dropped = (time < 0) | (time > clock + AHEAD_NS)
        lost = self._lost(entry, time, dropped) if dropped.any() else None
        if lost is not None:
            row, entry, time = row[~dropped], entry[~dropped], time[~dropped]
        return self._share(columns, row, entry, time, lost)

    def _needed(self, tags: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Rows of the batch that somebody needs and the entry of each; a row stands once per entry."""
        if self._table is not None:
            place = self._table.take(tags + 1, mode="clip")
        elif len(self._tags):
            place = np.minimum(self._tags.searchsorted(tags), len(self._tags) - 1)
            place = np.where(self._tags[place] == tags, place, -1)
        else:
            place = np.full(len(tags), -1)
        row = np.flatnonzero(place >= 0)
        place = place[row]
        if self._single:
            return row, self._begin[place]
        times = self._count[place]
        ends = times.cumsum()
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - times, times)
        return np.repeat(row, times), np.repeat(self._begin[place], times) + within

    def _lost(
        self, entry: NDArray[np.int64], time: NDArray[np.int64], dropped: NDArray[np.bool_],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Per windower, how many readings have no time and how many are too far ahead."""
        windower = self._windower[entry[dropped]]
        untimed = time[dropped] < 0
        return (
            np.bincount(windower[untimed], minlength=self._size),
            np.bincount(windower[~untimed], minlength=self._size),
        )

    def _share(
        self,
        columns: Columns,
        row: NDArray[np.intp],
        entry: NDArray[np.int64],
        time: NDArray[np.int64],
        lost: tuple[NDArray[np.intp], NDArray[np.intp]] | None,
    ) -> list[Share | None]:
        windower = self._windower[entry]
        if self._size > 1:
            order = windower.argsort(kind="stable")
            row, entry, time = row[order], entry[order], time[order]
        bounds = np.bincount(windower, minlength=self._size).cumsum().tolist()
        role = self._role[entry]
        value, status = columns.values[row], columns.status[row]
        flaw = _flaws(value, status, self._severity[entry], row, columns.others)
        readings = Readings(role.astype(np.uint16), time, value, status, flaw)
        shares: list[Share | None] = []
        begin = 0
        for index, end in enumerate(bounds):
            untimed, ahead = (int(lost[0][index]), int(lost[1][index])) if lost else (0, 0)
            if begin == end and not untimed and not ahead:
                shares.append(None)
                continue
            mine = readings.pick(slice(begin, end))
            specials: list[Special] = []
            if self._special[index]:
                is_special = role[begin:end] < 0
                places = np.flatnonzero(is_special) + begin
                specials = _specials(columns.others, row[places], role[places], readings.pick(places))
                mine = mine.pick(~is_special)
            shares.append(Share(mine, specials, untimed, ahead))
            begin = end
        return shares


def _flaws(
    value: NDArray[np.float64],
    status: NDArray[np.uint32],
    severity: NDArray[np.uint32],
    row: NDArray[np.intp],
    others: Mapping[int, object],
) -> NDArray[np.uint8]:
    """Why each reading cannot be used; 0 where it can."""
    finite = np.isfinite(value)
    flaw = np.zeros(len(value), dtype=np.uint8)
    if not finite.all():
        flaw[~finite] = NOT_FINITE
    if others:
        flaw[np.isin(row, np.fromiter(others, dtype=np.int64, count=len(others)))] = WRONG_TYPE
    bad = (status >> np.uint32(30)) > severity
    if bad.any():
        flaw[bad] = BAD_STATUS
    return flaw


def _specials(
    others: Mapping[int, object], row: NDArray[np.intp], role: NDArray[np.int32], readings: Readings,
) -> list[Special]:
    """Readings of trigger and context tags, one by one: they are few."""
    made = []
    columns = (row.tolist(), role.tolist(), readings.time.tolist(), readings.value.tolist(), readings.status.tolist())
    for at, what, time, value, status in zip(*columns, strict=True):
        if what == MESSAGE:
            made.append(Special(what, time, None, others.get(at, value), status))
            continue
        usable = status >> 30 <= 1
        made.append(Special(what, time, context_value(others.get(at, value)) if usable else None))
    return made
