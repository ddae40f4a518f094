"""Windows that hop on an absolute grid: rows close by the clock or by proof of order, windows are cut from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from inference.resample import NEVER, Plan, Readings, in_order, joined, remembered, resample
from inference.windower_liveness import Liveness
from inference.windower_pack import Packed, pack, pack_fields, unpack, unpack_readings
from inference.windower_spec import FLAW_STATUS, FLAWS, GAP, Spec, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inference.resample import Rows
    from inference.windower_context import Context
    from inference.windower_spec import Input

REACH_NS: Final = 60 * 1_000_000_000
"""How far before the clock the first row may lie, unless the allowed lateness is longer."""
MAX_ROWS: Final = 8_192
"""Rows filled in one call. When more are due, after an outage, the older ones are skipped under one tombstone."""
BUSY_CELLS: Final = 1 << 20
BUSY_READINGS: Final = 1 << 16
"""Before the start, after so many readings those that cannot matter any more are let go."""
SLACK_ROWS: Final = 256


class Band:
    """Rows side by side: values, statuses, and per row the worst status and the first cell that was refused."""

    __slots__ = ("culprit", "status", "value", "why", "worst")

    def __init__(self, value: NDArray[np.float64], status: NDArray[np.uint32], flaw: NDArray[np.uint8]) -> None:
        """Summarise rows of shape (k, inputs)."""
        self.value, self.status = value, status
        self.worst: NDArray[np.uint32] = status.max(axis=1)
        self.culprit: NDArray[np.int64] = np.zeros(len(flaw), dtype=np.int64)
        self.why: NDArray[np.uint8] = np.zeros(len(flaw), dtype=np.uint8)
        if flaw.any():
            self.culprit = (flaw > 0).argmax(axis=1)
            self.why = flaw[np.arange(len(flaw)), self.culprit]

    @classmethod
    def made(
        cls,
        value: NDArray[np.float64],
        status: NDArray[np.uint32],
        worst: NDArray[np.uint32],
        culprit: NDArray[np.int64],
        why: NDArray[np.uint8],
    ) -> Band:
        """Of rows that were summarised before."""
        made = cls.__new__(cls)
        made.value, made.status, made.worst, made.culprit, made.why = value, status, worst, culprit, why
        return made

    @classmethod
    def of(cls, bands: list[Band]) -> Band:
        """One below the other."""
        if len(bands) == 1:
            return bands[0]
        return cls.made(
            np.concatenate([band.value for band in bands]),
            np.concatenate([band.status for band in bands]),
            np.concatenate([band.worst for band in bands]),
            np.concatenate([band.culprit for band in bands]),
            np.concatenate([band.why for band in bands]),
        )

    def rows(self, begin: int, end: int) -> Band:
        """Some of them."""
        if begin == 0 and end == len(self.value):
            return self
        return Band.made(
            self.value[begin:end], self.status[begin:end], self.worst[begin:end], self.culprit[begin:end],
            self.why[begin:end],
        )  # fmt: skip

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.value)


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Windows over a band, before they have a number and a context."""

    band: Band
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    quality: NDArray[np.uint32]
    refused: tuple[tuple[int, str], ...]

    def then(self, other: _Cuts) -> _Cuts:
        """These, then those."""
        rows, n = len(self.band), len(self.first)
        return _Cuts(
            Band.of([self.band, other.band]),
            np.concatenate((self.first, other.first + rows)),
            np.concatenate((self.start, other.start)),
            np.concatenate((self.end, other.end)),
            np.concatenate((self.quality, other.quality)),
            (*self.refused, *((i + n, reason) for i, reason in other.refused)),
        )


class Due(NamedTuple):
    """Rows that are to be filled."""

    first: int
    last: int
    """ns: the times of the first and the last row."""
    points: NDArray[np.int64]
    """The times of all of them."""
    skipped: int
    since: int
    """How many older rows are given up, and the time (ns) of the one before those."""


class GridState(msgspec.Struct, array_like=True):
    """A grid windower between two calls."""

    clock: int
    closed: int
    sequence: int
    late: int
    fresh: int
    columns: list[Packed]
    pending: list[Packed]
    rows: list[Packed]
    liveness: list[tuple[int, list[tuple[int, int]]]]


