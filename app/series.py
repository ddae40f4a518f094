"""Readings of one tag in columns, in the order of time: what the history answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

BAD: Final = 2
"""The two highest bits of a StatusCode that is Bad (IEC 62541-4, 7.39)."""


@dataclass(frozen=True, slots=True)
class Series:
    """Columns of length n."""

    time: NDArray[np.int64]
    """ns since 1970 UTC: the source time, or when it was received where there is none."""
    values: NDArray[np.float64]
    """NaN where `others` holds the value."""
    others: Mapping[int, object]
    """Row to text, bytes, array or structure."""
    status: NDArray[np.uint32]
    backfilled: NDArray[np.bool_]
    """Read from the peer's history after a gap."""
    untimed: NDArray[np.bool_]
    """It came without a source time: `time` is when it was received."""

    def __len__(self) -> int:
        """Readings."""
        return len(self.time)

    def value(self, row: int) -> object:
        """Of one row, whatever it is."""
        return self.others.get(row, float(self.values[row]))

    def picked(self, rows: NDArray[np.intp]) -> Self:
        """Some of its rows, in the order given."""
        others = self.others and {
            new: self.others[old] for new, old in enumerate(rows.tolist()) if old in self.others
        }  # fmt: skip
        return type(self)(
            self.time[rows], self.values[rows], others, self.status[rows], self.backfilled[rows], self.untimed[rows]
        )

    def between(self, start: int, end: int) -> Self:
        """Those of a span (ns), start inclusive, end exclusive; the series is in order."""
        if not len(self) or (self.time[0] >= start and self.time[-1] < end):
            return self
        return self.picked(np.arange(*self.time.searchsorted((start, end))))

    def usable(self) -> NDArray[np.bool_]:
        """Rows that hold a finite number whose status is not Bad: what can be drawn and averaged."""
        return np.isfinite(self.values) & (self.status >> np.uint32(30) < BAD)


def joined(parts: Sequence[Series], *, in_time: bool = True) -> Series:
    """One series in the order of time; of the same time, or where that is not asked for, in the order of the parts."""
    if not parts:
        none = np.empty(0, np.int64)
        nothing = none.astype(np.bool_)
        return Series(none, none.astype(np.float64), {}, none.astype(np.uint32), nothing, nothing)
    others: dict[int, object] = {}
    offset = 0
    for one in parts:
        others.update((offset + row, value) for row, value in one.others.items())
        offset += len(one)
    whole = Series(
        np.concatenate([one.time for one in parts]),
        np.concatenate([one.values for one in parts]),
        others,
        np.concatenate([one.status for one in parts]),
        np.concatenate([one.backfilled for one in parts]),
        np.concatenate([one.untimed for one in parts]),
    )
    if not in_time or (whole.time[1:] >= whole.time[:-1]).all():
        return whole
    return whole.picked(np.argsort(whole.time, kind="stable"))


def without_repeats(whole: Series) -> tuple[Series, NDArray[np.bool_]]:
    """The same time, value and status twice is one reading, the first that arrived; and which rows are left.

    The series is in order.
    """
    again = np.append(np.False_, whole.time[1:] == whole.time[:-1])
    kept = np.ones(len(whole), dtype=np.bool_)
    if not again.any():
        return whole, kept
    seen: set[tuple[str, int]] = set()
    for row in np.flatnonzero(again).tolist():
        if not again[row - 1]:
            seen = {_same(whole, row - 1)}
        if (key := _same(whole, row)) in seen:
            kept[row] = False
        seen.add(key)
    return (whole if kept.all() else whole.picked(np.flatnonzero(kept))), kept


def _same(whole: Series, row: int) -> tuple[str, int]:
    return repr(whole.value(row)), int(whole.status[row])


__all__ = ["BAD", "Series", "joined", "without_repeats"]
