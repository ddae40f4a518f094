"""Fits a model to a chip by passes, each held to golden vectors: one that fails its check is refused, and undone.

The passes are steps of a plan and change the file, never the contract: inputs and outputs keep names and element types.
Only a fixed batch changes what goes in, and `buckets.py` takes care of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import onnx

from inference import InvalidModelError
from inference.chip import Text
from inference.golden import read, typical
from inference.judge import Finding, Judge, specs
from inference.passes import PassError, fold, half, names, narrow, opset, quantise, shapes
from inference.passes.values import fed

if TYPE_CHECKING:
    from pathlib import Path


Pass = Literal["fold", "shapes", "opset", "names", "int32", "fp16", "int8"]
Outcome = Literal["applied", "unchanged", "refused"]
_PRECISIONS: Final[Mapping[str, str]] = {"fp16": "fp16", "int8": "int8"}
"""Passes that lower the precision, and the class that the answers are held to from there on."""
_NO_SIZES: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Step:
    """One pass and what it is asked for."""

    name: Pass
    batch: int = 1
    """For `shapes`: rows at a time."""
    sizes: Mapping[str, int] = field(default_factory=lambda: _NO_SIZES)
    """For `shapes`: other free dimensions by their name, or as `input/axis`."""
    opset: int | None = None
    """For `opset`: the opset of ai.onnx to convert to."""
    ir: int | None = None
    """For `opset`: the highest IR version."""
    everything: bool = False
    """For `fp16`: also what overflows, as on a chip that has nothing else."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a step."""

    name: Pass
    outcome: Outcome
    reason: Text | None = None
    """Why it was refused, None where it was not."""
    judge: str = ""
    """What computed the answers of the new graph."""
    max_abs: float | None = None
    """Their greatest difference to the golden vectors; None where it cannot be said."""


@dataclass(frozen=True, slots=True)
class Legalized:
    """A graph after a plan, and what became of each step."""

    model: onnx.ModelProto
    done: tuple[Done, ...]

    @property
    def applied(self) -> tuple[Pass, ...]:
        """The passes that the graph went through."""
        return tuple(one.name for one in self.done if one.outcome == "applied")


class Legalizer:
    """One model and its golden vectors; plans may follow one another, and what two have in common is done once.

    To be used where foreign models may be opened: in a process of its own, with limits.
    """

    def __init__(self, path: Path, golden: Path | None, folder: Path) -> None:
        """Read a stored model with its weights, and its golden vectors; `folder` is for what is judged on the way.

        Raises InvalidModelError where there are no golden vectors, and where the model does not answer them.
        """
        self._start = onnx.load_model(path)
        self._path = path
        if golden is None:
            message = "without golden vectors no pass can be checked: add a golden.npz to the package"
            raise InvalidModelError(message)
        vectors = read(golden)
        inputs = specs(fed(self._start))
        batched = [one.name for one in inputs if one.shape and one.shape[0] is None]
        self._judge = Judge(vectors, batched, folder)
        finding = self._judge.opened(self._start)
        if finding.reason is not None:
            said = finding.reason.en
            message = f"no pass can be checked, the model itself does not answer its golden vectors: {said}"
            raise InvalidModelError(message)
        self._rows = self._judge.rows
        self._known: dict[tuple[str, ...], tuple[onnx.ModelProto, int | None, Done]] = {}

    def applied(self, steps: Sequence[Step]) -> Legalized:
        """Take each step in turn; one that is refused leaves the graph from before it."""
        model, done = self._start, []
        self._judge.rows = self._rows
        path: tuple[str, ...] = ()
        precision = "fp32"
        for step in steps:
            path = (*path, repr(step))
            wanted = _PRECISIONS.get(step.name, precision)
            if path not in self._known:
                made, finished = self._taken(model, step, wanted)
                self._known[path] = (made, self._judge.rows, finished)
            model, self._judge.rows, last = self._known[path]
            done.append(last)
            precision = wanted if last.outcome == "applied" else precision
        return Legalized(model, tuple(done))

    def _taken(self, model: onnx.ModelProto, step: Step, precision: str) -> tuple[onnx.ModelProto, Done]:
        before = self._judge.rows
        try:
            made = self._made(model, step)
        except PassError as error:
            return model, Done(step.name, "refused", error.text)
        if made == model:
            return model, Done(step.name, "unchanged")
        if step.name == "shapes" and self._judge.batched:
            self._judge.rows = step.batch
        finding = self._judge.judged(made, precision)
        if not finding.accepted:
            self._judge.rows = before
            return model, _done(step, "refused", finding)
        return made, _done(step, "applied", finding)

    def _made(self, model: onnx.ModelProto, step: Step) -> onnx.ModelProto:
        if step.name == "shapes":
            return shapes.apply(model, batch=step.batch, sizes=step.sizes)
        if step.name == "opset":
            return opset.apply(model, version=step.opset, ir=step.ir)
        if step.name == "fp16":
            return half.apply(model, hot=None if step.everything else self._hot(model))
        if step.name == "int8":
            feeds = typical(self._path, self._judge.golden.inputs)
            return quantise.apply(model, calibration=self._judge.pieces(feeds))
        plain = {"fold": fold.apply, "names": names.apply, "int32": narrow.apply}
        return plain[step.name](model)

    def _hot(self, model: onnx.ModelProto) -> list[str]:
        """Values that come near what half precision holds, for the golden vectors."""
        return [name for name, value in self._judge.between(model).items() if half.is_hot(value)]


def _done(step: Step, outcome: Outcome, finding: Finding) -> Done:
    return Done(step.name, outcome, finding.reason, finding.judge, finding.max_abs)
