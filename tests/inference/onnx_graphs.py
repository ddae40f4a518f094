"""Small ONNX models of every awkward kind, made here with onnx.helper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
value = helper.make_tensor_value_info
node = helper.make_node


def constant(name: str, data: object, dtype: str = "float32") -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(data, dtype=dtype), name)


def build(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[Any], outputs: Sequence[Any],
    weights: Sequence[onnx.TensorProto] = (), *, opset: int = 17, domains: Sequence[tuple[str, int]] = (), ir: int = 8,
) -> onnx.ModelProto:
    """A model with one graph."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*each) for each in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def mul(opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """Gives y = 2 x, x float32 [N, 3]."""
    return build([node("Mul", ["x", "two"], ["y"])], [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", 3])],
                 [constant("two", 2.0)], opset=opset, ir=ir)


def sigmoid() -> onnx.ModelProto:
    """Gives y = 1 / (1 + exp(-x)), fixed shape [3, 4]."""
    return build([node("Sigmoid", ["x"], ["y"])], [value("x", FLOAT, [3, 4])], [value("y", FLOAT, [3, 4])])


def mlp() -> onnx.ModelProto:
    """Two Gemm layers with a Relu between them, x float32 [N, 16] to y [N, 4]."""
    draw = np.random.default_rng(3)
    weights = [constant("w1", draw.normal(size=(16, 8))), constant("b1", draw.normal(size=8)),
               constant("w2", draw.normal(size=(8, 4))), constant("b2", draw.normal(size=4))]
    nodes = [node("Gemm", ["x", "w1", "b1"], ["a"]), node("Relu", ["a"], ["b"]), node("Gemm", ["b", "w2", "b2"], ["y"])]
    return build(nodes, [value("x", FLOAT, ["N", 16])], [value("y", FLOAT, ["N", 4])], weights)


def integers() -> onnx.ModelProto:
    """Gives y = x + 1 in int64."""
    return build([node("Add", ["x", "one"], ["y"])], [value("x", INT64, ["N", 2])], [value("y", INT64, ["N", 2])],
                 [constant("one", 1, "int64")])


def scalar() -> onnx.ModelProto:
    """Gives y = gain x, the gain a scalar input."""
    return build([node("Mul", ["x", "gain"], ["y"])], [value("x", FLOAT, ["N", 2]), value("gain", FLOAT, [])],
                 [value("y", FLOAT, ["N", 2])])


def two_outputs() -> onnx.ModelProto:
    """Gives low = -x and high = |x|."""
    return build([node("Neg", ["x"], ["low"]), node("Abs", ["x"], ["high"])], [value("x", FLOAT, ["N", 2])],
                 [value("low", FLOAT, ["N", 2]), value("high", FLOAT, ["N", 2])])


def labels() -> onnx.ModelProto:
    """0 -> normal, 1 -> fault, as strings."""
    encoder = node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_int64s=[0, 1],
                   values_strings=["normal", "fault"], default_string="other")
    return build([encoder], [value("x", INT64, ["N"])], [value("y", STRING, ["N"])], domains=[("ai.onnx.ml", 2)])


def maps() -> onnx.ModelProto:
    """Probabilities as a sequence of maps from class to number, as scikit-learn's exporters give them."""
    graph = build([node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 7])],
                  [value("x", FLOAT, ["N", 2])], [], domains=[("ai.onnx.ml", 1)])
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, None))
    graph.graph.output.append(helper.make_value_info("y", helper.make_sequence_type_proto(kind)))
    return graph


def odd_names() -> onnx.ModelProto:
    """Gives y = x + x with names that are no identifiers."""
    return build([node("Add", ["plant/x:0", "plant/x:0"], ["out/y:0"])], [value("plant/x:0", FLOAT, ["N", 2])],
                 [value("out/y:0", FLOAT, ["N", 2])])


def refused_batch() -> onnx.ModelProto:
    """A batch declared free that a Reshape to [1, 2] refuses; y = x."""
    return build([node("Reshape", ["x", "shape"], ["y"])], [value("x", FLOAT, ["N", 2])], [value("y", FLOAT, ["N", 2])],
                 [constant("shape", [1, 2], "int64")])


def mixed_batch() -> onnx.ModelProto:
    """A batch declared free in which every row sees the others: softmax over the batch. Alone, a row gives ones."""
    return build([node("Softmax", ["x"], ["y"], axis=0)], [value("x", FLOAT, ["N", 2])], [value("y", FLOAT, ["N", 2])])


def batch_of_one() -> onnx.ModelProto:
    """Gives y = -x with a stated batch of 1."""
    return build([node("Neg", ["x"], ["y"])], [value("x", FLOAT, [1, 2])], [value("y", FLOAT, [1, 2])])


def whole() -> onnx.ModelProto:
    """The mean over the first dimension: not a batch."""
    return build([node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=0)], [value("x", FLOAT, ["N", 2])],
                 [value("y", FLOAT, [2])])


def not_finite() -> onnx.ModelProto:
    """Gives y = 0 x / 0: NaN whatever comes in."""
    return build([node("Mul", ["x", "zero"], ["z"]), node("Div", ["z", "zero"], ["y"])], [value("x", FLOAT, ["N", 2])],
                 [value("y", FLOAT, ["N", 2])], [constant("zero", 0.0)])


def old_softmax() -> onnx.ModelProto:
    """Softmax of opset 9, which means axis 1 and all after it."""
    return build([node("Softmax", ["x"], ["y"])], [value("x", FLOAT, ["N", 3, 2])], [value("y", FLOAT, ["N", 3, 2])],
                 opset=9, ir=4)


def overflowing() -> onnx.ModelProto:
    """Gives a / (a + 1) of a = 1e6 x, float32 [N, 16]: about 1, and NaN where half precision makes infinity of a."""
    nodes = [node("Mul", ["x", "million"], ["a"]), node("Add", ["a", "one"], ["b"]), node("Div", ["a", "b"], ["y"])]
    weights = [constant("million", 1e6), constant("one", 1.0)]
    return build(nodes, [value("x", FLOAT, ["N", 16])], [value("y", FLOAT, ["N", 16])], weights)
