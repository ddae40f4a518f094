"""Rows that lie below one another with what is known of each, and where windows end in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from inference.windower_spec import FLAWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SLACK_ROWS: Final = 256


class Band:
    """Rows side by side: values, statuses, and per row the worst status and the first cell that was refused."""

    __slots__ = ("culprit", "status", "value", "why", "worst")

    def __init__(self, value: NDArray[np.float64], status: NDArray[np.uint32], flaw: NDArray[np.uint8]) -> None:
        """Summarise rows of shape (k, inputs)."""
        self.value, self.status = value, status
        self.worst: NDArray[np.uint32] = status.max(axis=1)
        self.culprit: NDArray[np.int64] = np.zeros(len(flaw), dtype=np.int64)
        self.why: NDArray[np.uint8] = np.zeros(len(flaw), dtype=np.uint8)
        if flaw.any():
            self.culprit = (flaw > 0).argmax(axis=1)
            self.why = flaw[np.arange(len(flaw)), self.culprit]

    @classmethod
    def made(
        cls,
        value: NDArray[np.float64],
        status: NDArray[np.uint32],
        worst: NDArray[np.uint32],
        culprit: NDArray[np.int64],
        why: NDArray[np.uint8],
    ) -> Band:
        """Of rows that were summarised before."""
        made = cls.__new__(cls)
        made.value, made.status, made.worst, made.culprit, made.why = value, status, worst, culprit, why
        return made

    @classmethod
    def of(cls, bands: list[Band]) -> Band:
        """One below the other."""
        if len(bands) == 1:
            return bands[0]
        return cls.made(
            np.concatenate([band.value for band in bands]),
            np.concatenate([band.status for band in bands]),
            np.concatenate([band.worst for band in bands]),
            np.concatenate([band.culprit for band in bands]),
            np.concatenate([band.why for band in bands]),
        )

    def rows(self, begin: int, end: int) -> Band:
        """Some of them."""
        if begin == 0 and end == len(self.value):
            return self
        return Band.made(
            self.value[begin:end], self.status[begin:end], self.worst[begin:end], self.culprit[begin:end],
            self.why[begin:end],
        )  # fmt: skip

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.value)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Windows over a band, before they have a number and a context."""

    band: Band
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    quality: NDArray[np.uint32]
    refused: tuple[tuple[int, str], ...]

    def then(self, other: Cuts) -> Cuts:
        """These, then those."""
        rows, n = len(self.band), len(self.first)
        return Cuts(
            Band.of([self.band, other.band]),
            np.concatenate((self.first, other.first + rows)),
            np.concatenate((self.start, other.start)),
            np.concatenate((self.end, other.end)),
            np.concatenate((self.quality, other.quality)),
            (*self.refused, *((i + n, reason) for i, reason in other.refused)),
        )


def ends_of(total: int, fresh: int, number: int, length: int, hop: int) -> NDArray[np.int64]:
    """Which of `total` rows, the last `fresh` of them new, a window ends with.

    `number`: the first row's place on the grid, counted from 1970 in steps.
    """
    first = max(total - fresh, length - 1)
    first += -(number + first) % hop
    return np.arange(first, total, hop, dtype=np.int64)


def rows_kept(total: int, length: int) -> int:
    """How many of `total` rows stay while no window ends: what the next one needs, not moved at every call."""
    return length - 1 if total > 2 * length + SLACK_ROWS else total


def refusals(
    why: NDArray[np.uint8], culprit: NDArray[np.int64], first: NDArray[np.int64], length: int, tags: Sequence[int]
) -> tuple[tuple[int, str], ...]:
    """(window, reason) of each window, beginning with the row `first`, that has a refused row: the earliest says why.

    `why` and `culprit`, per row: an index of FLAWS, and of the input.
    """
    flawed = np.flatnonzero(why)
    if not len(flawed):
        return ()
    place = flawed.searchsorted(first)
    row = flawed[np.minimum(place, len(flawed) - 1)]
    hit = np.flatnonzero((row >= first) & (row < first + length))
    return tuple((int(i), f"{FLAWS[why[row[i]]]}:{tags[culprit[row[i]]]}") for i in hit)
