"""Builds the example models' ONNX graphs node by node: opset 17, IR 8, the common ground of every runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

Attribute = int | Sequence[int]
"""What the operators used here take: axes, flags, types."""

OPSET: Final = 17
IR_VERSION: Final = 8


class Graph:
    """Collects nodes and constants; a value is known by its name."""

    def __init__(self) -> None:
        """An empty graph."""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, value: NDArray[np.generic] | float | Sequence[int]) -> str:
        """A constant: float32, or int64 for integers. Returns its name."""
        array = np.asarray(value)
        array = array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32)
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Attribute) -> str:
        """One node of this operator. Returns the name of its output, which `name` sets."""
        output = name or f"{kind.lower()}_{len(self._nodes)}"
        made = helper.make_node(kind, list(inputs), [output], name=output)
        made.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(made)
        return output

    def affine(self, value: str, shift: NDArray[np.floating], scale: NDArray[np.floating]) -> str:
        """(value - shift) / scale, by broadcasting."""
        return self.node("Div", self.node("Sub", value, self.constant(shift)), self.constant(scale))

    def clip(self, value: str, limit: float) -> str:
        """Bound to [-limit, limit]."""
        return self.node("Clip", value, self.constant(-limit), self.constant(limit))

    def log_root_mean_square(self, value: str, floor: float) -> str:
        """0.5 log(mean over axis 1 of value squared + floor): shape (n, t, v) to (n, v)."""
        mean = self.node("ReduceMean", self.node("Mul", value, value), axes=[1], keepdims=0)
        logarithm = self.node("Log", self.node("Add", mean, self.constant(floor)))
        return self.node("Mul", logarithm, self.constant(0.5))

    def dense(self, value: str, weights: Sequence[NDArray[np.floating]], biases: Sequence[NDArray[np.floating]]) -> str:
        """Fully connected layers with Relu between them; returns the last layer's output before any activation."""
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            value = self.node("Gemm", value, self.constant(weight), self.constant(bias))
            if i + 1 < len(weights):
                value = self.node("Relu", value)
        return value

    def log_odds(self, log_probabilities: str, classes: int) -> str:
        """Log of (1 - p0) / p0 from log probabilities (n, classes): class 0 is the normal one. Shape (n,)."""
        normal = self.node("Slice", log_probabilities, self.constant([0]), self.constant([1]), self.constant([1]))
        others = self.node("Slice", log_probabilities, self.constant([1]), self.constant([classes]), self.constant([1]))
        together = self.node("ReduceLogSumExp", others, axes=[1], keepdims=1)
        odds = self.node("Sub", together, normal)
        return self.node("Reshape", odds, self.constant([-1]))

    def model(
        self, name: str, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[str, tuple[int, ...]]]
    ) -> onnx.ModelProto:
        """The checked model; the first dimensions are free. `outputs` maps names to types and further dimensions."""
        kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *shape]) for n, shape in inputs.items()],
            [helper.make_tensor_value_info(n, kinds[k], ["N", *shape]) for n, (k, shape) in outputs.items()],
            list(self._constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        made = helper.make_model(graph, opset_imports=[opset], producer_name="headrace-examples")
        made.ir_version = IR_VERSION
        onnx.checker.check_model(made, full_check=True)
        return made
