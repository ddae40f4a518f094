"""What a device must not answer: a broken file, feeds that do not fit, an operator that nobody has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, List, NamedTuple, Tuple  # noqa: UP035 - Python 3.8

import numpy as np

from . import FAILED, PASSED, RefusalError, RunError, Spec

if TYPE_CHECKING:
    from . import Feeds, Graph, Opened, Question, Target


class Fault(NamedTuple):
    """One thing that is wrong, and what was said of it."""

    fault: str
    outcome: str
    """`refused` or `failed`: told by name. `answered`: an answer was given, which is the failure. `unnamed`: an error
    that does not say what was wrong. `not_tried`: the device does not take the model that would be fed wrongly."""
    said: str


def faults(target: Target, question: Question, foreign: Graph) -> List[Fault]:  # noqa: UP006 - Python 3.8
    """Each fault, tried. `foreign`: a graph with an operator that no runtime has, which its name says."""
    good = question.graph
    content = good.content
    broken = {
        "file_cut_off": replace(good, content=content[: len(content) // 2]),
        "file_of_noise": replace(good, content=bytes(range(256)) * 16),
        "file_empty": replace(good, content=b""),
    }
    found = [_opened(target, name, graph, "") for name, graph in broken.items()]
    found.append(_opened(target, "operator_unknown", foreign, foreign.name))
    return found + _fed(target, question)


def _opened(target: Target, name: str, graph: Graph, named: str) -> Fault:
    try:
        session = target.open(graph)
    except RefusalError as error:
        return _told(name, "refused", str(error), named)
    except RunError as error:
        return _told(name, "failed", str(error), named)
    session.close()
    return Fault(name, "answered", "")


def _told(name: str, outcome: str, said: str, named: str) -> Fault:
    return Fault(name, outcome if said and named in said else "unnamed", said[:300])


def _fed(target: Target, question: Question) -> List[Fault]:  # noqa: UP006 - Python 3.8
    spec, value = question.graph.inputs[0], question.inputs[question.graph.inputs[0].name]
    wrong = {
        "shape_wrong": dict(question.inputs, **{spec.name: np.repeat(value, 2, value.ndim - 1)}),
        "rank_wrong": dict(question.inputs, **{spec.name: value.reshape(-1)}),
        "text_for_numbers": dict(question.inputs, **{spec.name: np.full(value.shape, "x", object)}),
        "input_missing": {name: one for name, one in question.inputs.items() if name != spec.name},
        "input_unknown": dict(question.inputs, no_such_input=value),
    }
    try:
        session = target.open(question.graph)
    except (RefusalError, RunError) as error:
        return [Fault(name, "not_tried", str(error)[:300]) for name in wrong]
    try:
        return [_run(session, name, feeds, spec) for name, feeds in wrong.items()]
    finally:
        session.close()


def _run(session: Opened, name: str, feeds: Feeds, spec: Spec) -> Fault:
    try:
        session.run(feeds)
    except RunError as error:
        return _told(name, "failed", str(error), "no_such_input" if name == "input_unknown" else spec.name)
    return Fault(name, "answered", "")


def verdict(rows: List[Fault]) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """Every fault is told by name, and none is answered."""
    wrong = [f"{one.fault}: {one.outcome}" for one in rows if one.outcome in ("answered", "unnamed")]
    return (FAILED, ", ".join(wrong)) if wrong else (PASSED, "")
