"""Grids that are due for the same rows are filled in one go: what numpy costs is the call, hardly the reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inference.windower_abreast import Abreast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference.windower_grid import Due, Grid
    from inference.windower_spec import Windows

MOST_COLUMNS: Final = 2**16 - 1
"""A column's number must fit its 16 bits."""
GROUPS: Final = 64
"""Groups of grids that are remembered; mostly the same are due at every call."""


class Together:
    """Closes many grids at once, each with the very windows it would have made alone."""

    def __init__(self, grids: Mapping[int, Grid]) -> None:
        """`grids`: by an id of the caller's."""
        self._grids = grids
        self._abreast: dict[tuple[int, ...], Abreast] = {}

    def close(self, clock: int) -> dict[int, Windows]:
        """What `Grid.close` makes, by id; ids that closed nothing are absent."""
        due = {key: found for key, grid in self._grids.items() if (found := grid.due(clock)) is not None}
        made: dict[int, Windows] = {}
        for keys in self._alike(due):
            first = due[keys[0]]
            if len(keys) == 1 or first.skipped:
                windows = [self._grids[key].fill(due[key]) for key in keys]
            else:
                windows = self._group(keys).close(first)
            made.update((key, one) for key, one in zip(keys, windows, strict=True) if one is not None)
        return made

    def _alike(self, due: Mapping[int, Due]) -> list[tuple[int, ...]]:
        """Ids of those that march in step, no more columns together than can be numbered."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for key, rows in due.items():
            grid = self._grids[key]
            alike = (rows.first, rows.last, rows.skipped, grid.step, grid.shape, grid.held)
            groups.setdefault(alike, []).append(key)
        return [part for keys in groups.values() for part in self._parts(keys)]

    def _parts(self, keys: list[int]) -> list[tuple[int, ...]]:
        parts: list[list[int]] = []
        room = 0
        for key in keys:
            size = len(self._grids[key].inputs)
            if size > room:
                parts.append([])
                room = MOST_COLUMNS
            room -= size
            parts[-1].append(key)
        return [tuple(part) for part in parts]

    def _group(self, keys: tuple[int, ...]) -> Abreast:
        found = self._abreast.get(keys)
        if found is None:
            if len(self._abreast) >= GROUPS:
                self._abreast.clear()
            found = self._abreast[keys] = Abreast([self._grids[key] for key in keys])
        return found
