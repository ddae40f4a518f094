"""When each connection was alive: report by exception makes silence mean "unchanged" only while it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from inference.resample import NEVER, TORN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inference.windower_spec import Input

MAX_BREAKS: Final = 1_000
"""Past outages remembered per connection; the oldest are forgotten first, and those that windows have passed."""

_State = list[tuple[int, list[tuple[int, int]]]]


def _began(begin: int) -> int:
    """ns: when a break began, however it is written."""
    return TORN - begin if begin <= TORN else begin


class Liveness:
    """The breaks of each connection, per largest gap that its inputs tolerate.

    A sign of life at A after one at B says "unchanged since B" if they are no further apart than the largest gap.
    Otherwise the connection was lost after B + gap and before A.
    """

    def __init__(self, inputs: Sequence[Input], max_gap: NDArray[np.int64]) -> None:
        """`max_gap`: ns per input."""
        keys = [(one.connection, int(gap)) for one, gap in zip(inputs, max_gap, strict=True)]
        groups = sorted(set(keys))
        self._gap = [gap for _, gap in groups]
        self._group_of = np.array([groups.index(key) for key in keys])
        self._of_connection: dict[int, list[int]] = {}
        for index, (connection, _) in enumerate(groups):
            self._of_connection.setdefault(connection, []).append(index)
        self._until: list[int] = [-1] * len(groups)
        self._breaks: list[list[tuple[int, int]]] = [[] for _ in groups]

    def hear(self, connection: int, alive_until: int) -> None:
        """A sign of life: ns, from the batch."""
        for group in self._of_connection.get(connection, ()):
            until, gap = self._until[group], self._gap[group]
            if alive_until <= until:
                continue
            if alive_until - until > gap:
                breaks = self._breaks[group]
                breaks.append((until + gap if until >= 0 else -1, alive_until if until >= 0 else alive_until - gap))
                del breaks[:-MAX_BREAKS]
            self._until[group] = alive_until

    def lose(self, connection: int, since: int, until: int, whole: int) -> None:
        """What was heard between `since` and `until` (ns) is gone: lost then, however large a gap is tolerated.

        The connection is known again from `whole` on, and was alive up to `until`.
        """
        for group in self._of_connection.get(connection, ()):
            breaks, begin = self._breaks[group], min(self._until[group], since)
            breaks.append((TORN - begin if begin >= 0 else -1, max(until, whole)))
            del breaks[:-MAX_BREAKS]
            self._until[group] = max(self._until[group], until)

    def born(self) -> int:
        """ns: before this some connection had not been heard of."""
        return max((breaks[0][1] for breaks in self._breaks if breaks and breaks[0][0] == -1), default=0)

    def lost(self, points: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Per point and input, shape (k, inputs): since when it is in a break (ns), NEVER if not; None if none is."""
        newest = int(points[-1])
        if not any(self._breaks) and all(u + gap >= newest for u, gap in zip(self._until, self._gap, strict=True)):
            return None
        since = np.full((len(self._gap), len(points)), NEVER)
        for group, (until, gap) in enumerate(zip(self._until, self._gap, strict=True)):
            for begin, end in (*self._breaks[group], (until + gap, NEVER)):
                if _began(begin) < points[-1] and points[0] < end:
                    mine = (_began(begin) < points) & (points < end)
                    since[group, mine] = np.minimum(since[group, mine], begin)
        if (since == NEVER).all():
            return None
        lost: NDArray[np.int64] = since.T[:, self._group_of]
        return lost

    def overlaps(self, column: int, begin: NDArray[np.int64], end: NDArray[np.int64]) -> bool:
        """Whether the input's connection was lost inside any of these spans (ns)."""
        group = int(self._group_of[column])
        lost = (*self._breaks[group], (self._until[group] + self._gap[group], NEVER))
        return any(bool(((_began(since) < end) & (begin < back)).any()) for since, back in lost)

    def forget(self, before: int) -> None:
        """Windows have passed this time (ns): breaks that ended by then no longer matter."""
        for group, breaks in enumerate(self._breaks):
            if breaks and breaks[0][1] <= before:
                self._breaks[group] = [one for one in breaks if one[1] > before]

    def state(self) -> _State:
        """For a snapshot."""
        return list(zip(self._until, self._breaks, strict=True))

    def resume(self, state: _State) -> None:
        """From a snapshot of the same spec."""
        if len(state) != len(self._gap):
            message = "the snapshot's connections are not the spec's"
            raise ValueError(message)
        self._until = [until for until, _ in state]
        self._breaks = [list(breaks) for _, breaks in state]
