"""Latencies in fixed memory: quantiles over the last minute and the whole run, from a histogram of equal ratios."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

STEP: Final = math.log(1.05)
"""Neighbouring cells differ by 5 %: a quantile is right within half of that."""
FIRST_MS: Final = 0.1
CELLS: Final = 400
"""Up to 10 hours."""
SLICES: Final = 60


class Latencies:
    """Counts latencies; `turn` once a second moves the window."""

    def __init__(self) -> None:
        """Nothing counted."""
        self._run = np.zeros(CELLS, dtype=np.int64)
        self._slices = np.zeros((SLICES, CELLS), dtype=np.int64)
        self._slice = 0

    def add(self, latency_ms: float) -> None:
        """One latency; a negative one, of a clock that is ahead, counts as the smallest."""
        cell = 0 if latency_ms <= FIRST_MS else min(CELLS - 1, round(math.log(latency_ms / FIRST_MS) / STEP))
        self._run[cell] += 1
        self._slices[self._slice, cell] += 1

    def turn(self) -> None:
        """A second has passed."""
        self._slice = (self._slice + 1) % SLICES
        self._slices[self._slice] = 0

    def last_minute(self, quantile: float) -> float | None:
        """ms; None when there was none."""
        return _quantile(self._slices.sum(axis=0), quantile)

    def run(self, quantile: float) -> float | None:
        """ms, since the start; None when there was none."""
        return _quantile(self._run, quantile)


def _quantile(cells: np.ndarray[tuple[int], np.dtype[np.int64]], quantile: float) -> float | None:
    total = int(cells.sum())
    if not total:
        return None
    cell = int(np.searchsorted(np.cumsum(cells), quantile * total))
    return round(FIRST_MS * math.exp(cell * STEP), 3)
