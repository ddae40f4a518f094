"""Grids that are due for the same rows are filled in one go: what numpy costs is the call, hardly the reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from inference.resample import NEVER, Plan, Readings, Rows, in_order, joined, resample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from inference.windower_grid import Due, Grid
    from inference.windower_spec import Windows

MOST_COLUMNS: Final = 2**16 - 1
"""A column's number must fit its 16 bits."""
PLANS: Final = 64
"""Groups of grids whose plan is kept; mostly the same are due at every call."""


class Together:
    """Closes many grids at once, each with the very windows it would have made alone."""

    def __init__(self, grids: Mapping[int, Grid]) -> None:
        """`grids`: by an id of the caller's."""
        self._grids = grids
        self._plans: dict[tuple[int, ...], Plan] = {}

    def close(self, clock: int) -> dict[int, Windows]:
        """What `Grid.close` makes, by id; ids that closed nothing are absent."""
        due = {key: found for key, grid in self._grids.items() if (found := grid.due(clock)) is not None}
        made: dict[int, Windows] = {}
        for keys in self._alike(due):
            for key, rows in zip(keys, self._fill(keys, due[keys[0]].points), strict=True):
                windows = self._grids[key].filled(due[key], rows)
                if windows is not None:
                    made[key] = windows
        return made

    def _alike(self, due: Mapping[int, Due]) -> list[list[int]]:
        """Ids of those with the same rows, no more columns together than can be numbered."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        for key, rows in due.items():
            groups.setdefault((rows.first, rows.last, self._grids[key].step), []).append(key)
        return [part for keys in groups.values() for part in self._parts(keys)]

    def _parts(self, keys: list[int]) -> list[list[int]]:
        parts: list[list[int]] = []
        room = 0
        for key in keys:
            size = len(self._grids[key].inputs)
            if size > room:
                parts.append([])
                room = MOST_COLUMNS
            room -= size
            parts[-1].append(key)
        return parts

    def _fill(self, keys: Sequence[int], points: NDArray[np.int64]) -> list[Rows]:
        """Rows at these points, one per id."""
        grids = [self._grids[key] for key in keys]
        sizes = [len(grid.inputs) for grid in grids]
        ends = np.cumsum(sizes, dtype=np.int64)
        rows = resample(
            in_order([_side_by_side(grids, ends - np.array(sizes))]),
            points, grids[0].step, self._plan(tuple(keys), grids), _lost(grids, sizes, points),
        )  # fmt: skip
        return _apart(rows, ends) if len(grids) > 1 else [rows]

    def _plan(self, keys: tuple[int, ...], grids: Sequence[Grid]) -> Plan:
        found = self._plans.get(keys)
        if found is None:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            found = self._plans[keys] = Plan(tuple(one for grid in grids for one in grid.inputs))
        return found


def _side_by_side(grids: Sequence[Grid], offsets: NDArray[np.int64]) -> Readings:
    """The readings of all, their columns numbered on."""
    if len(grids) == 1:
        return joined(grids[0].pending)
    together = joined([part for grid in grids for part in grid.pending])
    counts = [sum(map(len, grid.pending)) for grid in grids]
    column = together.column + np.repeat(offsets.astype(np.uint16), counts)
    return Readings(column, together.time, together.value, together.status, together.flaw)


def _lost(grids: Sequence[Grid], sizes: Sequence[int], points: NDArray[np.int64]) -> NDArray[np.int64] | None:
    found = [grid.lost(points) for grid in grids]
    if all(one is None for one in found):
        return None
    nothing = [np.full((len(points), size), NEVER) for size in sizes]
    return np.concatenate([none if one is None else one for one, none in zip(found, nothing, strict=True)], axis=1)


def _apart(rows: Rows, ends: NDArray[np.int64]) -> list[Rows]:
    """What each grid has of them: readings in order of columns are cut where a grid's columns end."""
    cuts = rows.rest.column.searchsorted(ends).tolist()
    parts = []
    begin = first = 0
    for end, last in zip(ends.tolist(), cuts, strict=True):
        mine, rest = slice(begin, end), rows.rest.pick(slice(first, last))
        newest = rows.newest_time[:, mine].max(axis=1)
        parts.append(Rows(
            rows.value[:, mine], rows.status[:, mine], rows.flaw[:, mine], rows.newest_time[:, mine], newest,
            Readings(rest.column - np.uint16(begin), rest.time, rest.value, rest.status, rest.flaw),
            rows.known[mine],
        ))  # fmt: skip
        begin, first = end, last
    return parts
