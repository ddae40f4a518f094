"""Verdicts of the portability linter as people and programs read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.commands.console import chinese, err, t, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.config.portable import Judged, Refusing
    from inference.chip import Text
    from inference.lint import Verdict
    from inference.portability import Problem

VERDICTS: Final = {
    "runs": "runs", "after_passes": "runs after passes", "undocumented": "nothing documented against it",
    "refused": "refused",
}
_SHOWN: Final = 3
"""Reasons in one cell of the table; all of them stand in the JSON."""


def said(text: Text) -> str:
    """In the language in use."""
    return text[1 if chinese() else 0]


def about(problem: Problem) -> str:
    """With its node, where it is about one."""
    return f"{problem.node}: {said(problem.reason)}" if problem.node else said(problem.reason)


def reasons(problems: Sequence[Problem]) -> str:
    """The first ones, and how many there are besides."""
    told = list(dict.fromkeys(map(about, problems)))
    more = len(told) - _SHOWN
    if more > 0:
        told[_SHOWN:] = [t("and {count} more", count=more)]
    return "; ".join(told)


def verdict_json(one: Verdict) -> dict[str, Any]:
    """One verdict for programs, with every reason in both languages."""
    return {
        "vendor": one.vendor, "route": one.route, "evidence": one.evidence, "verdict": one.outcome,
        "passes": list(one.passes),
        "problems": [
            {"kind": each.kind, "node": each.node, "operator": each.operator, "reason": each.reason.en,
             "reason_zh": each.reason.zh}
            for each in one.problems
        ],
        "not_documented": [each.en for each in one.unknown],
        "tried": [
            {"pass": each.name, "outcome": each.outcome, "reason": each.reason.en if each.reason else "",
             "judge": each.judge, "max_abs": each.max_abs}
            for each in one.done
        ],
    }


def told(found: Sequence[Judged], refusing: Sequence[Refusing] = ()) -> None:
    """A short table, and a warning for each pipeline whose first device refuses its model."""
    rows = [
        (one.model, each.vendor, t(VERDICTS[each.outcome]), ", ".join(each.passes),
         reasons(each.problems) if each.outcome == "refused" else "")
        for one in found
        for each in one.verdicts
    ]
    if rows:
        table(t("What makers' devices do with the models, by documents:"),
              [t(one) for one in ("model", "vendor", "verdict", "passes", "reason")], rows)  # fmt: skip
    for one in found:
        if one.problem:
            said_ = t("{model} was not judged: {reason}", model=one.model, reason=one.problem)
            err.print(said_, style="yellow", markup=False)
    for each in refusing:
        err.print(warning(each), style="yellow", markup=False)


def warning(one: Refusing) -> str:
    """In the language in use."""
    return t("Warning: {pipeline}: {device} will refuse {model}: {reason}", pipeline=one.pipeline, device=one.device,
             model=one.model, reason=reasons(one.verdict.problems))  # fmt: skip


def as_members(found: Sequence[Judged], refusing: Sequence[Refusing] = ()) -> dict[str, Any]:
    """`portability` and `warnings` of a JSON answer."""
    return {
        "portability": [
            {"model": one.model, "problem": one.problem, "verdicts": [verdict_json(each) for each in one.verdicts]}
            for one in found
        ],
        "warnings": [
            {"pipeline": one.pipeline, "device": one.device, "model": one.model, **verdict_json(one.verdict)}
            for one in refusing
        ],
    }
