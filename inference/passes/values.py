"""What is known of a graph's values: which are constant, and of what element type and shape the others are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import onnx
from onnx import helper, shape_inference

from inference.graph import graphs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STANDARD: Final = ("", "ai.onnx")
_SMALL: Final = 1024
"""Elements; larger weights say nothing about shapes, and would only be copied."""
_PLAIN_WEIGHTS: Final = 4
"""The IR version from which on a weight need not stand among the inputs."""
_NAMES: Final = {"FLOAT": "float32", "DOUBLE": "float64", "STRING": "str"}


@dataclass(frozen=True, slots=True)
class Values:
    """Of the outermost graph. What nothing is known of is in neither mapping."""

    constants: Mapping[str, onnx.TensorProto]
    """Weights; those that stand among the inputs as well are never fed."""
    types: Mapping[str, str]
    """Element types as a TensorSpec has them: float32, int64, …, str."""
    shapes: Mapping[str, tuple[int | None, ...]]
    """None where a dimension is free or not known."""


def type_name(element: int) -> str:
    """An element type of ONNX as a TensorSpec has it."""
    name = str(onnx.TensorProto.DataType.Name(element))
    return _NAMES.get(name, name.lower())


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Another model with the same content."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are given at each run."""
    weights = {one.name for one in model.graph.initializer} | {
        one.values.name for one in model.graph.sparse_initializer
    }
    return [one for one in model.graph.input if one.name not in weights]


def used(model: onnx.ModelProto) -> set[str]:
    """Every name that a node of any graph reads, and those of the outputs."""
    names = {one.name for one in model.graph.output}
    for body in graphs(model):
        for node in body.node:
            names.update(node.input)
        if isinstance(body, onnx.GraphProto):
            names.update(one.name for one in body.output)
    return names


def names(model: onnx.ModelProto) -> set[str]:
    """Every name of a value, in any graph."""
    found = used(model)
    for body in graphs(model):
        found.update(name for node in body.node for name in node.output)
        if isinstance(body, onnx.GraphProto):
            found.update(one.name for one in (*body.input, *body.initializer))
    return found


def settle(model: onnx.ModelProto) -> None:
    """Take the weights out of the inputs, where files before IR 4 had to have them: they are never fed."""
    model.ir_version = max(model.ir_version, _PLAIN_WEIGHTS)
    inputs = fed(model)
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def prune(model: onnx.ModelProto) -> None:
    """Drop the weights that nobody reads."""
    read = used(model)
    kept = [one for one in model.graph.initializer if one.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def values(model: onnx.ModelProto) -> Values:
    """By ONNX's own inference, which follows small constants; where it gives up, by what the graph states."""
    inferred = _inferred(model)
    types, shapes = {}, {}
    for one in (*inferred.input, *inferred.value_info, *inferred.output):
        if one.type.HasField("tensor_type") and one.type.tensor_type.elem_type:
            types[one.name] = type_name(one.type.tensor_type.elem_type)
            if one.type.tensor_type.HasField("shape"):
                shapes[one.name] = sizes(one.type.tensor_type.shape.dim)
    constants = {one.name: one for one in model.graph.initializer}
    for name, one in constants.items():
        types[name], shapes[name] = type_name(one.data_type), tuple(one.dims)
    return Values(constants, types, shapes)


def sizes(dims: Iterable[onnx.TensorShapeProto.Dimension]) -> tuple[int | None, ...]:
    """Of each dimension, None where it is free. Some exporters write 0 or -1 for that."""
    return tuple(one.dim_value if one.dim_value > 0 else None for one in dims)


def _inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    graph = model.graph
    small = [one for one in graph.initializer if _count(one) <= _SMALL]
    kept = {one.name for one in small} | {one.name for one in graph.input}
    weights = [
        helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
        for one in graph.initializer if one.name not in kept
    ]
    light = helper.make_model(
        helper.make_graph(graph.node, graph.name or "g", [*graph.input, *weights], graph.output, small,
                          value_info=graph.value_info),
        opset_imports=model.opset_import, ir_version=max(model.ir_version, _PLAIN_WEIGHTS), functions=model.functions,
    )
    try:
        return shape_inference.infer_shapes(light, data_prop=True).graph
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return light.graph


def _count(one: onnx.TensorProto) -> int:
    product = 1
    for size in one.dims:
        product *= size
    return product
