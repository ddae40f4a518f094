"""ONNX's own backend cases on a device: each is run, and its answers are held to what ONNX expects."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple  # noqa: UP035 - 3.8

import numpy as np

from . import RefusalError, RunError
from .precision import CLASSES, native

if TYPE_CHECKING:
    from typing import Any

    from . import Case, Opened, Target, Value

OUTCOMES = ("passed", "fallen_back", "differs", "refused", "failed")
"""`refused`: not taken, by the device or at our border. `fallen_back`: right, but not all of it by the device."""
WRONG = ("fallen_back", "differs", "failed")
"""Outcomes of a device that took the case."""


class Result(NamedTuple):
    """What became of one case; `reason` is empty exactly when it passed."""

    case: str
    operator: str
    outcome: str
    reason: str = ""
    kind: str = "node"


def judged(target: Target, chosen: Iterable[Case]) -> Iterator[Result]:
    """Judge each case on the device. What the device does wrong is a result, never an exception."""
    for case in chosen:
        outcome, reason = _judged(target, case)
        yield Result(case.name, case.operator, outcome, reason, case.kind)


def counts(results: Sequence[Result]) -> Dict[str, int]:  # noqa: UP006 - Python 3.8
    """Cases by outcome."""
    found = Counter(one.outcome for one in results)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def by_operator(results: Sequence[Result]) -> Dict[str, Dict[str, int]]:  # noqa: UP006 - Python 3.8
    """For each operator, sorted, how many cases had which outcome."""
    names = sorted({one.operator for one in results})
    return {name: counts([one for one in results if one.operator == name]) for name in names}


def _judged(target: Target, case: Case) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    if case.barred:
        return "refused", case.barred
    try:
        session = target.open(case.graph)
    except RefusalError as error:
        return "refused", str(error)
    except RunError as error:
        return "failed", str(error)
    try:
        return _answers(session, case, _within(target))
    except RunError as error:
        return "failed", str(error)
    finally:
        session.close()


def _within(target: Target) -> Tuple[float, float]:  # noqa: UP006 - Python 3.8
    """What floating-point answers may differ by beyond what a case allows: of a device that has no fp32."""
    own = native(target.precisions)
    return (0.0, 0.0) if own == "fp32" else CLASSES.get(own, (0.0, 0.0))


def _answers(session: Opened, case: Case, within: Tuple[float, float]) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    for given, expected in case.vectors:
        outputs = session.run({spec.name: value for spec, value in zip(case.graph.inputs, given)})  # noqa: B905 - 3.8
        for spec, value in zip(case.graph.outputs, expected):  # noqa: B905 - Python 3.8
            reason = difference(value, outputs[spec.name], case.rtol, case.atol, within)
            if reason:
                return "differs", f"output {spec.name!r}: {reason}"
    placed = session.placement
    if placed.whole:
        return "passed", ""
    return "fallen_back", ", ".join(placed.fallen_back) or placed.reason or "where the nodes run is unknown"


def difference(
    want: Value, have: Value, rtol: float, atol: float, within: Tuple[float, float] = (0.0, 0.0)  # noqa: UP006 - 3.8
) -> str:
    """Why the answer is not the expected one, empty where it is; NaN is equal to NaN, as ONNX's own runner has it.

    `within`: relative and absolute, that floating-point numbers may differ by beyond `rtol` and `atol`.
    """
    if want is None or have is None:
        return "" if want is None and have is None else "something, where nothing was expected, or the other way round"
    if isinstance(want, (list, tuple)) or isinstance(have, (list, tuple)):
        return _sequences(want, have, rtol, atol, within)
    return _arrays(np.asarray(want), np.asarray(have), rtol, atol, within)


def _sequences(
    want: Value, have: Value, rtol: float, atol: float, within: Tuple[float, float]  # noqa: UP006 - Python 3.8
) -> str:
    if not isinstance(want, (list, tuple)) or not isinstance(have, (list, tuple)):
        return "a sequence, where a tensor was expected, or the other way round"
    if len(want) != len(have):
        return f"{len(have)} items, expected {len(want)}"
    reasons = (difference(one, other, rtol, atol, within) for one, other in zip(want, have))  # noqa: B905 - Python 3.8
    return next((f"item {number}: {one}" for number, one in enumerate(reasons) if one), "")


def _arrays(
    want: Any, have: Any, rtol: float, atol: float, within: Tuple[float, float]  # noqa: ANN401, UP006 - arrays, 3.8
) -> str:
    if want.shape != have.shape:
        return f"shape {list(have.shape)}, expected {list(want.shape)}"
    if want.dtype.kind in "OUS" or have.dtype.kind in "OUS":
        return "" if np.array_equal(want.astype(str), have.astype(str)) else "other text"
    if want.dtype != have.dtype:
        return f"{have.dtype}, expected {want.dtype}"
    if want.dtype.kind in "fc":
        rtol, atol = max(rtol, within[0]), max(atol, within[1])
    if np.allclose(have, want, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    if want.dtype.kind in "fc" and (np.isnan(have) != np.isnan(want)).any():
        return "NaN where a number was expected, or the other way round"
    return f"differs by up to {largest(want, have):.3g}"


def largest(want: Any, have: Any) -> float:  # noqa: ANN401 - arrays
    """The greatest absolute difference; NaN where there is no number in it."""
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        gap = np.abs(np.asarray(have).astype(wide) - want.astype(wide))
    return float(np.nanmax(gap)) if gap.size and not np.isnan(gap).all() else float("nan")


def wrong(results: Sequence[Result], right: Optional[Iterable[str]]) -> Tuple[Result, ...]:  # noqa: UP006, UP045 - 3.8
    """Cases the device took and answered wrongly although the yardstick has them right; of all, where there is none."""
    held = None if right is None else frozenset(right)
    return tuple(one for one in results if one.outcome in WRONG and (held is None or one.case in held))
