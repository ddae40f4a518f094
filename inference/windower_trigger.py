"""Windows closed by a part counter: the samples of one cycle, at even points from its first to its last."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from inference.resample import HOLD, INTERPOLATE, NOTHING, Plan, Readings, in_order, joined, remembered
from inference.windower_liveness import Liveness
from inference.windower_pack import Packed, pack, pack_fields, unpack, unpack_readings
from inference.windower_spec import FLAW_STATUS, FLAWS, GAP, LAST_USABLE, NO_DATA, SUBSTITUTE, Spec, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from inference.windower_context import Context

MAX_MISSED: Final = 100
"""Missing counts that get a window each; of more, the last one stands for the rest."""
MAX_TRIGGERS: Final = 10_000
"""Triggers that wait to be due; beyond it the oldest close at once."""
MAX_SAMPLES: Final = 1 << 20
"""Samples of an unfinished cycle; beyond it the older half is forgotten and the cycle is `too_long`."""
BUSY_SAMPLES: Final = 1 << 16

Count = str | int | float


@dataclass(frozen=True, slots=True)
class _Cycle:
    """One window before it has a number: its cells, or why there are none."""

    start: int
    end: int
    reason: str
    value: NDArray[np.float64] | None = None
    """Shape (length, inputs); None when there is nothing to show."""
    status: NDArray[np.uint32] | None = None


class TriggerState(msgspec.Struct, array_like=True):
    """A trigger windower between two calls."""

    sequence: int
    late: int
    fresh: int
    forgotten: int
    last: tuple[int, Count] | None
    at_last: list[Count]
    end: int
    waiting: list[tuple[int, Count]]
    seen: Packed
    pending: list[Packed]
    liveness: list[tuple[int, list[tuple[int, int]]]]


class Trigger:
    """The windower of a `trigger` spec.

    The end times of its windows differ, so that they can be keyed by them: windows of missing counts end 1 ns apart
    just before the one that showed they were missing, and a change at the same source time as the one before it
    (coarse stamps) ends 1 ns later, with no samples.
    """

    def __init__(self, spec: Spec, context: Context) -> None:
        """Nothing fed yet."""
        self._spec, self._context, self._plan = spec, context, Plan(spec.inputs)
        self._liveness = Liveness(spec.inputs, self._plan.max_gap)
        self._sequence = 0
        self.late = 0
        self._fresh = 0
        self._forgotten = -1
        self._last: tuple[int, Count] | None = None
        self._at_last: list[Count] = []
        self._end = -1
        self._waiting: list[tuple[int, Count]] = []
        self._seen = np.full(self._plan.size, -1, dtype=np.int64)
        self._pending: list[Readings] = []

    def hear(self, connection: int, alive_until: int) -> None:
        """A connection's sign of life."""
        self._liveness.hear(connection, alive_until)

    def take(self, readings: Readings) -> None:
        """Samples of this windower's inputs, in order of arrival."""
        np.maximum.at(self._seen, readings.column, readings.time)
        if self._last is not None:
            late = readings.time <= self._last[0]
            if late.any():
                self.late += int(late.sum())
                readings = readings.pick(~late)
        self._pending.append(readings)
        self._fresh += len(readings)
        if self._fresh > BUSY_SAMPLES:
            self._forget_old()

    def change(self, time: int, value: Count | None) -> None:
        """A reading of the trigger tag; one without a usable value changes nothing."""
        if value is None:
            return
        if self._last is not None and time < self._last[0]:
            self.late += 1
        elif self._last is not None and time == self._last[0] and value in self._at_last:
            return
        elif (time, value) not in self._waiting:
            self._waiting.insert(bisect_right(self._waiting, time, key=lambda one: one[0]), (time, value))

    def close(self, clock: int) -> Windows | None:
        """Close the windows whose triggers are due."""
        limit = max(clock - self._spec.lateness_ns, int(self._seen.min()))
        due = bisect_right(self._waiting, limit, key=lambda one: one[0])
        due = max(due, len(self._waiting) - MAX_TRIGGERS)
        if not due:
            return None
        triggers, self._waiting = self._waiting[:due], self._waiting[due:]
        samples = in_order(self._pending)
        cycles = [cycle for time, value in triggers for cycle in self._changed(samples, time, value)]
        if self._last is not None:
            self._pending = [remembered(samples, self._last[0], self._plan.size)]
            self._fresh = 0
            self._liveness.forget(self._last[0])
        return self._emit(cycles, samples) if cycles else None

    def waiting(self) -> tuple[int, ...]:
        """The trigger's tag until its first value has armed it."""
        return () if self._last is not None else (self._spec.trigger,)

    def _forget_old(self) -> None:
        """Let go of samples that no cycle may reach back to, and of the older half of too many."""
        samples = in_order(self._pending)
        cutoff = -1
        if self._spec.max_length_ns and len(samples):
            oldest_wanted = self._waiting[0][0] if self._waiting else int(samples.time.max())
            cutoff = oldest_wanted - self._spec.max_length_ns - 1
        if len(samples) > MAX_SAMPLES:
            cutoff = max(cutoff, int(np.partition(samples.time, len(samples) // 2)[len(samples) // 2]))
        past = samples.time[samples.time <= cutoff]
        if len(past):
            self._forgotten = max(self._forgotten, int(past.max()))
            samples = remembered(samples, cutoff, self._plan.size)
        self._pending, self._fresh = [samples], 0

    def _changed(self, samples: Readings, time: int, value: Count) -> Iterator[_Cycle]:
        """The windows that this trigger closes: none if it arms or repeats its value."""
        last, self._last = self._last, (time, value)
        if last is None or time > last[0]:
            self._at_last = []
        self._at_last.append(value)
        if last is None:
            return
        if last[1] == value:
            self._last = (last[0], value)
            return
        start = self._end if self._end >= 0 else last[0]
        for reason, before in _missed(last[1], value):
            self._end = max(time - before, start + 1, self._end + 1)
            yield _Cycle(last[0], self._end, reason)
        self._end = max(time, self._end + 1)
        yield self._cycle(samples, last[0], time)
