"""The samples of one machine cycle laid on even points, input by input, by policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from inference.resample import HOLD, INTERPOLATE, Plan, Readings
from inference.windower_spec import GAP, LAST_USABLE, NO_DATA, NOT_FINITE, SUBSTITUTE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inference.windower_liveness import Liveness

_NO_VALUE: Final = np.empty(0)
_NO_STATUS: Final = np.empty(0, np.uint32)

Filled = tuple["NDArray[np.float64]", "NDArray[np.uint32]", int]
"""Values, statuses, and the flaw that refuses them (0: none)."""


def refused(flaw: int) -> Filled:
    """No cells, and why."""
    return _NO_VALUE, _NO_STATUS, flaw


class Cycle:
    """Samples with a time in (start, end], of readings `in_order`."""

    def __init__(self, samples: Readings, start: int, end: int, plan: Plan, liveness: Liveness) -> None:
        """Find each input's samples, and the first and last usable one of them all."""
        self._plan, self._liveness = plan, liveness
        ends = np.bincount(samples.column, minlength=plan.size).cumsum()
        begins = np.concatenate(([0], ends[:-1]))
        spans = [(int(b), int(e)) for b, e in zip(begins, ends, strict=True)]
        self._samples = samples
        self._spans = [
            (b, *(b + int(samples.time[b:e].searchsorted(limit, "right")) for limit in (start, end))) for b, e in spans
        ]
        inside = (samples.time > start) & (samples.time <= end)
        used = samples.time[inside & (samples.flaw == 0)]
        self.empty = not len(used)
        self.first, self.last = (0, 0) if self.empty else (int(used.min()), int(used.max()))

    def fill(self, column: int, length: int) -> Filled:
        """One input at `length` even points from the first to the last usable sample of the cycle.

        Linear between usable samples, level before an input's own first and after its own last one. At the same time
        the later arrival counts. Refused when a sample cannot be used and the policy does not hold, when the input
        starts later than its largest gap after the cycle, or when its connection was lost in between.
        """
        before, begin, end = self._spans[column]
        samples = self._samples.pick(slice(begin, end))
        policy = int(self._plan.policy[column])
        if len(samples):
            samples = samples.pick(np.append(samples.time[1:] != samples.time[:-1], [True]))
        usable = samples.flaw == 0
        if not usable.any():
            flaw = int(samples.flaw[0]) if len(samples) else NO_DATA
            return self._held(column, self._samples.pick(slice(before, begin)), length, flaw)
        if policy < HOLD and not usable.all():
            return refused(int(samples.flaw[~usable][0]))
        good = samples.pick(usable)
        if self._in_gap(column, good.time):
            return refused(GAP)
        return self._laid(column, samples, good, length)

    def _laid(self, column: int, samples: Readings, good: Readings, length: int) -> Filled:
        points = np.linspace(0.0, float(self.last - self.first), length)
        at = (good.time - self.first).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            value = np.interp(points, at, good.value)
        if not np.isfinite(value).all():
            return refused(NOT_FINITE)
        left = np.maximum(at.searchsorted(points, "right") - 1, 0)
        right = np.minimum(at.searchsorted(points, "left"), len(at) - 1)
        status = np.maximum(good.status[left], good.status[right])
        if len(good) == len(samples):
            return value, status, 0
        return self._over_losses(column, samples, points, (value, status))

    def _over_losses(
        self,
        column: int,
        samples: Readings,
        points: NDArray[np.float64],
        filled: tuple[NDArray[np.float64], NDArray[np.uint32]],
    ) -> Filled:
        """Where the newest sample cannot be used: hold the one before it or keep the line over it, and say so."""
        value, status = filled
        at = (samples.time - self.first).astype(np.float64)
        newest = np.maximum(at.searchsorted(points, "right") - 1, 0)
        lost = np.flatnonzero(samples.flaw[newest] > 0)
        places = np.arange(len(samples))
        usable = samples.flaw == 0
        kept = np.maximum.accumulate(np.where(usable, places, -1))[newest[lost]]
        after = np.minimum.accumulate(np.where(usable, places, len(samples))[::-1])[::-1][newest[lost]]
        too_long = points[lost] - at[kept + 1] > self._plan.hold[column]
        if too_long.any() or (kept < 0).any():
            return refused(int(samples.flaw[newest[lost]][(too_long | (kept < 0)).argmax()]))
        level = (after == len(samples)) | (int(self._plan.policy[column]) != INTERPOLATE)
        value[lost[level]] = samples.value[kept[level]]
        status[lost] = np.where(level, LAST_USABLE, SUBSTITUTE)
        return value, status, 0

    def _held(self, column: int, earlier: Readings, length: int, flaw: int) -> Filled:
        """No usable sample in the cycle: the value from before it, if the policy holds it for that long."""
        usable = np.flatnonzero(earlier.flaw == 0)
        if int(self._plan.policy[column]) < HOLD or not len(usable):
            return refused(flaw)
        kept = int(usable[-1])
        if self.last - int(earlier.time[kept]) > self._plan.hold[column]:
            return refused(flaw)
        return np.full(length, earlier.value[kept]), np.full(length, LAST_USABLE, np.uint32), 0

    def _in_gap(self, column: int, times: NDArray[np.int64]) -> bool:
        """Whether the cycle starts long before the input does, or its connection was lost between two samples."""
        max_gap = int(self._plan.max_gap[column])
        if int(times[0]) - self.first > max_gap:
            return True
        begin, end = times + max_gap, np.append(times[1:], self.last)
        wide = begin < end
        return bool(wide.any()) and self._liveness.overlaps(column, begin[wide], end[wide])

    def first_flaw(self) -> tuple[int, int]:
        """Column and flaw of the first input, in column order, that has no usable sample, when none has."""
        flawed = [(c, int(self._samples.flaw[b])) for c, (_, b, e) in enumerate(self._spans) if e > b]
        return flawed[0] if flawed else (0, NO_DATA)
