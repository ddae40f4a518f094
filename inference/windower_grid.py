"""Windows that hop on an absolute grid: rows close by the clock or by proof of order, windows are cut from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from inference.resample import NEVER, Plan, Readings, in_order, joined, remembered, resample
from inference.windower_band import Band, Cuts, ends_of, refusals, rows_kept
from inference.windower_liveness import Liveness
from inference.windower_pack import Packed, pack, pack_fields, unpack, unpack_readings
from inference.windower_spec import FLAW_STATUS, GAP, Spec, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inference.windower_context import Context
    from inference.windower_spec import Input

REACH_NS: Final = 60 * 1_000_000_000
"""How far before the clock the first row may lie, unless the allowed lateness is longer."""
MAX_ROWS: Final = 8_192
"""Rows filled in one call. When more are due, after an outage, the older ones are skipped under one tombstone."""
BUSY_CELLS: Final = 1 << 20
BUSY_READINGS: Final = 1 << 16
"""Before the start, after so many readings those that cannot matter any more are let go."""


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

    def lose(self, connection: int, since: int, until: int) -> None:
        """What a connection sent between these times (ns) is gone: rows that have any part of it are lost."""
        step = self._spec.step_ns
        self._liveness.lose(connection, since, until, -(-until // step) * step + 1)

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
        return None if due is None else self.fill(due)

    def due(self, clock: int) -> Due | None:
        """Rows to be filled now; whoever asks must `fill` them, or have them filled, before anything else."""
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

    def fill(self, due: Due) -> Windows | None:
        """Fill the rows that are due, and cut the windows that end with them."""
        rows = resample(in_order(self._pending), due.points, self.step, self._plan, self.lost(due.points))
        self.took(due, rows.rest, rows.known)
        self._bands.append(Band(rows.value, rows.status, rows.flaw))
        return self._cut(rows.newest, due.skipped, due.since)

    def took(self, due: Due, rest: Readings, known: NDArray[np.int64]) -> None:
        """The rows that were due are filled; `rest` and `known` as `Rows` has them. Whoever calls cuts the windows."""
        self._pending = [rest]
        self._known = known
        self._closed = due.last
        self._liveness.forget(due.last)

    @property
    def step(self) -> int:
        """Between two rows, ns."""
        return self._spec.step_ns

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of a window, and from one window's end to the next one's."""
        return self._spec.length, self._spec.hop

    @property
    def held(self) -> int:
        """How many filled rows wait for the windows that end with later ones."""
        return sum(map(len, self._bands))

    @property
    def bands(self) -> list[Band]:
        """Those rows."""
        return self._bands

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
        step, length = self._spec.step_ns, self._spec.length
        total, fresh = self.held, len(newest)
        number = self._closed // step - total + 1
        ends = ends_of(total, fresh, number, length, self._spec.hop)
        if not len(ends) and not skipped:
            self._trim(total)
            return None
        band = Band.of(self._bands)
        self._bands = [band.rows(max(0, total - length + 1), total)]
        cuts = self._cuts(band, ends, (number + ends) * step)
        if skipped:
            cuts = self._tombstone(skipped, since).then(cuts)
        last = int(newest[ends[-1] - total]) if len(ends) else min(int(newest[0]), int(cuts.end[-1]))
        return self.emit(cuts, last)

    def _trim(self, total: int) -> None:
        """Keep no more rows than the next window needs, without moving them at every call."""
        kept = rows_kept(total, self._spec.length)
        if kept < total:
            self._bands = [Band.of(self._bands).rows(total - kept, total)]

    def _cuts(self, band: Band, ends: NDArray[np.int64], end_time: NDArray[np.int64]) -> Cuts:
        """Windows whose last rows are `ends`, over no more rows than they need."""
        length = self._spec.length
        if not len(ends):
            return Cuts(band.rows(0, 0), ends, end_time, end_time, np.empty(0, np.uint32), ())
        band = band.rows(int(ends[0]) - length + 1, int(ends[-1]) + 1)
        first = ends - ends[0]
        quality = band.worst.max(keepdims=True)
        if len(ends) > 1:
            quality = sliding_window_view(band.worst, length)[:: self._spec.hop].max(axis=1)
        refused = refusals(band.why, band.culprit, first, length, self._plan.tags)
        return Cuts(band, first, end_time - length * self._spec.step_ns, end_time, quality, refused)

    def _tombstone(self, skipped: int, since: int) -> Cuts:
        """One refused window over all the rows that were skipped."""
        shape = (self._spec.length, self._plan.size)
        gap = np.full(shape, GAP, dtype=np.uint8)
        band = Band(np.full(shape, np.nan), FLAW_STATUS[gap], gap)
        start, end = np.array([since]), np.array([since + skipped * self._spec.step_ns])
        return Cuts(band, np.zeros(1, np.int64), start, end, band.worst[:1], ((0, f"skipped:{skipped}"),))

    def emit(self, cuts: Cuts, newest: int) -> Windows:
        """Number these windows. `newest` as `Windows` has it."""
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

    def renumber(self) -> None:
        """The next window is number 1 again."""
        self._sequence = 0

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
