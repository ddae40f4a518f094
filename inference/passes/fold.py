"""Folds constants: what no input changes is computed once, here, and stands in the graph as a weight."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from inference.adapters.reference import FAILURES, SINCE
from inference.chip import Text
from inference.graph import graphs, opset
from inference.limits import MIB
from inference.passes import PassError
from inference.passes.values import STANDARD, copied, prune, settle, used, values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference.passes.values import Values

_MOST_BYTES: Final = 256 * MIB
"""All that is folded together: a constant of a few bytes can stand for any size."""
_TRAINS: Final = 3
_NEVER: Final = frozenset({
    "Bernoulli", "DequantizeLinear", "Dropout", "Multinomial", "QuantizeLinear", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike",
})
"""Drawn anew at each run; or the mark that a quantised weight carries for the chip's compiler."""


def apply(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold, and drop the weights that nobody reads any more. Raises PassError where that would grow beyond 256 MiB."""
    made = copied(model)
    graph = made.graph
    settle(made)
    _bypass(made)
    kept, folded = _folded(made)
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(folded)
    prune(made)
    return made


def _bypass(model: onnx.ModelProto) -> None:
    """Take out what gives its input as it is: Identity, and Dropout, which does so in inference."""
    graph = model.graph
    fixed = {one.name for one in graph.output} | _within(model)
    read = used(model)
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        if _gives_its_input(node, read) and not fixed & set(node.output):
            same[node.output[0]] = node.input[0]
        else:
            kept.append(_copied(node))
    del graph.node[:]
    graph.node.extend(kept)


def _gives_its_input(node: onnx.NodeProto, read: set[str]) -> bool:
    if node.domain not in STANDARD:
        return False
    # A third input says whether it trains; its second output is the mask.
    idle = node.op_type == "Dropout" and len(node.input) < _TRAINS and not read & set(node.output[1:])
    return node.op_type == "Identity" or idle


def _within(model: onnx.ModelProto) -> set[str]:
    """Names that subgraphs read: they keep them."""
    top = model.graph
    return {name for body in graphs(model) if body is not top for node in body.node for name in node.input}


def _folded(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes that stay, copied, and what the others gave."""
    known = values(model)
    constants = dict(known.constants)
    answers = {one.name for one in model.graph.output}
    kept, folded, taken = [], [], 0
    for node in model.graph.node:
        results = None if answers & set(node.output) else _results(model, node, known, constants)
        if results is None:
            kept.append(_copied(node))
            continue
        taken += sum(one.nbytes for one in results.values())
        if taken > _MOST_BYTES:
            most = _MOST_BYTES // MIB
            said = Text(f"its constants would take more than {most} MiB", f"其常量将超过 {most} MiB")
            raise PassError(said)
        for name, result in results.items():
            constants[name] = numpy_helper.from_array(result, name)
            folded.append(constants[name])
    return kept, folded


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _results(
    model: onnx.ModelProto, node: onnx.NodeProto, known: Values, constants: Mapping[str, onnx.TensorProto]
) -> dict[str, np.ndarray] | None:
    """What a node always gives; None where that is not known."""
    if node.domain not in STANDARD or node.op_type in _NEVER or any(one.HasField("g") for one in node.attribute):
        return None
    if node.op_type == "Shape":
        return _shape(node, known)
    if opset(model) < SINCE.get(node.op_type, 0):
        return None
    if not all(name in constants for name in node.input if name):
        return None
    return _computed(model, node, constants)


def _shape(node: onnx.NodeProto, known: Values) -> dict[str, np.ndarray] | None:
    """A shape is constant where the dimensions it asks for are, whatever the value is."""
    shape = known.shapes.get(node.input[0])
    if shape is None:
        return None
    bounds = {one.name: one.i for one in node.attribute}
    asked = shape[bounds.get("start"):bounds.get("end")]
    if None in asked:
        return None
    return {node.output[0]: np.asarray(asked, dtype=np.int64)}


def _computed(
    model: onnx.ModelProto, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> dict[str, np.ndarray] | None:
    names = [name for name in dict.fromkeys(node.input) if name]
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node], "one", [], [onnx.ValueInfoProto(name=name) for name in outputs], [constants[name] for name in names]
    )
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(alone).run(outputs, {})
    except FAILURES:
        return None
    if not all(isinstance(one, np.ndarray | np.generic) for one in results):
        return None
    return dict(zip(outputs, map(np.asarray, results), strict=True))
