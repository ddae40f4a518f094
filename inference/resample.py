"""Readings of many tags in columns: put in order, filled into rows of a grid by rule and policy, and forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from inference.windower_spec import (
    BAD_STATUS,
    FLAW_STATUS,
    GAP,
    LAST_USABLE,
    NOT_FINITE,
    POLICIES,
    RESAMPLES,
    SECOND,
    SUB_NORMAL,
    SUBSTITUTE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inference.windower_spec import Input

NEVER: Final = np.iinfo(np.int64).max
TORN: Final = -2
"""A loss from T on in which readings went that had been there is written as TORN - T; other losses begin at -1."""
LAST, LINEAR, MEAN, MIN, MAX = range(len(RESAMPLES))
GOOD_ONLY, UNCERTAIN, HOLD, INTERPOLATE = range(len(POLICIES))


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one windower's inputs, shape (m,) each."""

    column: NDArray[np.uint16]
    """Index of the input."""
    time: NDArray[np.int64]
    """ns: source time, or received time where that is configured; never negative."""
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    flaw: NDArray[np.uint8]
    """0 where the input's policy accepts it, else why not: an index of FLAWS."""

    def __len__(self) -> int:
        """The number of readings."""
        return len(self.time)

    def pick(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Readings:
        """Those at these places."""
        return Readings(
            self.column[which], self.time[which], self.value[which], self.status[which], self.flaw[which],
        )


NOTHING: Final = Readings(
    np.empty(0, np.uint16), np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint32), np.empty(0, np.uint8),
)


def joined(parts: Sequence[Readings]) -> Readings:
    """One after another, as they arrived."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return NOTHING
    return Readings(
        np.concatenate([part.column for part in parts]), np.concatenate([part.time for part in parts]),
        np.concatenate([part.value for part in parts]), np.concatenate([part.status for part in parts]),
        np.concatenate([part.flaw for part in parts]),
    )


def in_order(parts: Sequence[Readings]) -> Readings:
    """By column, then source time, then arrival; the same time, value and status twice is one reading."""
    all_of = joined(parts)
    by_time = all_of.time.argsort(kind="stable")
    order = by_time[all_of.column[by_time].argsort(kind="stable")]
    ordered = all_of.pick(order)
    tied = (ordered.time[1:] == ordered.time[:-1]) & (ordered.column[1:] == ordered.column[:-1])
    return _without_repeats(ordered) if tied.any() else ordered


def _without_repeats(ordered: Readings) -> Readings:
    """Without readings that came again later, such as those of a batch that was delivered twice.

    The later arrival stays: what is known of a time may have been forgotten but for its last value.
    """
    bits = ordered.value.view(np.int64)
    by_content = np.lexsort((bits, ordered.status, ordered.time, ordered.column))
    repeat = np.ones(max(0, len(ordered) - 1), dtype=np.bool_)
    for key in (ordered.column, ordered.time, ordered.status, bits, ordered.flaw):
        sorted_key = key[by_content]
        repeat &= sorted_key[1:] == sorted_key[:-1]
    keep = np.ones(len(ordered), dtype=np.bool_)
    keep[by_content[:-1][repeat]] = False
    return ordered.pick(keep)


def remembered(readings: Readings, cutoff: int, columns: int) -> Readings:
    """Of readings `in_order`: those after `cutoff` (ns), and per column the value in force then and what ended it."""
    later = readings.time > cutoff
    total = np.bincount(readings.column, minlength=columns)
    end = total.cumsum()
    upto = total - np.bincount(readings.column[later], minlength=columns)
    has = upto > 0
    start, newest = (end - total)[has], (end - total + upto - 1)[has]
    usable = np.maximum.accumulate(np.where(readings.flaw == 0, np.arange(len(readings)), -1))[newest]
    later[newest] = True
    newest, usable = newest[usable >= start], usable[usable >= start]
    later[usable] = True
    later[np.minimum(usable + 1, newest)] = True
    return readings.pick(later)


class Plan:
    """The inputs of a spec as arrays, so that no rule is looked up per reading."""

    def __init__(self, inputs: tuple[Input, ...]) -> None:
        """Once per windower."""
        self.size = len(inputs)
        self.tags = tuple(one.tag for one in inputs)
        self.policy = np.array([POLICIES.index(one.policy) for one in inputs], dtype=np.int64)
        self.hold = np.array([round(one.hold_s * SECOND) for one in inputs], dtype=np.int64)
        self.max_gap = np.array([round(one.max_gap_s * SECOND) for one in inputs], dtype=np.int64)
        kind = np.array([RESAMPLES.index(one.resample) for one in inputs], dtype=np.int64)
        self.kind = kind
        self.linear = np.flatnonzero(kind == LINEAR)
        self.aggregated = kind >= MEAN
        self.any_aggregated = bool(self.aggregated.any())
        self.any_held = bool((self.policy >= HOLD).any())


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a grid, shape (k, inputs) each unless said otherwise, and what to remember for the rows after them."""

    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    flaw: NDArray[np.uint8]
    """0 where the cell is filled, else why it could not be."""
    newest_time: NDArray[np.int64]
    """ns: the newest source time of each cell's input at or before its row."""
    newest: NDArray[np.int64]
    """Shape (k,), ns: the newest source time at or before each row."""
    rest: Readings
    """What later rows may need: later readings, the value in force, and what is known of its loss."""
    known: NDArray[np.int64]
    """Shape (inputs,), ns: the newest source time at or before the last row, per input."""


