"""Finds out by trial whether a model's batch dimension is true, and runs a false one row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from inference import InferenceError, UnsupportedModelError
from inference.adapters.tensors import join
from inference.golden import samples, stored_inputs

if TYPE_CHECKING:
    from inference import Model, Tensor, TensorSpec

Call = Callable[[dict[str, "Tensor"]], list["Tensor"]]
"""One run of a runtime on checked feeds: every output, in the model's order."""

Mode = Literal["rows", "sliced", "whole"]

RTOL: Final = 1e-3
ATOL: Final = 1e-5
"""Rows computed together may differ from rows computed alone by rounding, not by more."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How many rows one run may take.

    `rows`: any number, each row independent of the others (or not tried, as the reason then says).
    `sliced`: the runtime is given `size` rows at a time and the answers are joined.
    `whole`: there is no batch dimension; the feeds go in as they are.
    """

    mode: Mode
    batched: tuple[str, ...] = ()
    """Inputs whose first dimension counts rows."""
    size: int = 1
    reason: str = ""

    def inputs(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The specs the feeds are held to: a sliced first dimension takes any number of rows."""
        if self.mode != "sliced":
            return tuple(specs)
        return tuple(replace(s, shape=(None, *s.shape[1:])) if s.name in self.batched else s for s in specs)


def stated(model: Model) -> Batching:
    """What the declared shapes alone say; a model with a batch of 1 for all it takes and gives is run row by row."""
    batched = tuple(s.name for s in model.inputs if s.shape and s.shape[0] is None)
    if model.manifest.get("batch") == "whole":
        return Batching("whole", reason="model.yaml says batch: whole")
    if batched:
        return Batching("rows", batched)
    shapes = [spec.shape for spec in (*model.inputs, *model.outputs)]
    if all(shape and shape[0] == 1 for shape in shapes):
        return Batching("sliced", tuple(s.name for s in model.inputs), reason="the model states a batch of 1")
    return Batching("whole", reason="the model has no free batch")


def _two_rows(model: Model, batched: Sequence[str]) -> dict[str, Tensor]:
    """Feeds of two different rows: golden inputs where there are any (they suit the model), else samples."""
    feeds = stored_inputs(model.golden) if model.golden is not None else samples(model.inputs, rows=2, seed=1)
    return {name: _two(value) if name in batched else value for name, value in feeds.items()}


def _two(value: Tensor) -> Tensor:
    first = value[:1]
    last = value[-1:]
    if len(value) == 1 and value.dtype.kind == "f":
        last = (last.astype(np.float64) * 0.9 + 0.01).astype(value.dtype)
    return np.concatenate([first, last])


def _agree(alone: Sequence[Tensor], together: Sequence[Tensor]) -> bool:
    return all(_same(a, b) for a, b in zip(alone, together, strict=True))


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        return bool(np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=RTOL, atol=ATOL, equal_nan=True))
    if a.dtype == object and a.size and isinstance(a.flat[0], dict):
        return all(x.keys() == y.keys() and np.allclose(list(x.values()), list(y.values()), rtol=RTOL, atol=ATOL)
                   for x, y in zip(a.flat, b.flat, strict=True))
    return bool(np.array_equal(a, b))


def _row(feeds: Mapping[str, Tensor], batched: Sequence[str], index: int) -> dict[str, Tensor]:
    return {name: value[index:index + 1] if name in batched else value for name, value in feeds.items()}


def find(model: Model, call: Call) -> Batching:
    """Try one row, another row, and both together.

    The convention of ONNX exporters is taken at its word: the first dimension, where free in an input, counts rows
    that do not know each other. A package for which that is not so says `batch: whole`.
    """
    declared = stated(model)
    if declared.mode != "rows":
        return declared
    return _trial(call, _two_rows(model, declared.batched), declared.batched)


def _trial(call: Call, feeds: dict[str, Tensor], batched: tuple[str, ...]) -> Batching:
    try:
        parts = [call(_row(feeds, batched, index)) for index in (0, 1)]
    except InferenceError as error:
        return Batching("rows", batched, reason=f"batch not tried, no input of ours suits the model: {error}")
    if any(value.ndim == 0 or len(value) != 1 for part in parts for value in part):
        return Batching("whole", batched, reason="the outputs do not count rows")
    try:
        together = call(feeds)
    except InferenceError as error:
        return Batching("sliced", batched, reason=f"the declared free batch is false: {error}")
    if _agree(join(parts), together):
        return Batching("rows", batched)
    return Batching("sliced", batched, reason="the declared free batch is false: rows change each other's answers")


def fixed(model: Model, size: int) -> Batching:
    """A batch fixed on request: `size` rows go to the runtime at a time. Raises UnsupportedModelError."""
    batched = tuple(s.name for s in model.inputs if s.shape and s.shape[0] in (None, size))
    if not batched or any(s.shape and s.shape[0] is not None and s.name not in batched for s in model.inputs):
        shapes = {spec.name: list(spec.shape) for spec in model.inputs}
        message = f"a batch of {size} does not fit the inputs {shapes}"
        raise UnsupportedModelError(message)
    return Batching("sliced", batched, size, reason=f"a batch of {size} was asked for")
