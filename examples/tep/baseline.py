"""The baseline of every paper: principal components of normal operation, alarms on Hotelling's T² and on SPE (Q)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VARIANCE_KEPT: Final = 0.9
CHUNK: Final = 4096


@dataclass(frozen=True, slots=True)
class Principal:
    """A PCA model of normal rows."""

    centre: NDArray[np.float64]
    loadings: NDArray[np.float64]
    """Shape (columns, components)."""
    variances: NDArray[np.float64]

    def statistics(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """T² and SPE of each row (n, columns): shape (2, n)."""
        parts = [self._part(rows[i : i + CHUNK].astype(np.float64)) for i in range(0, len(rows), CHUNK)]
        return np.concatenate(parts, axis=1)

    def _part(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """T² and SPE of some rows."""
        centred = rows - self.centre
        scores = centred @ self.loadings
        residual = centred - scores @ self.loadings.T
        return np.stack([(scores**2 / self.variances).sum(axis=1), (residual**2).sum(axis=1)])


def fit(rows: NDArray[np.floating]) -> Principal:
    """Principal components of standardised normal rows (n, columns), as many as hold 90 % of the variance."""
    centre = rows.mean(axis=0, dtype=np.float64)
    variances, vectors = np.linalg.eigh(np.cov(rows.astype(np.float64), rowvar=False))
    variances, vectors = variances[::-1], vectors[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), VARIANCE_KEPT)) + 1
    return Principal(centre, vectors[:, :kept], variances[:kept])


def limits(statistics: NDArray[np.float64], false_alarm_rate: float) -> NDArray[np.float64]:
    """One limit per statistic, shape (k,), from normal windows (k, n): the same quantile for each.

    The quantile is the lowest at which at most this share of the windows is above any of the limits.
    """
    for quantile in np.linspace(1.0 - false_alarm_rate, 1.0, 401):
        tried = np.quantile(statistics, quantile, axis=1)
        if (statistics > tried[:, None]).any(axis=0).mean() <= false_alarm_rate:
            break
    return np.asarray(tried, dtype=np.float64)
