"""Holds a graph to golden vectors: onnx's own evaluator decides, ONNX Runtime where that has no code for a node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from inference import InferenceError, Model, Options, TensorSpec, UnsupportedModelError, backend, buckets
from inference.adapters.reference import FAILURES
from inference.chip import Text, joined
from inference.golden import compare
from inference.graph import opset
from inference.limits import GIB
from inference.passes.values import copied, fed, sizes, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inference import Session, Tensor
    from inference.golden import Difference, Golden

_JUDGES: Final = ("reference", "cpu")
"""The evaluator computes in the types of the graph and nothing else, so that what overflows does so here, too; ONNX
Runtime on a CPU computes half precision in float32 and would hide it."""
_INLINE: Final = GIB
"""A larger graph is kept with its weights in a file of their own: protobuf ends at 2 GiB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How a graph answered."""

    reason: Text | None = None
    """Why it was not accepted; None where it was."""
    judge: str = ""
    """What computed it."""
    max_abs: float | None = None
    """Greatest difference to what was expected, None where it cannot be said."""

    @property
    def accepted(self) -> bool:
        """Whether it answers as expected."""
        return self.reason is None


def specs(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    """Inputs or outputs as a graph states them; what is no tensor has neither type nor shape there."""
    return tuple(
        TensorSpec(one.name, type_name(one.type.tensor_type.elem_type), sizes(one.type.tensor_type.shape.dim))
        if one.type.HasField("tensor_type") else TensorSpec(one.name, "map", ())
        for one in values
    )


def save(model: onnx.ModelProto, path: Path, inline: int = _INLINE) -> None:
    """Write a graph; one whose weights take more than `inline` bytes with them beside it, in a file named `….data`."""
    if sum(len(one.raw_data) for one in model.graph.initializer) <= inline:
        onnx.save_model(model, path)
        return
    # onnx adds to a file that is there, and takes the weights out of the graph that it writes.
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)
    onnx.save_model(copied(model), path, save_as_external_data=True, location=beside.name)


class Judge:
    """Golden vectors of a model, and the way its rows are run."""

    def __init__(self, golden: Golden, batched: Sequence[str], folder: Path) -> None:
        """`batched`: the inputs whose first dimension counts rows. `folder`: where graphs are written to be opened."""
        self.golden = golden
        self.batched = tuple(batched)
        self._path = folder / "judged.onnx"
        self.rows: int | None = None
        """How many rows go in at a time; None where all do at once."""

    def opened(self, model: onnx.ModelProto) -> Finding:
        """Judge the model itself, and find out whether its rows go in together or one by one."""
        together = self.judged(model, "fp32")
        if together.accepted or not self.batched:
            return together
        self.rows = 1
        return self.judged(model, "fp32")

    def judged(self, model: onnx.ModelProto, precision: str) -> Finding:
        """Hold a graph to the tolerance of a precision class. Never raises for what the graph does wrong."""
        save(model, self._path)
        seen = Model(
            digest="", sm3="", name="judged", version="", path=self._path, inputs=specs(fed(model)),
            outputs=specs(model.graph.output), opset=opset(model), ir_version=model.ir_version,
            nodes=len(model.graph.node), manifest={"batch": "whole"},
        )
        finding = Finding(Text("nothing here can open it", "此处无法打开该模型"))
        for vendor in _JUDGES:
            made = backend(vendor)
            device, = made.devices()
            try:
                session = made.prepare(seen, device, Options())
            except UnsupportedModelError as error:
                finding = Finding(
                    Text(f"{device.backend} does not take it: {error}", f"{device.backend} 不接受该模型：{error}"),
                    device.backend,
                )
                continue
            return self._compared(session, precision, device.backend)
        return finding

    def _compared(self, session: Session, precision: str, judge: str) -> Finding:
        try:
            outputs = self._run(session)
        except InferenceError as error:
            reason = Text(f"it fails on the golden vectors: {error}", f"在黄金样本上运行失败：{error}")
            return Finding(reason, judge)
        finally:
            session.close()
        found = compare(self.golden, outputs, precision)
        worst = max((one.max_abs for one in found if not np.isnan(one.max_abs)), default=None)
        wrong = [_said(one) for one in found if not one.passed]
        return Finding(joined(wrong, "; ", "；") if wrong else None, judge, worst)

    def _run(self, session: Session) -> dict[str, Tensor]:
        if self.rows is None:
            return session.run(self.golden.inputs)
        names: list[str] = []

        def call(feeds: Mapping[str, Tensor]) -> list[Tensor]:
            outputs = session.run(feeds)
            names[:] = outputs
            return list(outputs.values())

        values = buckets.run({self.rows: call}, self.golden.inputs, self.batched)
        return dict(zip(names, values, strict=True))

    def pieces(self, inputs: Mapping[str, Tensor], most: int = 256) -> list[dict[str, Tensor]]:
        """Feeds of one run each, of the first `most` rows."""
        return buckets.pieces(inputs, self.batched, self.rows, most)

    def between(self, model: onnx.ModelProto) -> dict[str, Tensor]:
        """Every value between the nodes, for the golden vectors; empty where the evaluator cannot tell."""
        found: dict[str, Tensor] = {}
        try:
            evaluator = ReferenceEvaluator(model)
            with np.errstate(all="ignore"):
                for feeds in self.pieces(self.golden.inputs, most=8):
                    values = evaluator.run(None, feeds, intermediate=True)
                    found |= {name: _wider(found.get(name), value) for name, value in dict(values).items()}
        except FAILURES:
            return {}
        return found


def _said(one: Difference) -> Text:
    """An output that is not as expected."""
    if not one.finite:
        return Text(f"output {one.name!r} is not finite", f"输出 {one.name!r} 含非有限值")
    if np.isnan(one.max_abs):
        zh = "数值不同" if one.reason == "other values" else one.reason
        return Text(f"output {one.name!r}: {one.reason}", f"输出 {one.name!r} 不符：{zh}")
    by, allowed = f"{one.max_abs:.3g}", f"{one.atol:g} + {one.rtol:g}"
    return Text(f"output {one.name!r} differs by up to {by}, allowed is {allowed} of it",
                f"输出 {one.name!r} 最大偏差为 {by}，允许 {allowed} × 期望值")


def _wider(before: Tensor | None, value: Tensor) -> Tensor:
    """Of two values of one name, the one with the larger magnitude; what has none is kept as it is."""
    if before is None or not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not before.size:
        return value
    larger = np.nanmax(np.abs(value), initial=0.0) > np.nanmax(np.abs(before), initial=0.0)
    return value if larger else before
