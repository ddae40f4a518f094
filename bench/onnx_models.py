"""Models to measure with, made here from a seed: an MLP, a CNN autoencoder and ResNet-18, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


@dataclass(slots=True)
class _Graph:
    """A chain of nodes that grows; each method takes and gives the name of a tensor."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def weight(self, *shape: int) -> str:
        """He's initialisation, so that values neither vanish nor explode."""
        name = f"w{len(self.weights)}"
        scale = (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
        self.weights.append(numpy_helper.from_array((self.draw.normal(size=shape) * scale).astype(np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 - as onnx.helper takes them
        """One node; its only output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [*inputs], [name], **attributes))
        return name

    def dense(self, x: str, wide: int, narrow: int) -> str:
        """A fully connected layer."""
        return self.node("Gemm", x, self.weight(narrow, wide), self.weight(narrow), transB=1)

    def conv(self, x: str, into: int, out: int, size: int, stride: int = 1) -> str:
        """A convolution that keeps the size, but for its stride."""
        pad = size // 2
        return self.node(
            "Conv", x, self.weight(out, into, size, size), self.weight(out),
            kernel_shape=[size, size], strides=[stride, stride], pads=[pad] * 4,
        )  # fmt: skip

    def model(self, last: str, taken: list[int | str], given: list[int | str]) -> onnx.ModelProto:
        """`x` in, `y` out."""
        self.nodes.append(helper.make_node("Identity", [last], ["y"]))
        ends = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in (("x", taken), ("y", given))]
        graph = helper.make_graph(self.nodes, "g", ends[:1], ends[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mlp(inputs: int = 16, hidden: int = 32, outputs: int = 4) -> onnx.ModelProto:
    """Two hidden layers, x [N, inputs] to y [N, outputs]."""
    graph = _Graph()
    x = graph.node("Relu", graph.dense("x", inputs, hidden))
    x = graph.node("Relu", graph.dense(x, hidden, hidden))
    return graph.model(graph.dense(x, hidden, outputs), ["N", inputs], ["N", outputs])


def autoencoder(size: int = 64) -> onnx.ModelProto:
    """Three convolutions down and three up, x and y [N, 1, size, size]."""
    graph = _Graph()
    x = "x"
    for into, out in ((1, 16), (16, 32), (32, 64)):
        x = graph.node("Relu", graph.conv(x, into, out, 3, 2))
    for into, out in ((64, 32), (32, 16), (16, 1)):
        weight, bias = graph.weight(into, out, 4, 4), graph.weight(out)
        x = graph.node("ConvTranspose", x, weight, bias, kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4)
        x = graph.node("Relu", x) if out > 1 else x
    return graph.model(x, ["N", 1, size, size], ["N", 1, size, size])


def resnet18(size: int = 224) -> onnx.ModelProto:
    """ResNet-18 with its batch normalisation folded into the convolutions, x [N, 3, size, size] to y [N, 1000].

    Source: He et al., Deep Residual Learning for Image Recognition, table 1.
    """
    graph = _Graph()
    x = graph.node("Relu", graph.conv("x", 3, 64, 7, 2))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    into = 64
    for out, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            x, into = _block(graph, x, into, out, stride), out
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    return graph.model(graph.dense(x, 512, 1000), ["N", 3, size, size], ["N", 1000])


def _block(graph: _Graph, x: str, into: int, out: int, stride: int) -> str:
    inner = graph.conv(graph.node("Relu", graph.conv(x, into, out, 3, stride)), out, out, 3)
    beside = x if stride == 1 and into == out else graph.conv(x, into, out, 1, stride)
    return graph.node("Relu", graph.node("Add", inner, beside))


def twice(dtype: int) -> onnx.ModelProto:
    """Gives y = x + x of any number type, x [N, 3]."""
    ends = [helper.make_tensor_value_info(name, dtype, ["N", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def echo() -> onnx.ModelProto:
    """Gives back texts, x [N]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.STRING, ["N"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
