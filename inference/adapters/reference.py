"""onnx's own evaluator: slow, plain numpy, independent of every runtime; what the others are compared with."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from inference import Absent, Device, InputError, Placement, UnsupportedModelError
from inference.adapters.batching import find
from inference.adapters.session import CheckedSession
from inference.adapters.tensors import as_array
from inference.graph import graphs

if TYPE_CHECKING:
    from pathlib import Path

    from inference import Model, Options, Session, Tensor
    from inference.adapters.batching import Call

FAILURES: Final = (
    ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError,
)
"""What its operators, plain Python on numpy, raise on inputs that do not suit them."""

SINCE: Final = {"Softmax": 13, "LogSoftmax": 13, "Hardmax": 13, "BatchNormalization": 14}
"""Operators the evaluator computes in their newer sense only: below this opset its answer would be another one."""


def _misread(path: Path, opset: int) -> str | None:
    """The first node the evaluator would silently compute otherwise than its opset says, or None."""
    if opset >= max(SINCE.values()):
        return None
    for body in graphs(onnx.load_model(path, load_external_data=False)):
        for node in body.node:
            if node.domain in ("", "ai.onnx") and opset < SINCE.get(node.op_type, 0):
                return f"{node.op_type} {node.name or node.output[0]!r} of opset {opset}"
    return None


class ReferenceBackend:
    """onnx.reference bound to the vendor of that name."""

    def __init__(self, vendor: str, evidence: str) -> None:
        """Nothing is loaded yet."""
        self._vendor = vendor
        self._evidence = evidence

    def devices(self) -> tuple[Device, ...]:
        """Always one: onnx is a plain dependency."""
        name = "onnx reference evaluator"
        return (Device(self._vendor, self._vendor, name, f"onnx {onnx.__version__}", self._evidence),)

    def absent(self) -> Absent | None:
        """Never absent."""
        return None

    def prepare(self, model: Model, device: Device, options: Options) -> Session:
        """Load every operator's Python. Raises UnsupportedModelError naming the operator that has none."""
        if options.precision != "fp32":
            message = f"{device.id} computes in the types of the graph; {options.precision} must be in the model itself"
            raise UnsupportedModelError(message)
        misread = _misread(model.path, model.opset)
        if misread:
            message = f"onnx's evaluator computes {misread} in its newer sense: convert the model to opset 17"
            raise UnsupportedModelError(message)
        try:
            evaluator = ReferenceEvaluator(str(model.path))
        except FAILURES as error:
            first = str(error).partition(" in\n")[0]
            message = f"onnx's evaluator cannot take the model: {first[:400]}"
            raise UnsupportedModelError(message) from error
        call = _caller(evaluator, [spec.name for spec in model.outputs])
        placement = Placement(model.nodes, model.nodes)
        outputs = [spec.name for spec in model.outputs]
        return CheckedSession(call, model.inputs, outputs, placement, find(model, call))


def _caller(evaluator: ReferenceEvaluator, names: list[str]) -> Call:
    def call(feeds: dict[str, Tensor]) -> list[Tensor]:
        try:
            # What overflows is found in the answer, as on every other device; a warning would say it twice.
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs = evaluator.run(names, dict(feeds))
        except FAILURES as error:
            message = f"the model fails on these inputs: {type(error).__name__}: {str(error)[:400]}"
            raise InputError(message) from error
        return [as_array(value) for value in outputs]

    return call
