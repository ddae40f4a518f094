"""The models of the conformance kit: small networks of the classes that plants use, with the evaluator's answers."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from inference.kit import Question
from inference.kit.suite import Material
from inference.nodecases import cases, graph
from inference.passes import half, quantise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inference.kit import Case, Graph

FOREIGN: Final = "NoSuchOperator"
LONG: Final = (4, 64, 1024, 16384)
"""Rows of the long model: 0.4, 7, 107 and 1,700 GFLOP a run."""
_DEPTH: Final = 200
_WIDTH: Final = 512
_ROWS: Final = 8
_node = helper.make_node


def material(wanted: str = "", *, with_cases: bool = True) -> Material:
    """Everything that is asked, but for the yardstick. Making it takes some 10 s; `wanted` chooses node cases."""
    chosen: tuple[Case, ...] = cases(wanted) if with_cases else ()
    return Material(chosen, questions(), tuple(map(long_run, LONG)), foreign())


def questions() -> tuple[Question, ...]:
    """The models, the small one first: fp32, then fp16 and int8 of those where half or whole numbers are used."""
    mlp, cnn, block = _mlp(), _autoencoder(), _transformer()
    rows = {name: _draw(5, _ROWS, *shape) for name, shape in
            (("mlp", (16,)), ("cnn", (1, 16, 16)), ("block", (16, 32)))}
    made = [
        _question("mlp", mlp, {"x": rows["mlp"]}, "multilayer perceptron: a soft sensor"),
        _question("overflow", _overflow(), {"x": np.linspace(1, 100, _ROWS * 4, dtype=np.float32).reshape(_ROWS, 4)},
                  "three nodes that pass 65,504 on their way: hidden half precision gives infinity", wide=True),
        _question("trees", _trees(), {"x": _draw(6, _ROWS, 4)}, "tree ensemble (ai.onnx.ml): quality of a batch"),
        _question("cnn-autoencoder", cnn, {"x": rows["cnn"]}, "convolutions and back: anomaly in an image"),
        _question("gru", _recurrent("GRU", 3), _state(("h",)), "GRU with carried state", batched=False),
        _question("lstm", _recurrent("LSTM", 4), _state(("h", "c")), "LSTM with carried state", batched=False),
        _question("transformer", block, {"x": rows["block"]}, "one transformer block over 16 steps"),
    ]
    for name, model, key in (("mlp", mlp, "mlp"), ("cnn-autoencoder", cnn, "cnn"), ("transformer", block, "block")):
        made.append(_as(made, name, "fp16", half.apply(model)))
        if key != "block":
            feeds: list[dict[str, Any]] = [{"x": rows[key]}, {"x": _draw(9, _ROWS, *rows[key].shape[1:])}]
            # What the quantiser would have prepared is there already, and it would say otherwise that it is not.
            helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
            made.append(_as(made, name, "int8", quantise.apply(model, calibration=feeds)))
    return tuple(made)


def foreign() -> Graph:
    """A model whose one operator no runtime has."""
    node = _node(FOREIGN, ["x"], ["y"])
    return graph(FOREIGN, _model([node], [("x", ["N", 4])], [("y", ["N", 4])]))[0]


def _as(made: Sequence[Question], name: str, precision: str, model: onnx.ModelProto) -> Question:
    """The same question of a graph whose own types are of another class: the answer expected stays that of fp32."""
    first = next(one for one in made if one.graph.name == name)
    return Question(
        graph(f"{name}-{precision}", model)[0], first.inputs, first.outputs, precision, f"{first.what}, {precision}"
    )


def _question(
    name: str, model: onnx.ModelProto, inputs: dict[str, Any], what: str, *, batched: bool = True, wide: bool = False
) -> Question:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers: Any = ReferenceEvaluator(model).run(None, inputs)
    outputs = {value.name: np.asarray(one) for value, one in zip(model.graph.output, answers, strict=True)}
    return Question(graph(name, model)[0], inputs, outputs, "fp32", what, batched, wide)


def _draw(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _weight(name: str, seed: int, *shape: int) -> onnx.TensorProto:
    """Weights so scaled that a layer keeps the size of what it is given."""
    fan = max(1, int(np.prod(shape[1:])) if len(shape) > 2 else shape[0])  # noqa: PLR2004 - a convolution's kernel
    return numpy_helper.from_array((_draw(seed, *shape) / np.sqrt(fan)).astype(np.float32), name)


def _constant(name: str, value: object, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def _model(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[tuple[str, list[Any]]], outputs: Sequence[tuple[str, list[Any]]],
    weights: Sequence[onnx.TensorProto] = (), *, learning: bool = False,
) -> onnx.ModelProto:
    def values(listed: Sequence[tuple[str, list[Any]]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in listed]

    made = helper.make_graph(list(nodes), "kit", values(inputs), values(outputs), list(weights))
    # Opset 17 and IR 8 are the common ground of the makers' runtimes.
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("ai.onnx.ml", 3)] if learning else [])]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def _mlp() -> onnx.ModelProto:
    sizes = (16, 64, 64, 4)
    nodes, weights, last = [], [], "x"
    for number, (given, made) in enumerate(pairwise(sizes)):
        weights += [_weight(f"w{number}", number, given, made), _constant(f"b{number}", np.full(made, 0.1))]
        end = number == len(sizes) - 2
        made_as = "y" if end else f"a{number}"
        nodes.append(_node("Gemm", [last, f"w{number}", f"b{number}"], [made_as], f"dense{number}"))
        if not end:
            nodes.append(_node("Relu", [f"a{number}"], [f"r{number}"], f"relu{number}"))
            last = f"r{number}"
    return _model(nodes, [("x", ["N", 16])], [("y", ["N", 4])], weights)


def _overflow() -> onnx.ModelProto:
    nodes = [_node("Mul", ["x", "many"], ["a"], "up"), _node("Mul", ["a", "many"], ["b"], "further"),
             _node("Mul", ["b", "few"], ["y"], "down")]
    return _model(nodes, [("x", ["N", 4])], [("y", ["N", 4])], [_constant("many", 3e3), _constant("few", 1e-7)])


def _trees() -> onnx.ModelProto:
    """Sixteen trees of depth 2 over four columns; what a leaf weighs is added up."""
    draw = np.random.default_rng(3)
    each = 7
    ids = np.tile(np.arange(each), 16)
    numbers = np.repeat(np.arange(16), each)
    inner = np.tile(np.arange(each) < 3, 16)  # noqa: PLR2004 - three of the seven nodes are no leaves
    yes = np.where(inner, 2 * ids + 1, 0)
    node = _node(
        "TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=numbers, nodes_nodeids=ids, nodes_featureids=np.where(inner, draw.integers(0, 4, len(ids)), 0),
        nodes_modes=["BRANCH_LEQ" if one else "LEAF" for one in inner],
        nodes_values=np.where(inner, draw.normal(size=len(ids)), 0).astype(np.float32),
        nodes_truenodeids=yes, nodes_falsenodeids=np.where(inner, yes + 1, 0),
        target_treeids=numbers[~inner], target_nodeids=ids[~inner],
        target_ids=np.zeros(int((~inner).sum()), int), target_weights=draw.normal(size=int((~inner).sum())).tolist(),
    )
    return _model([node], [("x", ["N", 4])], [("y", ["N", 1])], learning=True)


def _autoencoder() -> onnx.ModelProto:
    nodes = [
        _node("Conv", ["x", "w0", "b0"], ["a"], "in", strides=[2, 2], pads=[1, 1, 1, 1]), _node("Relu", ["a"], ["b"]),
        _node("Conv", ["b", "w1", "b1"], ["c"], "narrow", strides=[2, 2], pads=[1, 1, 1, 1]),
        _node("Relu", ["c"], ["d"]),
        _node("ConvTranspose", ["d", "w2", "b0"], ["e"], "wide", strides=[2, 2], pads=[1, 1, 1, 1],
              output_padding=[1, 1]),
        _node("Relu", ["e"], ["f"]),
        _node("ConvTranspose", ["f", "w3", "b3"], ["y"], "out", strides=[2, 2], pads=[1, 1, 1, 1],
              output_padding=[1, 1]),
    ]
    weights = [_weight("w0", 11, 8, 1, 3, 3), _weight("w1", 12, 16, 8, 3, 3), _weight("w2", 13, 16, 8, 3, 3),
               _weight("w3", 14, 8, 1, 3, 3), _constant("b0", np.full(8, 0.1)), _constant("b1", np.full(16, 0.1)),
               _constant("b3", [0.1])]
    return _model(nodes, [("x", ["N", 1, 16, 16])], [("y", ["N", 1, 16, 16])], weights)


def _recurrent(kind: str, gates: int) -> onnx.ModelProto:
    """Eight steps of four sequences; the state goes in and comes out, so that the next window can take it up."""
    hidden, states = 12, ("h", "c")[: 1 + (kind == "LSTM")]
    size = gates * hidden
    given = [f"{one}0" for one in states]
    node = _node(kind, ["x", "w", "r", "b", "", *given], ["steps", *states], kind.lower(), hidden_size=hidden)
    nodes = [node, _node("Squeeze", ["steps", "axis"], ["y"], "squeeze")]
    weights = [_weight("w", 21, 1, size, 6), _weight("r", 22, 1, size, hidden),
               _constant("b", np.zeros((1, 2 * size))), _constant("axis", [1], "int64")]
    return _model(
        nodes, [("x", [8, 4, 6]), *((one, [1, 4, hidden]) for one in given)],
        [("y", [8, 4, hidden]), *((one, [1, 4, hidden]) for one in states)], weights,
    )


def _state(names: Sequence[str]) -> dict[str, Any]:
    return {"x": _draw(23, 8, 4, 6), **{f"{name}0": _draw(24, 1, 4, 12) * np.float32(0.5) for name in names}}


def _transformer() -> onnx.ModelProto:
    """Layer norm, four heads of attention over 16 steps of 32, and a dense part, each with its way past it."""
    nodes = [_node("LayerNormalization", ["x", "g", "z"], ["n"], "norm1", axis=-1)]
    for name in "qkv":
        nodes += [_node("MatMul", ["n", f"w{name}"], [f"{name}0"], name),
                  _node("Reshape", [f"{name}0", "heads"], [f"{name}1"], f"{name}-heads"),
                  _node("Transpose", [f"{name}1"], [name], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3])]
    nodes += [
        _node("MatMul", ["q", "k"], ["s0"], "scores"), _node("Mul", ["s0", "scale"], ["s1"], "scaled"),
        _node("Softmax", ["s1"], ["p"], "softmax", axis=-1), _node("MatMul", ["p", "v"], ["m0"], "mixed"),
        _node("Transpose", ["m0"], ["m1"], perm=[0, 2, 1, 3]), _node("Reshape", ["m1", "flat"], ["m2"], "joined"),
        _node("MatMul", ["m2", "wo"], ["m3"], "out"), _node("Add", ["x", "m3"], ["t"], "past1"),
        _node("LayerNormalization", ["t", "g", "z"], ["u"], "norm2", axis=-1),
        _node("MatMul", ["u", "w1"], ["f0"], "dense1"), _node("Relu", ["f0"], ["f1"], "relu"),
        _node("MatMul", ["f1", "w2"], ["f2"], "dense2"), _node("Add", ["t", "f2"], ["y"], "past2"),
    ]
    weights = [*(_weight(f"w{name}", 30 + number, 32, 32) for number, name in enumerate("qkvo")),
               _weight("w1", 35, 32, 64), _weight("w2", 36, 64, 32), _constant("g", np.ones(32)),
               _constant("z", np.zeros(32)), _constant("scale", 8**-0.5),
               _constant("heads", [0, 16, 4, 8], "int64"), _constant("flat", [0, 16, 32], "int64")]
    return _model(nodes, [("x", ["N", 16, 32])], [("y", ["N", 16, 32])], weights)


def long_run(rows: int) -> Question:
    """Two hundred products with a matrix that moves each column one place on: the answer is the input, moved."""
    names = ["x", *(f"a{number}" for number in range(1, _DEPTH)), "y"]
    nodes = [_node("MatMul", [given, "step"], [made]) for given, made in pairwise(names)]
    step = np.roll(np.eye(_WIDTH, dtype=np.float32), 1, 1)
    model = _model(nodes, [("x", [rows, _WIDTH])], [("y", [rows, _WIDTH])], [numpy_helper.from_array(step, "step")])
    row = np.linspace(-1, 1, _WIDTH, dtype=np.float32)
    # Every row is the same one, so that the vectors of the large sizes pack to nothing.
    given = np.tile(row, (rows, 1))
    return Question(
        graph(f"long-{rows}", model)[0], {"x": given}, {"y": np.roll(given, _DEPTH, 1)}, what="a run that takes long",
        batched=False,
    )
