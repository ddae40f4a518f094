"""What was being made while a window ran: the value of each context tag in force at the window's end."""

from __future__ import annotations

from bisect import bisect_right, insort_right
from math import isfinite
from operator import itemgetter
from typing import Final

ContextValue = str | int | float | None
"""None: no value is in force, because the reading was Bad or held no text, number or whole number of 64 bits."""

MAX_TEXT: Final = 1_024
MAX_CHANGES: Final = 10_000
"""Changes of one field that wait for windows to pass them; beyond it the oldest go."""
_EXACT: Final = 2.0**53
_time = itemgetter(0)


def context_value(value: object) -> ContextValue:
    """What can stand in a context; whole numbers become int, so that a serial number reads as one."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else None
    if isinstance(value, float) and isfinite(value):
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    return None


class Context:
    """The changes of each field, by source time, the later arrival last."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        """No value is in force yet."""
        self._fields = fields
        self._changes: list[list[tuple[int, ContextValue]]] = [[] for _ in fields]

    def take(self, field: int, time: int, value: ContextValue) -> None:
        """A reading of the field's tag at this source time (ns)."""
        changes = self._changes[field]
        insort_right(changes, (time, value), key=_time)
        if len(changes) > MAX_CHANGES:
            del changes[0]

    def at(self, ends: list[int]) -> tuple[dict[str, object], ...]:
        """Per window, what was in force at its end (ns, ascending); forgets what ended before the last of them."""
        if not self._fields:
            return ()
        found = tuple(dict(self._in_force(end)) for end in ends)
        for changes in self._changes:
            del changes[: max(0, bisect_right(changes, ends[-1], key=_time) - 1)]
        return found

    def _in_force(self, end: int) -> list[tuple[str, object]]:
        places = [bisect_right(changes, end, key=_time) for changes in self._changes]
        values = [
            (field, changes[place - 1][1] if place else None)
            for field, changes, place in zip(self._fields, self._changes, places, strict=True)
        ]
        return [(field, value) for field, value in values if value is not None]

    def state(self) -> list[list[tuple[int, ContextValue]]]:
        """For a snapshot."""
        return self._changes

    def resume(self, state: list[list[tuple[int, ContextValue]]]) -> None:
        """From a snapshot. Raises ValueError when its fields are not these."""
        if len(state) != len(self._fields):
            message = "the snapshot's context fields are not the spec's"
            raise ValueError(message)
        self._changes = state
