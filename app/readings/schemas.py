"""What the history answers with: one reading, what arrived together, and a trend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Columns: TypeAlias = (
    "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Mapping[int, object], NDArray[np.uint32]]"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one tag at one instant (ns)."""

    time: int
    value: object
    status: int
    backfilled: bool = False
    """Read from the peer's history after a gap."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Readings of the history that lie together: a batch, or a chunk of one tag."""

    received_time: int
    """ns: when they were received, or the newest of them was."""
    backfilled: bool
    columns: Columns
    """tags, source_time, values, others, status: those of `connectors.Batch`."""
    time: NDArray[np.int64]
    """ns: the source time, or when it was received where there is none."""
    compacted: bool = False
    """Of a chunk: `received_time` is that of the newest alone."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A span in equal buckets, columns of length n; of finite numbers whose status is not Bad."""

    start: NDArray[np.int64]
    """ns: where each bucket begins; it ends where the next does."""
    count: NDArray[np.int64]
    minimum: NDArray[np.float64]
    """NaN where the bucket is empty, as in the other two."""
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
