"""The sections of a conformance run, in their order, and the report that they make."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple  # noqa: UP035 - Python 3.8

from . import FAILED, NOT_POSSIBLE, PASSED, LostError, RefusalError, RunError, faults, lasting, nodes, precision, timing
from . import process as processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import Case, Graph, Json, Question, Target

SCHEMA = "headrace-conformance/2"
SECTIONS = (
    "nodes", "golden", "finite", "placement", "latency", "concurrency", "reload", "cancel", "restart", "faults",
)
QUICK = ("golden", "finite", "placement", "latency", "concurrency", "reload", "faults")
QUICK_RELOADS = 50
Verdict = Tuple[str, str]  # noqa: UP006 - Python 3.8


class Section(NamedTuple):
    """What one section found; `reason` says why it did not pass."""

    section: str
    verdict: str
    reason: str
    seconds: float
    facts: Json


@dataclass(frozen=True)
class Material:
    """What the kit carries."""

    cases: Sequence[Case] = ()
    questions: Sequence[Question] = ()
    """Models of the classes that plants use; the first is the small one that sections about the session use."""
    long: Sequence[Question] = ()
    """The same model from small to large, for runs that are cut off."""
    foreign: Optional[Graph] = None  # noqa: UP045 - Python 3.8
    """Has an operator that nobody has."""
    right: Optional[Sequence[str]] = None  # noqa: UP045 - Python 3.8
    """Cases that the yardstick has right; None: there is no yardstick, and every wrong case counts."""
    yardstick: str = ""
    """What that is."""


@dataclass
class Run:
    """One run over a device."""

    target: Target
    material: Material
    wanted: Sequence[str] = SECTIONS
    reloads: int = lasting.RELOADS
    progress: Optional[Callable[[str, int, int], None]] = None  # noqa: UP045 - Python 3.8
    """Hears the section, how much of it is done, and of how much."""
    _golden: Optional[List[precision.Golden]] = field(default=None, init=False)  # noqa: UP006, UP045 - Python 3.8
    _long: Any = field(default=None, init=False)

    def sections(self) -> List[Section]:  # noqa: UP006 - Python 3.8
        """Every section that is wanted. What the device does wrong is a verdict, never an exception."""
        return [self._section(name) for name in SECTIONS if name in self.wanted]

    def tell(self, section: str, done: int, total: int) -> None:
        """Say how far a section is."""
        if self.progress is not None:
            self.progress(section, done, total)

    def _section(self, name: str) -> Section:
        self.tell(name, 0, 0)
        began = time.monotonic()
        try:
            verdict, facts = getattr(self, "_" + name + "_section")()
        except LostError as error:
            verdict, facts = (FAILED, str(error)[:600]), {}
        except RefusalError as error:
            verdict, facts = (NOT_POSSIBLE, str(error)[:600]), {}
        except RunError as error:
            verdict, facts = (FAILED, str(error)[:600]), {}
        return Section(name, verdict[0], verdict[1], round(time.monotonic() - began, 3), facts)

    def _nodes_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        results = []
        for number, one in enumerate(nodes.judged(self.target, self.material.cases), 1):
            results.append(one)
            if number % 100 == 0:
                self.tell("nodes", number, len(self.material.cases))
        counted = nodes.counts(results)
        wrong = nodes.wrong(results, self.material.right)
        facts = {
            "counts": counted, "kinds": {kind: nodes.counts([one for one in results if one.kind == kind])
                                         for kind in sorted({one.kind for one in results})},
            "coverage_percent": round(100 * counted["passed"] / max(1, len(results)), 2),
            "yardstick": self.material.yardstick,
            "yardstick_passed": None if self.material.right is None else len(set(self.material.right)),
            "wrong": [one.case for one in wrong],
            "operators": nodes.by_operator(results), "cases": [one._asdict() for one in results],
        }
        if wrong:
            said = ", ".join(f"{one.case} ({one.outcome})" for one in wrong[:20])
            return (FAILED, f"{len(wrong)} cases taken and answered otherwise than expected: {said}"), facts
        if not counted["passed"]:
            return (NOT_POSSIBLE, "no case was taken and passed"), facts
        return (PASSED, ""), facts

    def _rows(self) -> List[precision.Golden]:  # noqa: UP006 - Python 3.8
        if self._golden is None:
            self._golden = precision.asked(self.target, self.material.questions)
        return self._golden

    def _golden_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        rows = self._rows()
        keys = ("model", "precision", "asked", "outcome", "reason", "max_abs", "rtol", "atol")
        return precision.golden_verdict(rows), {
            "rows": [_some(one, keys) for one in rows], "sources": dict(precision.SOURCES),
            "models": {one.graph.name: one.what for one in self.material.questions},
        }

    def _finite_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        rows = self._rows()
        return precision.finite_verdict(rows), {"rows": [_some(one, ("model", "precision", "finite")) for one in rows]}

    def _placement_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        rows = self._rows()
        keys = ("model", "precision", "nodes", "on_device", "fallen_back", "placement_reason")
        return precision.placement_verdict(rows), {"rows": [_some(one, keys) for one in rows if one.finite is not None]}

    def _latency_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        rows = timing.latency(self.target, [one for one in self.material.questions if one.precision == "fp32"])
        return timing.latency_verdict(rows), {"rows": [one._asdict() for one in rows], "warm_up_runs": timing.WARM}

    def _concurrency_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        row = timing.concurrency(self.target, self._small())
        return timing.concurrency_verdict(row), row._asdict()

    def _reload_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        row = lasting.reload(
            self.target, self._small(), self.reloads, lambda done: self.tell("reload", done, self.reloads)
        )
        return lasting.verdict(row), row._asdict()

    def _long_run(self) -> Tuple[Question, float]:  # noqa: UP006 - Python 3.8
        """Raises RefusalError where the device has none."""
        if self._long is None:
            self._long = processes.long_enough(self.target, self.material.long)
        question, took, reason = self._long
        if question is None:
            raise RefusalError(reason)
        return question, took

    def _cancel_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        question, took = self._long_run()
        row = processes.cancel(self.target, question, took, self._small())
        return processes.cancel_verdict(row), row._asdict()

    def _restart_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        question, took = self._long_run()
        row = processes.restart(self.target, question, took)
        return processes.restart_verdict(row), row._asdict()

    def _faults_section(self) -> Tuple[Verdict, Json]:  # noqa: UP006 - Python 3.8
        if self.material.foreign is None:
            message = "the kit has no model with an unknown operator"
            raise RefusalError(message)
        rows = faults.faults(self.target, self._small(), self.material.foreign)
        return faults.verdict(rows), {"rows": [one._asdict() for one in rows]}

    def _small(self) -> Question:
        """The first model that the device takes. Raises RefusalError with what it said of the first."""
        refusal = RefusalError("the kit has no models")
        for one in self.material.questions:
            try:
                self.target.open(one.graph).close()
            except RefusalError as error:
                refusal = error
                continue
            return one
        raise refusal


def _some(row: Any, keys: Sequence[str]) -> Json:  # noqa: ANN401 - a NamedTuple
    given = row._asdict()
    return {key: list(given[key]) if isinstance(given[key], tuple) else given[key] for key in keys}


def total(sections: Sequence[Section]) -> str:
    """The verdict of the whole.

    `failed` where a section failed; `not_possible` where none passed; `partly` where not all could be done or were
    asked for; else `passed`.
    """
    verdicts = [one.verdict for one in sections]
    if FAILED in verdicts:
        return FAILED
    if PASSED not in verdicts:
        return NOT_POSSIBLE
    whole = len(verdicts) == len(SECTIONS) and NOT_POSSIBLE not in verdicts
    return PASSED if whole else "partly"


def report(
    sections: Sequence[Section], *, made_at: str, device: Dict[str, str], versions: Dict[str, str],  # noqa: UP006
    selection: str, reloads: int,
) -> Json:
    """What is signed: plain JSON, without NaN or infinity."""
    found: Json = {
        "made_at": made_at, "device": device, "versions": versions, "selection": selection, "reloads": reloads,
        "verdict": total(sections), "sections": [_plain(one._asdict()) for one in sections],
    }
    return found


def _plain(value: Any) -> Any:  # noqa: ANN401 - anything that JSON can hold
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    # JSON has neither NaN nor infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value
