"""Windows closed by a part counter: the samples of one cycle, at even points from its first to its last."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from inference.resample import Plan, Readings, in_order, joined, remembered
from inference.windower_cycle import Cycle
from inference.windower_liveness import Liveness
from inference.windower_pack import Packed, pack, pack_fields, unpack, unpack_readings
from inference.windower_spec import FLAW_STATUS, FLAWS, GAP, NO_DATA, Spec, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from inference.windower_context import Context

MAX_MISSED: Final = 100
"""Missing counts that get a window each; of more, the last one stands for the rest."""
MAX_TRIGGERS: Final = 10_000
"""Triggers that wait to be due; beyond it the oldest close at once."""
MAX_AT_ONCE: Final = 1_000
"""Values of one source time that are remembered, so that a repeated delivery is told from a change."""
MAX_SAMPLES: Final = 1 << 20
"""Samples of an unfinished cycle; beyond it the older half is forgotten and the cycle is `too_long`."""
BUSY_SAMPLES: Final = 1 << 16
BAD_UNAVAILABLE: Final = 0x809E0000
"""BadDataUnavailable: the quality of a window for a part whose cycle was never seen as a whole."""

MISSED: Final = "part_missed"
UNIT: Final = "unit_id"
"""The context field that names the part."""

Count = str | int | float
_time = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Closed:
    """One window before it has a number: its cells, or why there are none."""

    start: int
    end: int
    reason: str
    quality: int
    cells: tuple[NDArray[np.float64], NDArray[np.uint32]] | None = None
    """Values and statuses, shape (length, inputs)."""


class TriggerState(msgspec.Struct, array_like=True):
    """A trigger windower between two calls."""

    sequence: int
    late: int
    fresh: int
    forgotten: int
    end: int
    last: tuple[int, Count] | None
    passed: tuple[int, list[Count]]
    waiting: list[tuple[int, Count]]
    seen: Packed
    pending: list[Packed]
    liveness: list[tuple[int, list[tuple[int, int]]]]
    torn: tuple[int, int] = (-1, -1)
    levels: dict[str, str] = {}


class Trigger:
    """The windower of a `trigger` spec.

    The end times of its windows differ, so that they can be keyed by them: windows of missing counts end 1 ns apart
    just before the one that showed they were missing (and carry no `unit_id`); a change at the same source time as
    the one before it (coarse stamps) ends 1 ns later, with no samples. Triggers go by source time; one that is older
    than a trigger already dealt with is late and changes nothing. Samples at or before the newest closed trigger are
    late too.
    """

    def __init__(self, spec: Spec, context: Context) -> None:
        """Nothing fed yet."""
        self._spec, self._context, self._plan = spec, context, Plan(spec.inputs)
        self._liveness = Liveness(spec.inputs, self._plan.max_gap)
        self._sequence = 0
        self.late = 0
        self._fresh = 0
        self._forgotten = -1
        self._end = -1
        self._last: tuple[int, Count] | None = None
        self._passed: tuple[int, list[Count]] = (-1, [])
        self._waiting: list[tuple[int, Count]] = []
        self._seen = np.full(self._plan.size, -1, dtype=np.int64)
        self._pending: list[Readings] = []
        self._torn = (-1, -1)
        self._levels: dict[str, str] = {}
        """What is known of each of two tags, where there are two (`windower_between`)."""
        self._connections = {
            spec.trigger_connection, spec.stop_connection, *(one.connection for one in spec.inputs),
        }  # fmt: skip

    def hear(self, connection: int, alive_until: int) -> None:
        """A connection's sign of life."""
        self._liveness.hear(connection, alive_until)

    def lose(self, connection: int, since: int, until: int) -> None:
        """What a connection sent between these times (ns) is gone: a cycle that has any part of it is refused."""
        self._liveness.lose(connection, since, until, until)
        if connection in self._connections:
            begin, end = self._torn
            open_ = self._last is not None and end > self._last[0]
            self._torn = (min(begin, since) if open_ else since, max(end, until))

    def take(self, readings: Readings) -> None:
        """Samples of this windower's inputs, in order of arrival."""
        np.maximum.at(self._seen, readings.column, readings.time)
        if self._last is not None:
            late = readings.time <= self._last[0]
            if late.any():
                self.late += int(late.sum())
                readings = readings.pick(~late)
        if len(readings):
            self._pending.append(readings)
            self._fresh += len(readings)
        if self._fresh > BUSY_SAMPLES:
            self._forget_old()

    def change(self, time: int, value: Count | None) -> None:
        """A reading of the trigger tag; one without a usable value changes nothing."""
        if value is None:
            return
        passed, values = self._passed
        if time < passed:
            self.late += 1
        elif not (time == passed and value in values) and (time, value) not in self._waiting:
            self._waiting.insert(bisect_right(self._waiting, time, key=_time), (time, value))

    def close(self, clock: int) -> Windows | None:
        """Close the windows whose triggers are due."""
        limit = max(clock - self._spec.lateness_ns, int(self._seen.min()))
        due = max(bisect_right(self._waiting, limit, key=_time), len(self._waiting) - MAX_TRIGGERS)
        triggers, self._waiting = self._waiting[:due], self._waiting[due:]
        changes = [(last, now) for now in triggers if (last := self._advance(*now)) is not None]
        if not changes:
            return None
        samples = in_order(self._pending)
        closed: list[Closed] = []
        for last, now in changes:
            closed.extend(self._cut(samples, last, now))
        newest = changes[-1][1][0]
        self._pending, self._fresh = [remembered(samples, newest, self._plan.size)], 0
        self._liveness.forget(newest)
        return self._emit(closed, newest)

    def waiting(self) -> tuple[int, ...]:
        """The trigger's tag until its first value has armed it."""
        return () if self._last is not None else (self._spec.trigger,)

    def _cut(self, samples: Readings, last: tuple[int, Count], now: tuple[int, Count]) -> Iterator[Closed]:
        """The windows that one change closes."""
        yield from self._missed(last, now)
        yield self._window(samples, last[0], now[0])

    def _pass(self, time: int, value: Count) -> None:
        """Remember that it was dealt with."""
        passed, values = self._passed
        self._passed = (time, [*values[1 - MAX_AT_ONCE:], value] if time == passed else [value])

    def _advance(self, time: int, value: Count) -> tuple[int, Count] | None:
        """Note the trigger; what it changed from, or None if it arms or repeats its value."""
        self._pass(time, value)
        last = self._last
        if last is not None and last[1] == value:
            return None
        self._last = (time, value)
        if last is None:
            self._end = time
        return last

    def _missed(self, last: tuple[int, Count], now: tuple[int, Count]) -> Iterator[Closed]:
        """A refused window for each count between; past MAX_MISSED the last one stands for the rest."""
        if isinstance(last[1], str) or isinstance(now[1], str) or now[1] - last[1] <= 1 or now[1] != int(now[1]):
            return
        first, end = int(last[1]) + 1, int(now[1])
        single = min(end - first, MAX_MISSED if end - first <= MAX_MISSED else MAX_MISSED - 1)
        names = [str(count) for count in range(first, first + single)]
        if first + single < end:
            names.append(f"{first + single}-{end - 1}")
        for index, name in enumerate(names):
            self._end = max(now[0] - len(names) + index, self._end + 1)
            yield Closed(last[0], self._end, f"{MISSED}:{name}", BAD_UNAVAILABLE)

    def _window(self, samples: Readings, start: int, time: int) -> Closed:
        """The window over (start, time]."""
        self._end = max(time, self._end + 1)
        cycle = Cycle(samples, start, time, self._plan, self._liveness)
        if self._forgotten > start or cycle.last - cycle.first > (self._spec.max_length_ns or cycle.last):
            return Closed(start, self._end, f"too_long:{self._spec.trigger}", int(FLAW_STATUS[1]))
        if start < self._torn[1] and self._torn[0] <= time:
            return self._refused(start, 0, GAP)
        if cycle.empty:
            return self._refused(start, *cycle.first_flaw())
        value = np.empty((self._spec.length, self._plan.size))
        status = np.empty(value.shape, dtype=np.uint32)
        for column in range(self._plan.size):
            filled, statuses, flaw = cycle.fill(column, self._spec.length)
            if flaw:
                return self._refused(start, column, flaw)
            value[:, column], status[:, column] = filled, statuses
        return Closed(start, self._end, "", int(status.max()), (value, status))

    def _refused(self, start: int, column: int, flaw: int) -> Closed:
        return Closed(start, self._end, f"{FLAWS[flaw]}:{self._plan.tags[column]}", int(FLAW_STATUS[flaw]))

    def _emit(self, closed: list[Closed], newest: int) -> Windows:
        """Windows one below the other; all refused ones share rows of NaN at the end of the block."""
        length, n = self._spec.length, len(closed)
        cells = [one.cells for one in closed if one.cells is not None]
        place = np.cumsum([one.cells is not None for one in closed]) - 1
        if len(cells) < n:
            shape = (length, self._plan.size)
            place[[one.cells is None for one in closed]] = len(cells)
            cells.append((np.full(shape, np.nan), np.full(shape, FLAW_STATUS[NO_DATA])))
        first = self._sequence + 1
        self._sequence += n
        ends = [one.end for one in closed]
        return Windows(
            block=np.concatenate([value for value, _ in cells]), status=np.concatenate([status for _, status in cells]),
            first_row=place.astype(np.int64) * length, length=length,
            start_time=np.array([one.start for one in closed], dtype=np.int64), end_time=np.array(ends, dtype=np.int64),
            sequence=np.arange(first, first + n, dtype=np.int64),
            quality=np.array([one.quality for one in closed], dtype=np.uint32),
            refused=tuple((i, one.reason) for i, one in enumerate(closed) if one.reason),
            context=self._of_known_units(closed, self._context.at(ends)), newest=newest,
        )

    @staticmethod
    def _of_known_units(
        closed: list[Closed], context: tuple[dict[str, object], ...],
    ) -> tuple[dict[str, object], ...]:
        """A missed part has no unit id: the one in force is its neighbour's."""
        return tuple(
            {field: value for field, value in found.items() if field != UNIT or not one.reason.startswith(MISSED)}
            for one, found in zip(closed, context, strict=False)
        )

    def _forget_old(self) -> None:
        """Let go of samples that no cycle may reach back to, and of the older half of too many."""
        samples = in_order(self._pending)
        cutoff = -1
        if self._spec.max_length_ns and not self._waiting:
            cutoff = int(samples.time.max()) - 2 * self._spec.max_length_ns
        if len(samples) > MAX_SAMPLES:
            cutoff = max(cutoff, int(np.partition(samples.time, len(samples) // 2)[len(samples) // 2]))
        past = samples.time[samples.time <= cutoff]
        if len(past):
            self._forgotten = max(self._forgotten, int(past.max()))
            samples = remembered(samples, cutoff, self._plan.size)
        self._pending, self._fresh = [samples], 0

    def snapshot(self) -> bytes:
        """All of it, as it stands between two calls."""
        return msgspec.msgpack.encode(TriggerState(
            self._sequence, self.late, self._fresh, self._forgotten, self._end, self._last, self._passed,
            self._waiting, pack(self._seen), pack_fields(joined(self._pending)), self._liveness.state(),
            self._torn, self._levels,
        ))

    def renumber(self) -> None:
        """The next window is number 1 again."""
        self._sequence = 0

    def resume(self, data: bytes) -> None:
        """Take up where the snapshot was made. Raises ValueError or MsgspecError when it is not of this spec."""
        state = msgspec.msgpack.decode(data, type=TriggerState)
        self._sequence, self.late, self._fresh = state.sequence, state.late, state.fresh
        self._forgotten, self._end = state.forgotten, state.end
        self._last, self._passed, self._waiting = state.last, state.passed, state.waiting
        self._seen = unpack(state.seen, np.int64, (self._plan.size,))
        self._pending = [unpack_readings(state.pending, self._plan.size)]
        self._liveness.resume(state.liveness)
        self._torn, self._levels = state.torn, dict(state.levels)
