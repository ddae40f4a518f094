"""What an answer may differ by, for each precision class, and how answers are held to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple  # noqa: UP035 - Python 3.8

import numpy as np

from . import FAILED, NOT_POSSIBLE, PASSED, RefusalError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from . import Feeds, Placement, Question, Target

CLASSES: Dict[str, Tuple[float, float]] = {  # noqa: UP006 - Python 3.8
    "fp32": (1e-4, 1e-4), "fp16": (1e-2, 1e-2), "bf16": (5e-2, 5e-2), "int8": (1e-1, 1e-1),
}
"""Relative and absolute: |answer - expected| <= absolute + relative * |expected|."""
SOURCES = {
    "fp32": "u = 2^-24 (IEEE 754 binary32); a sum of n products errs by at most n u/(1 - n u) (Higham, Accuracy and "
            "Stability of Numerical Algorithms, 2nd ed., 3.1): 6e-5 at n = 1,000",
    "fp16": "u = 2^-11 (IEEE 754 binary16), sums kept in binary32: 20 roundings one after the other, 20 u = 1e-2",
    "bf16": "u = 2^-8, sums kept in binary32: 12 roundings one after the other, 12 u = 5e-2",
    "int8": "a step is 1/127 of a tensor's range (ONNX QuantizeLinear): 12 of them one after the other, 1e-1",
}
"""Where each comes from."""


class Golden(NamedTuple):
    """One model in one precision class, and how its answers compare with the evaluator's."""

    model: str
    precision: str
    asked: str
    """The precision the device was asked for: first what it computes in unasked, as the model's own types decide."""
    outcome: str
    """passed, differs, refused, failed."""
    reason: str
    max_abs: Optional[float]  # noqa: UP045 - Python 3.8
    rtol: float
    atol: float
    finite: Optional[bool]  # noqa: UP045 - Python 3.8
    """None where there was no answer."""
    nodes: int
    on_device: int
    fallen_back: Tuple[str, ...]  # noqa: UP006 - Python 3.8
    placement_reason: str


def native(precisions: Sequence[str]) -> str:
    """What a device computes in unasked: fp32, or the first that it can be asked for where it has none."""
    return "fp32" if "fp32" in precisions else precisions[0]


def coarser(one: str, other: str) -> str:
    """Of two classes the one that allows more; a maker's own mixture has none, and is held to the other's."""
    return max((each for each in (one, other) if each in CLASSES), key=lambda each: CLASSES[each])


def asked(target: Target, questions: Iterable[Question]) -> List[Golden]:  # noqa: UP006 - Python 3.8
    """Every model as it is, and in each further precision that the device can be asked for."""
    found, own = [], native(target.precisions)
    for one in questions:
        if one.wide and CLASSES.get(own, CLASSES["fp32"]) > CLASSES["fp32"]:
            # It leaves the range of half precision, which is no fault of a device that has nothing wider.
            continue
        found.append(_golden(target, one, own, coarser(own, one.precision)))
        if one.precision == "fp32" and not one.wide:
            # A maker's own mixture has no class that it could be held to.
            further = [each for each in target.precisions if each in CLASSES and each != own]
            found += [_golden(target, one, each, each) for each in further]
    return found


def _golden(target: Target, question: Question, wish: str, precision: str) -> Golden:
    head = (question.graph.name, precision, wish)

    def without(outcome: str, error: Exception) -> Golden:
        return Golden(*head, outcome, str(error), None, *CLASSES[precision], None, question.graph.nodes, 0, (), "")

    try:
        session = target.open(question.graph, wish, question.inputs)
    except RefusalError as error:
        return without("refused", error)
    except RunError as error:
        return without("failed", error)
    try:
        answer = session.run(question.inputs)
    except RunError as error:
        return without("failed", error)
    finally:
        session.close()
    return _compared(head, question, answer, session.placement)


def _compared(head: Tuple[str, str, str], question: Question, answer: Feeds, placed: Placement) -> Golden:  # noqa: UP006
    worst, reasons, finite = 0.0, [], True
    rtol, atol = CLASSES[head[1]]
    for name, want in question.outputs.items():
        reason, gap, is_finite = compared(want, answer[name], *question.tolerances.get(name, (rtol, atol)))
        finite = finite and is_finite
        worst = max(worst, gap)
        if reason:
            reasons.append(f"output {name!r}: {reason}")
    return Golden(*head, "differs" if reasons else "passed", "; ".join(reasons), worst if finite else None, rtol, atol,
                  finite, placed.nodes, placed.on_device, tuple(placed.fallen_back), placed.reason)


def compared(want: Any, have: Any, rtol: float, atol: float) -> Tuple[str, float, bool]:  # noqa: ANN401, UP006
    """Why the answer is not as expected (empty where it is), the greatest difference, whether it is finite."""
    given, expected = np.asarray(have), np.asarray(want)
    if given.shape != expected.shape or given.dtype.kind != expected.dtype.kind:
        return f"{given.dtype} {list(given.shape)}, expected {expected.dtype} {list(expected.shape)}", 0.0, True
    if given.dtype.kind != "f":
        return "" if np.array_equal(given, expected) else "other values", 0.0, True
    if not np.isfinite(given).all():
        return "not finite", 0.0, False
    wide = expected.astype(np.float64)
    gap = np.abs(given.astype(np.float64) - wide)
    worst = float(gap.max()) if gap.size else 0.0
    return ("" if (gap <= atol + rtol * np.abs(wide)).all() else f"differs by up to {worst:.3g}"), worst, True


def golden_verdict(rows: List[Golden]) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """Wrong answers fail; a model that is refused is coverage; nothing taken is not possible."""
    wrong = [f"{one.model} {one.precision}: {one.reason}" for one in rows if one.outcome in ("differs", "failed")]
    if wrong:
        return FAILED, "; ".join(wrong)[:600]
    return _taken(rows)


def finite_verdict(rows: List[Golden]) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """NaN or infinity where the evaluator has numbers."""
    wrong = [f"{one.model} {one.precision}" for one in rows if one.finite is False]
    return (FAILED, "not finite: " + ", ".join(wrong)) if wrong else _taken(rows)


def placement_verdict(rows: List[Golden]) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """Nodes elsewhere, or of which nobody knows where they ran."""
    taken = [one for one in rows if one.outcome in ("passed", "differs")]
    wrong = [
        "{}: {}".format(one.model, ", ".join(one.fallen_back[:5]) or one.placement_reason)
        for one in taken if one.on_device != one.nodes or one.fallen_back
    ]
    return (FAILED, "; ".join(wrong)[:600]) if wrong else _taken(rows)


def _taken(rows: List[Golden]) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    if any(one.outcome == "passed" for one in rows):
        return PASSED, ""
    return NOT_POSSIBLE, "the device takes none of the models: " + (rows[0].reason[:300] if rows else "there is none")
