"""A model made ready and freed many times: whether memory stays flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, NamedTuple, Tuple  # noqa: UP035 - Python 3.8

import numpy as np

from . import FAILED, PASSED

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import Question, Target

RELOADS = 1000
POINTS = 50
"""Sizes noted on the way."""
BOUND = 4096
"""Bytes a reload: what 1,000 of them leave behind stays under 4 MB."""
_WARM = 0.3
"""The part at the beginning in which allocators grow to their size."""


class Reload(NamedTuple):
    """Resident memory over the reloads, in bytes."""

    model: str
    reloads: int
    first: int
    last: int
    slope: float
    """Bytes a reload, by least squares over what comes after the warm-up."""
    bound: int
    wrong_answers: int
    sizes: Tuple[int, ...]  # noqa: UP006 - Python 3.8


def reload(target: Target, question: Question, times: int, tell: Callable[[int], None]) -> Reload:
    """Open, run once, close, again and again. `tell` hears how many were done."""
    sizes: List[int] = []  # noqa: UP006 - Python 3.8
    at: List[int] = []  # noqa: UP006 - Python 3.8
    wrong, first = 0, None
    every = max(1, times // POINTS)
    for number in range(times):
        session = target.open(question.graph)
        answer = session.run(question.inputs)
        session.close()
        first = answer if first is None else first
        wrong += not all(np.array_equal(answer[name], value) for name, value in first.items())
        if (number + 1) % every == 0:
            sizes.append(target.resident())
            at.append(number + 1)
            tell(number + 1)
    return Reload(question.graph.name, times, sizes[0], sizes[-1], slope(at, sizes), BOUND, wrong, tuple(sizes))


def slope(at: Any, sizes: Any) -> float:  # noqa: ANN401 - sequences of numbers
    """Bytes a reload, over what comes after the warm-up."""
    begin = int(len(at) * _WARM)
    if len(at) - begin <= 1:
        return 0.0
    return round(float(np.polyfit(np.asarray(at[begin:], float), np.asarray(sizes[begin:], float), 1)[0]), 1)


def verdict(row: Reload) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """Memory that grows, or another answer."""
    if row.wrong_answers:
        return FAILED, f"{row.wrong_answers} of {row.reloads} reloads answered otherwise"
    if row.slope > row.bound:
        return FAILED, f"memory grows by {row.slope:.0f} bytes a reload, allowed are {row.bound}"
    return PASSED, ""
