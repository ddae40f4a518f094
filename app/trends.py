"""Least, greatest and mean of the equal parts of a span, put together from chunks, readings and points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.readings.schemas import Trend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.points import Points
    from app.series import Series


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a chunk without reading it."""

    id: int
    first_time: int
    last_time: int
    usable: int
    """How many of its readings hold a finite number whose status is not Bad; of these are:"""
    minimum: float | None
    maximum: float | None
    mean: float | None


class Buckets:
    """Equal parts of a span."""

    def __init__(self, start: int, end: int, points: int) -> None:
        """Ns, start inclusive, end exclusive. `points` is at least 1 and `end` lies after `start`."""
        # Whole numbers without a limit: a span times a number of points does not fit 64 bits.
        self._edges = np.array([start + (end - start) * at // points for at in range(points + 1)], dtype=np.int64)
        self._count = np.zeros(points, dtype=np.int64)
        self._minimum, self._maximum = np.full(points, np.inf), np.full(points, -np.inf)
        self._sum = np.zeros(points)

    def split(self, facts: Iterable[Facts]) -> tuple[list[Facts], list[int]]:
        """Chunks that lie in one bucket and need not be read, and ids of the others."""
        whole, cut = [], []
        for one in facts:
            first, last = self._edges.searchsorted((one.first_time, one.last_time), side="right").tolist()
            inside = first == last and 1 <= first < len(self._edges) and (one.mean is not None or not one.usable)
            if inside:
                whole.append(one)
            else:
                cut.append(one.id)
        return whole, cut

    def add_whole(self, facts: Iterable[Facts]) -> None:
        """Chunks of which each lies in one bucket."""
        for one in facts:
            if one.usable and one.minimum is not None and one.maximum is not None and one.mean is not None:
                at = int(self._edges.searchsorted(one.first_time, side="right")) - 1
                self._count[at] += one.usable
                self._minimum[at] = min(self._minimum[at], one.minimum)
                self._maximum[at] = max(self._maximum[at], one.maximum)
                self._sum[at] += one.mean * one.usable

    def add(self, series: Series) -> None:
        """Readings in the order of time, none outside the span."""
        usable = series.usable()
        time, values = (series.time, series.values) if usable.all() else (series.time[usable], series.values[usable])
        if not len(time):
            return
        first, last = self._edges.searchsorted((time[0], time[-1]), side="right") - 1
        begins = time.searchsorted(self._edges[first : last + 2])
        filled = np.flatnonzero(begins[1:] > begins[:-1])
        at, count = begins[filled], begins[filled + 1] - begins[filled]
        filled += first
        self._count[filled] += count
        self._minimum[filled] = np.minimum(self._minimum[filled], np.minimum.reduceat(values, at))
        self._maximum[filled] = np.maximum(self._maximum[filled], np.maximum.reduceat(values, at))
        with np.errstate(over="ignore"):
            self._sum[filled] += np.add.reduceat(values, at)

    def add_points(self, points: Points) -> None:
        """Points of a thinned past in the order of time, none beginning outside the span; each where it begins."""
        some = points.count > 0
        if not some.any():
            return
        at = self._edges.searchsorted(points.time[some], side="right") - 1
        np.add.at(self._count, at, points.count[some])
        np.minimum.at(self._minimum, at, points.minimum[some])
        np.maximum.at(self._maximum, at, points.maximum[some])
        with np.errstate(over="ignore"):
            np.add.at(self._sum, at, points.mean[some] * points.count[some])

    def trend(self) -> Trend:
        """What was put in."""
        empty = self._count == 0
        minimum, maximum = np.where(empty, np.nan, self._minimum), np.where(empty, np.nan, self._maximum)
        with np.errstate(invalid="ignore"):
            mean = np.where(empty, np.nan, self._sum / np.maximum(self._count, 1))
        return Trend(self._edges[:-1], self._count, minimum, maximum, mean)
