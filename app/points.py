"""Thinned history: one point for an interval, made of readings or of finer points. Pure and vectorised.

What a point says are aggregates of IEC 62541-13 over the readings of its interval: Average, Minimum and Maximum of
those that hold a finite number whose status is not Bad (TreatUncertainAsBad is false), their Count, and WorstQuality
of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from app.series import Series

AGGREGATES: Final = ("Average", "Minimum", "Maximum", "Count", "WorstQuality")
"""Their names in IEC 62541-13, 5.4.3."""
MOST: Final = 8192
"""Points of a block at most."""
JUMP_NS: Final = 90 * 86_400 * 10**9
"""A block ends before a jump like this, as a chunk of readings does."""
CALCULATED: Final = 0x0401
"""InfoType DataValue with the historian's bit Calculated (IEC 62541-4, 7.39.1; IEC 62541-13, 5.3.3)."""
SUB_NORMAL: Final = 0x40A40000
"""Uncertain_DataSubNormal: some of the readings were not Good."""
NO_DATA: Final = 0x809B0000
"""Bad_NoData: none of the readings could be used."""


@dataclass(frozen=True, slots=True)
class Points:
    """Columns of length n, in the order of time; intervals begin at whole multiples of their length since 1970."""

    time: NDArray[np.int64]
    """ns since 1970 UTC: where the interval begins."""
    readings: NDArray[np.int64]
    """How many there were in it."""
    count: NDArray[np.int64]
    """How many of these hold a finite number whose status is not Bad; of these are:"""
    mean: NDArray[np.float64]
    """NaN where there are none, as in the other two."""
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    worst: NDArray[np.uint32]
    """The StatusCode of the first among the readings of the worst severity."""

    def __len__(self) -> int:
        """Points."""
        return len(self.time)

    def picked(self, rows: NDArray[np.intp] | slice) -> Self:
        """Some of its rows, in the order given."""
        return type(self)(
            self.time[rows], self.readings[rows], self.count[rows], self.mean[rows], self.minimum[rows],
            self.maximum[rows], self.worst[rows],
        )  # fmt: skip

    def between(self, start: int, end: int) -> Self:
        """Those whose intervals begin in a span (ns), start inclusive, end exclusive."""
        return self.picked(slice(*self.time.searchsorted((start, end)).tolist()))

    def summed_up(self) -> tuple[int, float | None, float | None, float | None]:
        """Count, least, greatest and mean of all of them; None where there is nothing, or it is beyond a float64."""
        some = self.count > 0
        if not some.any():
            return 0, None, None, None
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float((self.mean[some] * self.count[some]).sum() / self.count.sum())
        least, greatest = float(self.minimum[some].min()), float(self.maximum[some].max())
        return int(self.count.sum()), least, greatest, mean if np.isfinite(mean) else None

    def status(self) -> NDArray[np.uint32]:
        """The StatusCode of each mean by IEC 62541-13, 5.3.3: Good, Uncertain_DataSubNormal or Bad_NoData."""
        whole = (self.worst >> np.uint32(30)) == 0
        usable = np.where(whole, np.uint32(CALCULATED), np.uint32(SUB_NORMAL | CALCULATED))
        return np.where(self.count > 0, usable, np.uint32(NO_DATA)).astype(np.uint32)


def of_readings(series: Series) -> Points:
    """Each reading as a point of its own."""
    usable = series.usable()
    values = np.where(usable, series.values, np.nan)
    ones = np.ones(len(series), dtype=np.int64)
    status = np.ascontiguousarray(series.status)
    return Points(series.time, ones, usable.astype(np.int64), values, values, values, status)


def combined(parts: Sequence[Points], step_ns: int) -> Points:
    """One point for each interval of this length (ns) in which any begins; `step_ns` is a multiple of theirs."""
    whole = _joined(parts)
    if not len(whole):
        return whole
    begins = whole.time // step_ns * step_ns
    # A time at the very end of 64 bits has no whole interval before it.
    begins = np.where(begins > whole.time, whole.time, begins)
    at = np.flatnonzero(np.append(np.True_, begins[1:] != begins[:-1]))
    count = np.add.reduceat(whole.count, at)
    some, empty = whole.count > 0, count == 0
    minimum = np.minimum.reduceat(np.where(some, whole.minimum, np.inf), at)
    maximum = np.maximum.reduceat(np.where(some, whole.maximum, -np.inf), at)
    return Points(
        begins[at], np.add.reduceat(whole.readings, at), count, _mean(whole, at, count),
        np.where(empty, np.nan, minimum), np.where(empty, np.nan, maximum), _worst(whole, at),
    )  # fmt: skip


def _joined(parts: Sequence[Points]) -> Points:
    """All of them in the order of time; of the same time, in the order of the parts."""
    if not parts:
        none = np.empty(0, np.int64)
        empty = none.astype(np.float64)
        return Points(none, none, none, empty, empty, empty, none.astype(np.uint32))
    whole = Points(
        np.concatenate([one.time for one in parts]), np.concatenate([one.readings for one in parts]),
        np.concatenate([one.count for one in parts]), np.concatenate([one.mean for one in parts]),
        np.concatenate([one.minimum for one in parts]), np.concatenate([one.maximum for one in parts]),
        np.concatenate([one.worst for one in parts]),
    )  # fmt: skip
    return whole.picked(np.argsort(whole.time, kind="stable"))


def _mean(whole: Points, at: NDArray[np.intp], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weighted by their counts."""
    divided = np.maximum(count, 1)
    each = np.repeat(divided, np.diff(np.append(at, len(whole))))
    values = np.where(whole.count > 0, whole.mean, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(values * whole.count, at) / divided
    # What overflows when it is summed up first does not when it is divided first.
    mean = np.where(np.isfinite(mean), mean, np.add.reduceat(values / each * whole.count, at))
    return np.where(count == 0, np.nan, mean)


def _worst(whole: Points, at: NDArray[np.intp]) -> NDArray[np.uint32]:
    # The greatest of these numbers is the first row of the greatest severity.
    last = len(whole) - 1
    severity = (whole.worst >> np.uint32(30)).astype(np.int64)
    found = np.maximum.reduceat((severity << 32) | (last - np.arange(len(whole))), at)
    first: NDArray[np.uint32] = whole.worst[last - (found & 0xFFFFFFFF)]
    return first


def pieces(points: Points) -> Iterator[Points]:
    """As few blocks as may be."""
    jumps = np.flatnonzero(np.diff(points.time) > JUMP_NS) + 1
    for rows in np.split(np.arange(len(points)), jumps):
        yield from (points.picked(part) for part in np.array_split(rows, max(1, -(-len(rows) // MOST))) if len(part))
