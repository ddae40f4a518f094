"""Windows of the past, cut again from stored readings by the windower that cuts those of the present.

A pure function: the same readings give the same windows, wherever the work on them is divided. Rows close as if every
reading had come in order and in time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from app.times import NANOS
from inference.window import Windower

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from app.backfill.service import Hole
    from inference.window import Input, Spec, Windows

PATIENCE_NS: Final = 60 * NANOS
"""A row waits so long for a later reading of each input, so that what is interpolated live is interpolated here."""
MOST_LEAD_NS: Final = 3600 * NANOS
CHUNK_CELLS: Final = 1 << 19
CHUNK_ROWS: Final = 2048
"""Rows that are filled at once, at most: a windower gives up rows when too many are due."""
SHORT_NS: Final = 10_000_000
"""Below this step even the rows of a minute would be too many at once."""


@dataclass(frozen=True, slots=True)
class Past:
    """Readings in the order of their time, ties in that of arrival, shape (n,) each."""

    tags: NDArray[np.int64]
    time: NDArray[np.int64]
    """ns: source time, or received time where an input takes that; never absent."""
    values: NDArray[np.float64]
    others: Mapping[int, object]
    status: NDArray[np.uint32]

    def part(self, begin: int, end: int) -> Past:
        """Rows from `begin` to before `end`."""
        some = slice(begin, end)
        others = {row - begin: value for row, value in self.others.items() if begin <= row < end}
        return Past(self.tags[some], self.time[some], self.values[some], others, self.status[some])


def begins(spec: Spec, first: int) -> int:
    """ns: from when on readings are needed for the window that ends at `first`; what is in force then is, too."""
    lead = max(spec.step_ns / NANOS, *(one.hold_s for one in spec.inputs)) * NANOS
    return first - spec.length * spec.step_ns - round(min(lead, MOST_LEAD_NS))


def ends(spec: Spec, last: int) -> int:
    """ns: up to when readings are needed for the window that ends at `last`."""
    return last + max(spec.lateness_ns, PATIENCE_NS)


def ends_between(spec: Spec, after: int, last: int, most: int) -> tuple[int, int, int]:
    """Ends (ns) of the first and the last window after a time and up to another, no more than so many; and how many."""
    hop = spec.step_ns * spec.hop
    first = (after // hop + 1) * hop
    count = min((last - first) // hop + 1, most)
    return first, first + (count - 1) * hop, max(count, 0)


def again(spec: Spec, past: Past, holes: Sequence[Hole], first: int, last: int) -> list[Windows]:
    """Windows of a grid that end from `first` to `last` (ns).

    `past`: at least the readings from `begins` to `ends` of its inputs and context. A window is absent where an input
    had no value yet. In `holes` nothing is known of their tags, and silence does not mean that nothing changed.
    """
    begin, end = begins(spec, first), ends(spec, last)
    lives = _Lives(spec, holes, begin)
    patient = replace(spec, inputs=lives.inputs, lateness_ns=max(spec.lateness_ns, PATIENCE_NS))
    if spec.step_ns < SHORT_NS:
        past = replace(past, time=np.maximum(past.time, begin))
    windower = Windower(patient)
    # No longer than a row is waited for: a windower begins no earlier than that before its clock.
    rows = max(1, min(CHUNK_ROWS, CHUNK_CELLS // len(spec.inputs), PATIENCE_NS // spec.step_ns))
    chunk, made, done = rows * spec.step_ns, [], 0
    # Chunks end at the same times wherever the work begins.
    for at in (begin, *range((begin // chunk + 1) * chunk, end + chunk, chunk)):
        upto = int(past.time.searchsorted(at, "right"))
        for life, alive in lives.until(at):
            windower.take(life, None, alive)
        part = past.part(done, upto)
        found = windower.feed(0, part.tags, part.time, part.values, part.others, part.status, at, -1)
        done = upto
        if found is not None and (some := _only(found, first, last)) is not None:
            made.append(some)
    return made


class _Lives:
    """Inputs put together by when something is known of them; each such life is a connection to the windower."""

    def __init__(self, spec: Spec, holes: Sequence[Hole], begin: int) -> None:
        kinds: dict[tuple[tuple[int, int], ...], int] = {}
        inputs: list[Input] = []
        for one in spec.inputs:
            mine = tuple(
                (hole.since, hole.until)
                for hole in sorted(holes, key=lambda hole: hole.since)
                if hole.connection == one.connection and (hole.tags is None or one.tag in hole.tags)
            )
            inputs.append(replace(one, connection=kinds.setdefault(mine, len(kinds) + 1)))
        self.inputs = tuple(inputs)
        self._holes = {life: mine for mine, life in kinds.items()}
        self._step = max(1, min(round(one.max_gap_s * NANOS) for one in inputs))
        self._at = begin - self._step

    def until(self, end: int) -> Iterator[tuple[int, int]]:
        """Signs of life since the last call: as often as keeps a connection alive, and at the edges of its holes."""
        while self._at < end:
            before, self._at = self._at, min(self._at + self._step, end)
            for life, mine in self._holes.items():
                edges = [edge for hole in mine for edge in hole if before < edge < self._at]
                yield from ((life, edge) for edge in edges)
                if not any(since < self._at < back for since, back in mine):
                    yield life, self._at


def _only(windows: Windows, first: int, last: int) -> Windows | None:
    """Those that end in the span; None when there is none."""
    wanted = (windows.end_time >= first) & (windows.end_time <= last)
    return windows.picked(wanted) if wanted.any() else None