class _Cells:
    """Rows while they are being filled. Every input has a usable reading at or before the first row."""

    def __init__(self, readings: Readings, points: NDArray[np.int64], step: int, plan: Plan) -> None:
        """Find, per cell, the newest reading at or before its row's time and the newest usable one."""
        self.readings, self.points, self.step, self.plan = readings, points[:, None], step, plan
        rows, columns = len(points), plan.size
        self.row_of = points.searchsorted(readings.time)
        self.cell_of = self.row_of * columns + readings.column
        counts = np.bincount(self.cell_of, minlength=(rows + 1) * columns).reshape(rows + 1, columns)
        upto = counts.cumsum(axis=0)
        self.end = upto[-1].cumsum()
        self.newest = (self.end - upto[-1] - 1) + upto[:-1]
        self.usable = readings.flaw == 0
        self.at = np.arange(len(readings))
        self.accepted = self.newest
        if not self.usable.all():
            self.accepted = np.maximum.accumulate(np.where(self.usable, self.at, -1))[self.newest]
        self.newest_time = readings.time[self.newest]
        self.value = readings.value[self.accepted]
        self.status = readings.status[self.accepted]
        self.flaw = readings.flaw[self.newest]

    def gaps(self, lost: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        """Since when each cell is in a gap, ns, shape (k, inputs), NEVER where it is in none; None if none is."""
        if lost is None:
            return None
        torn = lost <= TORN
        since = np.where(torn, TORN - lost, np.maximum(lost, self.newest_time + self.plan.max_gap))
        in_gap = (lost != NEVER) & (since < self.points)
        self.flaw[in_gap] = GAP
        return np.where(in_gap, since, NEVER)

    def tear(self, lost: NDArray[np.int64] | None) -> None:
        """What is left of the readings of a cell of which some are gone makes no value."""
        if lost is not None:
            self.flaw[lost <= TORN] = GAP

    def linear(self) -> None:
        """Between the readings around a row where both can be used; a loss in between keeps the last value."""
        columns = self.plan.linear
        newest = self.newest[:, columns]
        later = np.minimum(newest + 1, len(self.readings) - 1)
        fits = (newest + 1 < self.end[columns]) & self.usable[later] & (self.flaw[:, columns] == 0)
        fits &= self.newest_time[:, columns] < self.points
        row, which = fits.nonzero()
        before, after = newest[row, which], later[row, which]
        self.value[row, columns[which]] = self._between(row, before, after)
        self.status[row, columns[which]] = np.maximum(self.readings.status[before], self.readings.status[after])

    def _between(
        self, row: NDArray[np.intp], before: NDArray[np.int64], after: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        time, value = self.readings.time, self.readings.value
        weight = (self.points[row, 0] - time[before]) / (time[after] - time[before])
        between: NDArray[np.float64] = value[before] + (value[after] - value[before]) * weight
        return between

    def aggregate(self) -> None:
        """Mean, min, max over the usable readings of a cell; what was left out makes it Uncertain or refuses it."""
        readings, columns = self.readings, self.plan.size
        inside = self.plan.aggregated[readings.column] & (self.row_of < len(self.points))
        inside &= readings.time > self.points[0, 0] - self.step
        cells = self.value.size
        for kind in (MEAN, MIN, MAX):
            chosen = inside & self.usable & (self.plan.kind[readings.column] == kind)
            self._aggregate(kind, self.cell_of[chosen], readings.value[chosen], readings.status[chosen])
        left_out = inside & ~self.usable
        if not left_out.any():
            return
        worst = np.zeros(cells, dtype=np.uint8)
        np.maximum.at(worst, self.cell_of[left_out], readings.flaw[left_out])
        filled = (np.bincount(self.cell_of[inside & self.usable], minlength=cells) > 0) & (worst > 0)
        strict = np.broadcast_to(self.plan.policy == GOOD_ONLY, (len(self.points), columns)).ravel()
        self.flaw.ravel()[filled & strict] = worst[filled & strict]
        partial = filled & ~strict
        self.status.ravel()[partial] = np.maximum(self.status.ravel()[partial], SUB_NORMAL)

    def _aggregate(
        self, kind: int, cell: NDArray[np.int64], value: NDArray[np.float64], status: NDArray[np.uint32],
    ) -> None:
        if not len(cell):
            return
        cells = self.value.size
        count = np.bincount(cell, minlength=cells)
        filled = count > 0
        worst = np.zeros(cells, dtype=np.uint32)
        np.maximum.at(worst, cell, status)
        if kind == MEAN:
            result = np.bincount(cell, weights=value, minlength=cells).astype(np.float64, copy=False)
            result[filled] /= count[filled]
        else:
            result = np.full(cells, np.inf if kind == MIN else -np.inf)
            (np.minimum if kind == MIN else np.maximum).at(result, cell, value)
        self.value.ravel()[filled] = result[filled]
        self.status.ravel()[filled] = worst[filled]
        self.flaw.ravel()[filled] = 0

    def hold(self, gap_since: NDArray[np.int64] | None) -> None:
        """Fill what was refused from the usable readings around it, for as long as the policy allows, and say so."""
        row, column = ((self.flaw > 0) & (self.plan.policy >= HOLD)).nonzero()
        if not len(row):
            return
        readings = self.readings
        before = self.accepted[row, column]
        newest = self.newest[row, column]
        unusable_since = np.where(before < newest, readings.time[np.minimum(before + 1, newest)], NEVER)
        since = unusable_since if gap_since is None else np.minimum(unusable_since, gap_since[row, column])
        held = self.points[row, 0] - since <= self.plan.hold[column]
        row, column, before, newest = row[held], column[held], before[held], newest[held]
        next_usable = np.minimum.accumulate(np.where(self.usable, self.at, len(readings))[::-1])[::-1]
        after = np.append(next_usable, len(readings))[newest + 1]
        spans = (self.plan.policy[column] == INTERPOLATE) & (after < self.end[column])
        self.flaw[row, column] = 0
        self.value[row, column] = readings.value[before]
        self.status[row, column] = np.where(spans, SUBSTITUTE, LAST_USABLE)
        row, column, before, after = row[spans], column[spans], before[spans], after[spans]
        self.value[row, column] = self._between(row, before, after)

    def refuse(self) -> None:
        """A cell that could not be filled is NaN with a Bad status: it cannot be mistaken for data."""
        finite = np.isfinite(self.value)
        if not finite.all():
            self.flaw[(self.flaw == 0) & ~finite] = NOT_FINITE
        if not self.flaw.any():
            return
        refused = self.flaw > 0
        own = self.readings.status[self.newest]
        own_is_bad = (self.flaw == BAD_STATUS) & (own >= FLAW_STATUS[BAD_STATUS])
        self.status[refused] = np.where(own_is_bad, own, FLAW_STATUS[self.flaw])[refused]
        self.value[refused] = np.nan

    def rest(self) -> Readings:
        """Readings after the last row; per input the newest usable one, the first after it and the newest."""
        keep = self.row_of == len(self.points)
        accepted, newest = self.accepted[-1], self.newest[-1]
        keep[newest] = True
        if self.accepted is not self.newest:
            keep[accepted] = True
            keep[np.minimum(accepted + 1, newest)] = True
        return self.readings.pick(keep)


def resample(
    readings: Readings, points: NDArray[np.int64], step: int, plan: Plan, lost: NDArray[np.int64] | None,
) -> Rows:
    """Rows at `points` (ns, ascending, `step` apart) from readings `in_order`.

    `lost`, shape (k, inputs): since when (ns) the input's connection has given no sign of life for longer than the
    input's largest gap, NEVER where it has; None when no connection is lost at any point. Where readings are gone that
    were there, it is TORN minus that time: then no reading makes good for it.
    """
    cells = _Cells(readings, points, step, plan)
    gap_since = cells.gaps(lost)
    with np.errstate(over="ignore", invalid="ignore"):
        if len(plan.linear):
            cells.linear()
        if plan.any_aggregated:
            cells.aggregate()
        cells.tear(lost)
        if plan.any_held:
            cells.hold(gap_since)
    cells.refuse()
    newest = cells.newest_time
    return Rows(cells.value, cells.status, cells.flaw, newest, newest.max(axis=1), cells.rest(), newest[-1])
