"""What compacting works on: stored batches in, chunks out. Pure and vectorised."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from app import chunks
from app.series import Series, joined
from app.times import NANOS
from connectors import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

MOST: Final = 16_384
"""Readings of a chunk at most: of more, a range of time costs more than it gives, and room is no longer saved."""
FULL: Final = 99
"""The level of chunks that are not merged any more."""
JUMP_NS: Final = 90 * 86_400 * NANOS
"""A chunk ends before a jump like this: one reading of a clock that began at 1970 would make it cover everything."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What readings of one chunk have in common."""

    tag: int
    connection: int


@dataclass(frozen=True, slots=True)
class Made:
    """A chunk to be."""

    kind: Kind
    series: Series
    received_time: int
    """ns: when the newest of its readings was received."""
    level: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """Readings of many tags that arrived together."""

    connection: int
    backfilled: bool
    received_time: int
    tags: NDArray[np.int64]
    source_time: NDArray[np.int64]
    values: NDArray[np.float64]
    others: Mapping[int, object]
    status: NDArray[np.uint32]


def by_tag(arrived: Sequence[Arrived]) -> Iterator[Made]:
    """Chunks of level 0; what arrived is in order of arrival."""
    groups: dict[int, list[Arrived]] = defaultdict(list)
    for one in arrived:
        groups[one.connection].append(one)
    for connection, some in groups.items():
        yield from _of_connection(connection, some)


def _of_connection(connection: int, arrived: Sequence[Arrived]) -> Iterator[Made]:
    lengths = [len(one.tags) for one in arrived]
    received = np.repeat([one.received_time for one in arrived], lengths)
    tags = np.concatenate([one.tags for one in arrived])
    whole = joined([_series(one) for one in arrived], in_time=False)
    order = np.lexsort((whole.time, tags))
    for rows in np.split(order, np.flatnonzero(np.diff(tags[order])) + 1):
        kind = Kind(int(tags[rows[0]]), connection)
        yield from pieces(kind, whole.picked(rows), int(received[rows].max()), 0)


def _series(one: Arrived) -> Series:
    untimed = one.source_time == NO_TIME
    time = np.where(untimed, one.received_time, one.source_time)
    return Series(time, one.values, one.others, one.status, np.full(len(time), one.backfilled), untimed)


def merged(kind: Kind, parts: Sequence[Series], received_time: int, level: int) -> Iterator[Made]:
    """One level higher; the parts are in order of arrival."""
    yield from pieces(kind, joined(parts), received_time, level + 1)


def pieces(kind: Kind, series: Series, received_time: int, level: int) -> Iterator[Made]:
    """As few chunks as may be, none of nothing; one that is half full is full."""
    if not len(series):
        return
    jumps = np.flatnonzero(np.diff(series.time) > JUMP_NS) + 1
    for rows in np.split(np.arange(len(series)), jumps):
        for part in np.array_split(rows, -(-len(rows) // MOST)):
            reached = FULL if len(part) >= MOST // 2 else level
            yield Made(kind, series if len(part) == len(series) else series.picked(part), received_time, reached)


def rows_of(made: Iterable[Made]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Axes by digest, and rows of chunks; times that two or more share are an axis."""
    all_made = list(made)
    digests = [_digest(one.series.time) for one in all_made]
    often = defaultdict[str, int](int)
    for digest in digests:
        often[digest] += 1
    axes: dict[str, bytes] = {}
    found = []
    for one, digest in zip(all_made, digests, strict=True):
        shared = often[digest] > 1
        if shared and digest not in axes:
            axes[digest] = chunks.encode_whole(one.series.time)
        found.append(_row(one, digest if shared else None))
    return axes, found


def _digest(time: NDArray[np.int64]) -> str:
    return hashlib.blake2b(time.astype("<i8", copy=False).tobytes(), digest_size=20).hexdigest()


def _row(made: Made, axis: str | None) -> dict[str, Any]:
    series, kind = made.series, made.kind
    usable = series.usable()
    numbers = series.values if usable.all() else series.values[usable]
    return {
        "tag_id": kind.tag,
        "connection_id": kind.connection,
        "first_time": int(series.time[0]),
        "last_time": int(series.time[-1]),
        "received_time": made.received_time,
        "readings": len(series),
        "level": made.level,
        "usable": len(numbers),
        "minimum": float(numbers.min()) if len(numbers) else None,
        "maximum": float(numbers.max()) if len(numbers) else None,
        "mean": _mean(numbers) if len(numbers) else None,
        "axis": axis,
        "block": chunks.encode(series, with_time=axis is None),
    }


def _mean(numbers: NDArray[np.float64]) -> float | None:
    """None when it lies beyond what a float64 holds."""
    with np.errstate(over="ignore"):
        mean = float(numbers.mean())
    return mean if np.isfinite(mean) else None
