"""Grids in step, cut in one go: their rows lie side by side, and each is handed views of its own columns."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from inference.resample import NEVER, Plan, Readings, in_order, joined, resample
from inference.windower_band import Band, Cuts, ends_of, refusals, rows_kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inference.resample import Rows
    from inference.windower_grid import Due, Grid
    from inference.windower_spec import Windows


class Abreast:
    """The same grids, in the same order, at every call: what the next windows need of their rows is kept together.

    They are in step: the same rows are due and as many are held, and windows are of one length and hop.
    """

    def __init__(self, grids: Sequence[Grid]) -> None:
        """Of two or more grids."""
        self._grids = grids
        self._sizes = np.array([len(grid.inputs) for grid in grids], dtype=np.int64)
        self._ends = self._sizes.cumsum()
        self._begins = self._ends - self._sizes
        self._mine = [slice(begin, end) for begin, end in zip(self._begins.tolist(), self._ends.tolist(), strict=True)]
        self._plan = Plan(tuple(one for grid in grids for one in grid.inputs))
        self._bands: list[Band] = []
        """Rows that are held, those of all grids side by side."""
        self._given: list[list[Band]] = [[] for _ in grids]
        """What each grid was handed of them."""

    def close(self, due: Due) -> list[Windows | None]:
        """What `Grid.fill` makes, one per grid."""
        grid, rows = self._grids[0], self._filled(due)
        length, hop = grid.shape
        self._take_up()
        total, fresh = grid.held + len(rows.value), len(rows.value)
        rests = self._rests(rows.rest)
        for one, rest, mine in zip(self._grids, rests, self._mine, strict=True):
            one.took(due, rest, rows.known[mine])
        number = due.last // grid.step - total + 1
        ends = ends_of(total, fresh, number, length, hop)
        self._hold([self._band(rows)])
        if not len(ends):
            self._trim(total, rows_kept(total, length))
            return [None] * len(self._grids)
        band = Band.of(self._bands)
        self._trim(total, min(total, length - 1), band)
        newest = np.maximum.reduceat(rows.newest_time[ends[-1] - total], self._begins).tolist()
        cuts = self._cuts(band.rows(int(ends[0]) - length + 1, int(ends[-1]) + 1), ends, number)
        return [one.emit(cut, at) for one, cut, at in zip(self._grids, cuts, newest, strict=True)]

    def _filled(self, due: Due) -> Rows:
        """The rows that are due, those of all grids side by side."""
        readings = joined([part for grid in self._grids for part in grid.pending])
        counts = [sum(map(len, grid.pending)) for grid in self._grids]
        column = readings.column + np.repeat(self._begins.astype(np.uint16), counts)
        ordered = in_order([Readings(column, readings.time, readings.value, readings.status, readings.flaw)])
        return resample(ordered, due.points, self._grids[0].step, self._plan, self._lost(due.points))

    def _lost(self, points: NDArray[np.int64]) -> NDArray[np.int64] | None:
        found = [grid.lost(points) for grid in self._grids]
        if all(one is None for one in found):
            return None
        nothing = [np.full((len(points), size), NEVER) for size in self._sizes.tolist()]
        return np.concatenate([none if one is None else one for one, none in zip(found, nothing, strict=True)], axis=1)

    def _rests(self, rest: Readings) -> list[Readings]:
        """Readings in order of columns are cut where a grid's columns end."""
        cuts = [0, *rest.column.searchsorted(self._ends).tolist()]
        column = rest.column - np.repeat(self._begins.astype(np.uint16), np.diff(cuts))
        return [
            Readings(column[at:to], rest.time[at:to], rest.value[at:to], rest.status[at:to], rest.flaw[at:to])
            for at, to in pairwise(cuts)
        ]

    def _band(self, rows: Rows) -> Band:
        """Their rows side by side; the summaries have a column for each grid."""
        shape = (len(rows.value), len(self._mine))
        worst = np.maximum.reduceat(rows.status, self._begins, axis=1)
        culprit, why = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.uint8)
        if rows.flaw.any():
            for index, mine in enumerate(self._mine):
                one = Band(rows.value[:, mine], rows.status[:, mine], rows.flaw[:, mine])
                culprit[:, index], why[:, index] = one.culprit, one.why
        return Band.made(rows.value, rows.status, worst, culprit, why)

    def _take_up(self) -> None:
        """Put together what the grids hold, unless that is what they were handed here."""
        if all(
            len(grid.bands) == len(given) and all(a is b for a, b in zip(grid.bands, given, strict=True))
            for grid, given in zip(self._grids, self._given, strict=True)
        ):
            return
        bands = [Band.of(grid.bands) for grid in self._grids if grid.bands]
        self._bands = []
        for grid, given in zip(self._grids, self._given, strict=True):
            given.clear()
            grid.bands.clear()
        if bands:
            self._hold([Band.made(
                np.concatenate([band.value for band in bands], axis=1),
                np.concatenate([band.status for band in bands], axis=1),
                np.stack([band.worst for band in bands], axis=1),
                np.stack([band.culprit for band in bands], axis=1),
                np.stack([band.why for band in bands], axis=1),
            )])  # fmt: skip

    def _hold(self, more: list[Band]) -> None:
        """These rows too; what each grid has of them is a view."""
        for band in more:
            self._bands.append(band)
            for grid, given, mine in zip(self._grids, self._given, self._apart(band), strict=True):
                given.append(mine)
                grid.bands.append(mine)

    def _trim(self, total: int, kept: int, band: Band | None = None) -> None:
        """Hold no more than the last rows. `band`: all of them, if they were put together already."""
        if band is None and kept == total:
            return
        band = Band.of(self._bands) if band is None else band
        self._bands = []
        for grid, given in zip(self._grids, self._given, strict=True):
            given.clear()
            grid.bands.clear()
        if kept:
            self._hold([band.rows(total - kept, total)])

    def _apart(self, band: Band) -> list[Band]:
        return [
            Band.made(
                band.value[:, mine], band.status[:, mine], band.worst[:, index], band.culprit[:, index],
                band.why[:, index],
            )
            for index, mine in enumerate(self._mine)
        ]  # fmt: skip

    def _cuts(self, band: Band, ends: NDArray[np.int64], number: int) -> list[Cuts]:
        """Windows whose last rows are `ends`, over no more rows than they need, per grid."""
        length, hop = self._grids[0].shape
        step = self._grids[0].step
        first, end_time = ends - ends[0], (number + ends) * step
        start_time = end_time - length * step
        quality = band.worst.max(axis=0, keepdims=True)
        if len(ends) > 1:
            quality = sliding_window_view(band.worst, length, axis=0)[::hop].max(axis=-1)
        any_refused: list[bool] = band.why.astype(np.bool_).max(axis=0).tolist()
        return [
            Cuts(
                one, first, start_time, end_time, quality[:, index],
                refusals(one.why, one.culprit, first, length, [each.tag for each in grid.inputs]) if refused else (),
            )
            for index, (grid, one, refused) in enumerate(zip(self._grids, self._apart(band), any_refused, strict=True))
        ]  # fmt: skip
