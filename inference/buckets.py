"""Any number of rows on runtimes that take fixed numbers only: cut, filled up to the next size, and cut back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from inference import InputError
from inference.adapters.tensors import join

if TYPE_CHECKING:
    from inference import Tensor
    from inference.adapters.batching import Call

SIZES: Final = (1, 4, 16, 64)
"""Rows at a time: at most four times the work that is asked for, and not many artefacts for one model."""


def cut(rows: int, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """How `rows` are run: pairs (rows of the piece, size it is filled up to), in order.

    As many pieces of the largest size as fit, then one of the smallest that holds the rest. `sizes` ascend.
    """
    most = sizes[-1]
    whole, rest = divmod(rows, most)
    pieces = [(most, most)] * whole
    if rest:
        pieces.append((rest, next(size for size in sizes if size >= rest)))
    return tuple(pieces)


def filled(value: Tensor, size: int) -> Tensor:
    """The rows of a value and, up to `size`, the last of them again: a row that the model is known to take."""
    missing = size - len(value)
    if not missing:
        return value
    return np.concatenate([value, np.broadcast_to(value[-1:], (missing, *value.shape[1:]))])


def pieces(
    feeds: Mapping[str, Tensor], batched: Sequence[str], size: int | None, most: int = 256
) -> list[dict[str, Tensor]]:
    """Feeds of one run each, with `size` rows, of the first `most` rows; one of all where `size` is None."""
    if size is None or not batched:
        return [dict(feeds)]
    rows = min(most, *(len(feeds[name]) for name in batched))
    return [
        {name: filled(value[at:min(at + size, rows)], size) if name in batched else value
         for name, value in feeds.items()}
        for at in range(0, rows, size)
    ]


def run(calls: Mapping[int, Call], feeds: Mapping[str, Tensor], batched: Sequence[str]) -> list[Tensor]:
    """Every output for all rows; `calls` by the number of rows that each takes, ascending.

    A size that fits is run as it is. Raises InputError where inputs have different numbers of rows, or none, and where
    an output does not count rows: then a row that was filled in could not be told from one that was asked for.
    """
    counts = {len(feeds[name]) for name in batched}
    rows = counts.pop() if counts else 0
    if counts or not rows:
        message = "the inputs must have the same number of rows, at least one"
        raise InputError(message)
    sizes = tuple(calls)
    if rows in sizes:
        return calls[rows](dict(feeds))
    parts, start = [], 0
    for count, size in cut(rows, sizes):
        piece = {
            name: filled(value[start:start + count], size) if name in batched else value
            for name, value in feeds.items()
        }
        parts.append([_back(value, count, size) for value in calls[size](piece)])
        start += count
    return join(parts)


def _back(value: Tensor, count: int, size: int) -> Tensor:
    if value.ndim == 0 or len(value) != size:
        message = f"an output of shape {list(value.shape)} does not count the {size} rows that went in"
        raise InputError(message)
    return value[:count]