class Grid:
    """The windower of a `grid` spec.

    The first row is the first grid point at which every input has a usable value and its connection is known, no
    older than the clock minus the allowed lateness (60 s if that is longer). Before it nothing is emitted; after it
    every window is, refused or not.
    """

    def __init__(self, spec: Spec, context: Context) -> None:
        """Nothing fed yet."""
        self._spec, self._context, self._plan = spec, context, Plan(spec.inputs)
        self._liveness = Liveness(spec.inputs, self._plan.max_gap)
        self._clock = 0
        self._closed = -1
        self._sequence = 0
        self.late = 0
        self._seen = np.full(self._plan.size, -1, dtype=np.int64)
        self._first = np.full(self._plan.size, NEVER)
        self._known = np.full(self._plan.size, -1, dtype=np.int64)
        self._pending: list[Readings] = []
        self._fresh = 0
        self._bands: list[Band] = []
        self._rows_cap = min(MAX_ROWS, max(spec.length + spec.hop, BUSY_CELLS // self._plan.size))

    def hear(self, connection: int, alive_until: int) -> None:
        """A connection's sign of life."""
        self._liveness.hear(connection, alive_until)

    def take(self, readings: Readings) -> None:
        """Readings of this windower's inputs, in order of arrival."""
        np.maximum.at(self._seen, readings.column, readings.time)
        if self._closed < 0:
            usable = readings.flaw == 0
            np.minimum.at(self._first, readings.column[usable], readings.time[usable])
        else:
            readings = self._in_time(readings)
        if len(readings):
            self._pending.append(readings)
            self._fresh += len(readings)

    def _in_time(self, readings: Readings) -> Readings:
        """Count late readings; drop those that are older than what is known: they would rewrite closed rows' past."""
        late = readings.time <= self._closed
        if not late.any():
            return readings
        self.late += int(late.sum())
        return readings.pick(~late | (readings.time >= self._known[readings.column]))

    def close(self, clock: int) -> Windows | None:
        """Fill the rows that are due, and cut the windows that end with them."""
        due = self.due(clock)
        if due is None:
            return None
        lost = self.lost(due.points)
        return self.filled(due, resample(in_order(self._pending), due.points, self.step, self._plan, lost))

    def due(self, clock: int) -> Due | None:
        """Rows to be filled now; whoever asks must fill them with `filled`, before anything else."""
        self._clock = clock
        if self._closed < 0 and not self._start():
            return None
        step = self._spec.step_ns
        limit = max(clock - self._spec.lateness_ns, int(self._seen.min())) // step * step
        due = (limit - self._closed) // step
        if due <= 0:
            return None
        skipped = max(0, due - self._rows_cap)
        since = self._closed
        if skipped:
            self._closed += skipped * step
            self._bands.clear()
        first = self._closed + step
        return Due(first, limit, np.arange(first, limit + 1, step, dtype=np.int64), skipped, since)

    def filled(self, due: Due, rows: Rows) -> Windows | None:
        """Take over the rows that were due, and cut the windows that end with them."""
        self._pending = [rows.rest]
        self._known = rows.known
        self._closed = due.last
        self._bands.append(Band(rows.value, rows.status, rows.flaw))
        made = self._cut(rows.newest, due.skipped, due.since)
        self._liveness.forget(self._closed)
        return made

    @property
    def step(self) -> int:
        """Between two rows, ns."""
        return self._spec.step_ns

    @property
    def inputs(self) -> tuple[Input, ...]:
        """One a column."""
        return self._spec.inputs

    @property
    def pending(self) -> Sequence[Readings]:
        """What the next rows are filled from, in order of arrival."""
        return self._pending

    def lost(self, points: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """See `Liveness.lost`."""
        return self._liveness.lost(points)

    def waiting(self) -> tuple[int, ...]:
        """Tags without a first usable value, which hold up the start."""
        if self._closed >= 0:
            return ()
        return tuple(tag for tag, first in zip(self._plan.tags, self._first, strict=True) if first == NEVER)

    def _start(self) -> bool:
        """Choose the first row once every input has a first usable value."""
        reach = self._clock - max(self._spec.lateness_ns, REACH_NS)
        latest = int(self._first.max())
        if latest == NEVER:
            if self._fresh > BUSY_READINGS:
                self._pending = [remembered(in_order(self._pending), reach, self._plan.size)]
                self._fresh = 0
            return False
        earliest = max(latest, self._liveness.born(), reach)
        step = self._spec.step_ns
        self._closed = -(-earliest // step) * step - step
        return True

    def _cut(self, newest: NDArray[np.int64], skipped: int, since: int) -> Windows | None:
        """Windows that end with the rows just filled, after a tombstone over rows that were skipped."""
        step, hop, length = self._spec.step_ns, self._spec.hop, self._spec.length
        total, fresh = sum(map(len, self._bands)), len(newest)
        number = self._closed // step - total + 1
        first_end = max(total - fresh, length - 1)
        first_end += -(number + first_end) % hop
        ends = np.arange(first_end, total, hop, dtype=np.int64)
        if not len(ends) and not skipped:
            self._trim(total)
            return None
        band = Band.of(self._bands)
        self._bands = [band.rows(max(0, total - length + 1), total)]
        cuts = self._cuts(band, ends, (number + ends) * step)
        if skipped:
            cuts = self._tombstone(skipped, since).then(cuts)
        last = int(newest[ends[-1] - total]) if len(ends) else min(int(newest[0]), int(cuts.end[-1]))
        return self._emit(cuts, last)

    def _trim(self, total: int) -> None:
        """Keep no more rows than the next window needs, without moving them at every call."""
        if total > 2 * self._spec.length + SLACK_ROWS:
            self._bands = [Band.of(self._bands).rows(total - self._spec.length + 1, total)]

    def _cuts(self, band: Band, ends: NDArray[np.int64], end_time: NDArray[np.int64]) -> _Cuts:
        """Windows whose last rows are `ends`, over no more rows than they need."""
        length = self._spec.length
        if not len(ends):
            return _Cuts(band.rows(0, 0), ends, end_time, end_time, np.empty(0, np.uint32), ())
        band = band.rows(int(ends[0]) - length + 1, int(ends[-1]) + 1)
        first = ends - ends[0]
        quality = band.worst.max(keepdims=True)
        if len(ends) > 1:
            quality = sliding_window_view(band.worst, length)[:: self._spec.hop].max(axis=1)
        refused: list[tuple[int, str]] = []
        flawed = np.flatnonzero(band.why)
        if len(flawed):
            place = flawed.searchsorted(first)
            row = flawed[np.minimum(place, len(flawed) - 1)]
            hit = np.flatnonzero((row >= first) & (row < first + length))
            refused = [(int(i), f"{FLAWS[band.why[row[i]]]}:{self._plan.tags[band.culprit[row[i]]]}") for i in hit]
        return _Cuts(band, first, end_time - length * self._spec.step_ns, end_time, quality, tuple(refused))

    def _tombstone(self, skipped: int, since: int) -> _Cuts:
        """One refused window over all the rows that were skipped."""
        shape = (self._spec.length, self._plan.size)
        gap = np.full(shape, GAP, dtype=np.uint8)
        band = Band(np.full(shape, np.nan), FLAW_STATUS[gap], gap)
        start, end = np.array([since]), np.array([since + skipped * self._spec.step_ns])
        return _Cuts(band, np.zeros(1, np.int64), start, end, band.worst[:1], ((0, f"skipped:{skipped}"),))

    def _emit(self, cuts: _Cuts, newest: int) -> Windows:
        n = len(cuts.first)
        first = self._sequence + 1
        self._sequence += n
        return Windows(
            block=cuts.band.value, status=cuts.band.status, first_row=cuts.first, length=self._spec.length,
            start_time=cuts.start, end_time=cuts.end, sequence=np.arange(first, first + n, dtype=np.int64),
            quality=cuts.quality, refused=cuts.refused, context=self._context.at(cuts.end.tolist()), newest=newest,
        )

    def snapshot(self) -> bytes:
        """All of it, as it stands between two calls."""
        return msgspec.msgpack.encode(GridState(
            self._clock, self._closed, self._sequence, self.late, self._fresh,
            [pack(one) for one in (self._seen, self._first, self._known)],
            pack_fields(joined(self._pending)),
            pack_fields(Band.of(self._bands)) if self._bands else [],
            self._liveness.state(),
        ))

    def resume(self, data: bytes) -> None:
        """Take up where the snapshot was made. Raises ValueError or MsgspecError when it is not of this spec."""
        state = msgspec.msgpack.decode(data, type=GridState)
        self._clock, self._closed, self._sequence = state.clock, state.closed, state.sequence
        self.late, self._fresh = state.late, state.fresh
        columns = self._plan.size
        self._seen, self._first, self._known = (unpack(one, np.int64, (columns,)) for one in state.columns)
        self._pending = [unpack_readings(state.pending, columns)]
        self._bands = [_unpack_band(state.rows, columns)] if state.rows else []
        self._liveness.resume(state.liveness)


def _unpack_band(packed: list[Packed], columns: int) -> Band:
    # In the order of the slots.
    culprit, status, value, why, worst = packed
    return Band.made(
        unpack(value, np.float64, (None, columns)),
        unpack(status, np.uint32, (None, columns)),
        unpack(worst, np.uint32, (None,)),
        unpack(culprit, np.int64, (None,)),
        unpack(why, np.uint8, (None,)),
    )
