"""The portability linter: which route of which maker takes a model, which refuses which node, and what passes help.

It knows what vendor files say and tries the passes for real, in a child with limits. It runs nothing on a chip: what a
device really takes is found out by its activation check.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import msgspec
import onnx

from inference import InferenceError, InvalidModelError, Model, child, names
from inference.chip import Route, Text
from inference.judge import save
from inference.legalize import Done, Legalizer, Step
from inference.limits import MIB, Limits
from inference.portability import Problem, lowers, plan, problems, unknown

Outcome = Literal["runs", "after_passes", "undocumented", "refused"]
"""`undocumented`: nothing that is documented speaks against it, and no document lists the operators of that route."""
LIMITS: Final = Limits(cpu_s=900, wall_s=1200.0)
"""Passes compute the answers of the model again and again, in plain numpy."""
Precision = Literal["fp32", "fp16", "int8"]
_WRITTEN: Final = "written"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a model on one route of a maker."""

    vendor: str
    route: str
    evidence: str
    outcome: Outcome
    passes: tuple[str, ...] = ()
    """What the model goes through first; empty where it is refused."""
    problems: tuple[Problem, ...] = ()
    """Where it is refused, what is still in the way; else what the passes have removed."""
    unknown: tuple[Text, ...] = ()
    """What no document says of the route."""
    done: tuple[Done, ...] = ()
    """Every pass that was tried, and how its answers compare."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What the child is asked: absolute paths."""

    model: str
    golden: str
    vendors: tuple[str, ...]
    every: bool
    precision: Precision
    work: str
    write: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Report:
    verdicts: tuple[Verdict, ...] = ()
    problem: str = ""


def routes(vendor: str) -> tuple[Route, ...]:
    """What a vendor file says of its routes, best first; none for a device that is no runtime of a maker's."""
    module = importlib.import_module(f"inference.vendors.{vendor}")
    if hasattr(module, "CHIP"):
        found: tuple[Route, ...] = module.CHIP.routes
        return found
    return (module.ROUTE,) if hasattr(module, "ROUTE") else ()


def vendors() -> tuple[str, ...]:
    """Those whose files say what their routes take, sorted."""
    return tuple(vendor for vendor in names() if routes(vendor))


def lint(
    model: Model, wanted: Sequence[str] = (), *, every: bool = False, precision: Precision = "fp32",
    write: Path | None = None, limits: Limits = LIMITS,
) -> tuple[Verdict, ...]:
    """A verdict for each of the vendors, on its best route or on `every` one; all vendors by default.

    `precision`: what the model itself is brought to, after all else. `write`: where it goes after the passes of the
    first verdict that is no refusal. Raises InvalidModelError where the model takes more than the limits allow, and
    KeyError for a vendor without routes.
    """
    for vendor in wanted:
        if vendor not in vendors():
            message = f"{vendor!r} has no routes to judge by; there are: {', '.join(vendors())}"
            raise KeyError(message)
    with tempfile.TemporaryDirectory(prefix="headrace-lint-") as folder:
        request = _Request(
            str(model.path.resolve()), str(model.golden.resolve()) if model.golden else "", tuple(wanted) or vendors(),
            every, precision, folder, write.name if write is not None else "", limits,
        )
        answer = child.run("inference.lint", msgspec.json.encode(request), Path(folder), limits, "judging the model")
        report = msgspec.json.decode(answer, type=_Report)
        if report.problem:
            raise InvalidModelError(report.problem)
        if write is not None:
            for made in (Path(folder) / _WRITTEN).glob("*"):
                shutil.copyfile(made, write.parent / made.name)
    return report.verdicts


class _Bench:
    """One model in the child: what the passes make of it, tried only where a route asks for it."""

    def __init__(self, request: _Request) -> None:
        self._model, self._work = Path(request.model), Path(request.work)
        self._golden = Path(request.golden) if request.golden else None
        self.start = onnx.load_model(self._model)
        self._legalizer: Legalizer | None = None
        self._without = ""

    def tried(self, steps: Sequence[Step]) -> tuple[onnx.ModelProto, tuple[Done, ...]]:
        """The graph after the steps. Raises InvalidModelError where none can be checked, always with one reason."""
        if self._without:
            raise InvalidModelError(self._without)
        try:
            self._legalizer = self._legalizer or Legalizer(self._model, self._golden, self._work)
        except InferenceError as error:
            self._without = str(error)
            raise
        made = self._legalizer.applied(steps)
        return made.model, made.done


def _verdict(
    bench: _Bench, vendor: str, route: Route, precision: Precision
) -> tuple[Verdict, onnx.ModelProto]:
    found = problems(bench.start, route)
    verdict = Verdict(vendor, route.name, route.evidence, "runs", unknown=unknown(route))
    fine: Outcome = "runs" if route.has is not None or route.lacks == () else "undocumented"
    steps = plan(bench.start, route) + (() if precision == "fp32" else (Step(precision),))
    trial = (*steps, Step("fp16", everything=True)) if lowers(route) and precision == "fp32" else steps
    if not trial:
        return replace(verdict, outcome=fine), bench.start
    try:
        model, done = bench.tried(steps)
        _, done = bench.tried(trial)
    except InvalidModelError as error:
        reason = Text(f"passes cannot be tried: {error}", f"无法尝试变换：{error}")
        return replace(verdict, outcome="refused", problems=(*found, Problem("pass", reason))), bench.start
    left = (*problems(model, route), *_lowered(done))
    passes = tuple(one.name for one in done[:len(steps)] if one.outcome == "applied")
    if left:
        told = (*left, *_undone(one for one in done if one.name not in ("fp16", "int8")))
        return replace(verdict, outcome="refused", problems=told, done=done), model
    outcome: Outcome = "after_passes" if passes and fine == "runs" else fine
    return replace(verdict, outcome=outcome, passes=passes, problems=found, done=done), model


def _lowered(done: Sequence[Done]) -> Iterator[Problem]:
    """What a lower precision does to a model: one that was asked for, or that a route has nothing above of."""
    last = done[-1]
    if last.name in ("fp16", "int8") and last.reason is not None:
        yield Problem("precision", Text(f"computed in {last.name}: {last.reason.en}",
                                        f"以 {last.name} 计算：{last.reason.zh}"))


def _undone(done: Iterable[Done]) -> Iterator[Problem]:
    """Passes that were refused."""
    for one in done:
        if one.reason is not None:
            yield Problem("pass", Text(f"the pass {one.name} was refused: {one.reason.en}",
                                       f"变换 {one.name} 被拒绝：{one.reason.zh}"))


def judge(request: _Request) -> _Report:
    """Every verdict, in the child."""
    try:
        bench = _Bench(request)
        verdicts, written = [], False
        for vendor in request.vendors:
            for route in routes(vendor)[:None if request.every else 1]:
                verdict, model = _verdict(bench, vendor, route, request.precision)
                verdicts.append(verdict)
                if request.write and not written and verdict.outcome != "refused":
                    written = True
                    target = Path(request.work, _WRITTEN, request.write)
                    target.parent.mkdir()
                    save(model, target)
        return _Report(tuple(verdicts))
    except InferenceError as error:
        return _Report(problem=str(error))
    except MemoryError:
        return _Report(problem=f"judging the model needs more than {request.limits.memory_bytes // MIB} MiB of memory")


def main() -> None:
    """The child: a request on stdin, a report in the work folder."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    child.confine(request.limits)
    Path(request.work, child.REPORT).write_bytes(msgspec.json.encode(judge(request)))


if __name__ == "__main__":
    main()
