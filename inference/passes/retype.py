"""Computes in another element type wherever ONNX has the operator for it, with casts where the two types meet.

The machine behind `half` and `narrow`. An operator's definition says which of its inputs and outputs share a type and
which element types that may be; what it fixes, and nodes that are told to, keep the old type. Inputs and outputs of the
graph keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from inference.passes.opset import standard
from inference.passes.values import STANDARD, copied, names, prune, settle, type_name, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inference.passes.values import Values

_TYPED: Final = ("to", "dtype")
"""Attributes that hold an element type."""
_SOURCES: Final = frozenset({
    "Bernoulli", "EyeLike", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    "SequenceEmpty",
})
"""Their element type may be the one of an attribute that is left out: they keep the old one."""


@dataclass(frozen=True, slots=True)
class Change:
    """From one element type of ONNX to another."""

    old: int
    new: int
    keeps: Callable[[onnx.NodeProto], bool] = lambda _: False
    """Whether a node is told to keep the old type."""
    unfit: frozenset[str] = frozenset()
    """Values that have no place in the new type. What is computed from them may have none either, and keeps the old."""

    @property
    def suffix(self) -> str:
        """Of the names of values in the new type."""
        return type_name(self.new)

    def tensor(self, one: onnx.TensorProto, name: str) -> onnx.TensorProto:
        """A constant in the new type."""
        dtype = helper.tensor_dtype_to_np_dtype(self.new)
        with np.errstate(over="ignore"):
            return numpy_helper.from_array(numpy_helper.to_array(one).astype(dtype), name)


@dataclass(slots=True)
class _Graph:
    """The graph as it grows: which names hold a value in which type."""

    change: Change
    known: Values
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    unfit: set[str] = field(default_factory=set)

    def fresh(self, name: str) -> str:
        """A name for a value in the new type that nothing else has."""
        made = f"{name}_{self.change.suffix}"
        while made in self.taken:
            made += "_"
        self.taken.add(made)
        return made

    def in_old(self, name: str) -> str:
        """The value in the old type, cast where it is there in the new one only."""
        if name not in self.old and name in self.new:
            self._cast(self.new[name], name, self.change.old)
            self.old[name] = name
        return name

    def in_new(self, name: str) -> str:
        """The value in the new type, cast where it is there in the old one only."""
        if name not in self.new:
            made = self.new[name] = self.fresh(name)
            if name in self.known.constants:
                self.weights.append(self.change.tensor(self.known.constants[name], made))
            else:
                self._cast(name, made, self.change.new)
        return self.new[name]

    def _cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=kind))


def apply(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    """The graph with as many nodes in the new type as there can be; as it was where there are none."""
    made = copied(model)
    settle(made)
    graph = made.graph
    growing = _Graph(change, values(made), taken=names(made), unfit=set(change.unfit))
    version = standard(made) or 1
    for node in list(graph.node):
        ports = _ports(node, version, growing)
        growing.nodes.append(_moved(node, ports, growing))
    for one in graph.output:
        growing.in_old(one.name)
    if not growing.new:
        return model
    del graph.node[:]
    graph.node.extend(growing.nodes)
    graph.initializer.extend(growing.weights)
    del graph.value_info[:]
    prune(made)
    return made


@dataclass(frozen=True, slots=True)
class _Ports:
    """Positions of a node that move to the new type."""

    inputs: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()


def _ports(node: onnx.NodeProto, version: int, growing: _Graph) -> _Ports:
    change, known = growing.change, growing.known
    if node.domain not in STANDARD or node.op_type in _SOURCES or _nested(node) or change.keeps(node):
        return _Ports()
    if (node.op_type == "ConstantOfShape" and not node.attribute) or growing.unfit & set(node.output):
        return _Ports()
    try:
        schema = defs.get_schema(node.op_type, version, "")
    except defs.SchemaError:
        return _Ports()
    old, new = type_name(change.old), f"tensor({_onnx_name(change.new)})"
    allowed = {one.type_param_str for one in schema.type_constraints if new in one.allowed_type_strs}
    ins = [(i, v, n) for i, v, n in _bound(schema.inputs, node.input) if known.types.get(n) == old and v in allowed]
    outs = [(i, v, n) for i, v, n in _bound(schema.outputs, node.output) if known.types.get(n) == old and v in allowed]
    # A type that only constants have is left: they are read as they are, and nothing is computed in it.
    moving = {v for _, v, name in ins if name not in known.constants} | {v for _, v, _ in outs}
    if any(name in growing.unfit for _, v, name in ins if v in moving):
        growing.unfit.update(node.output)
        return _Ports()
    return _Ports(
        frozenset(i for i, v, _ in ins if v in moving), frozenset(i for i, v, _ in outs if v in moving)
    )


def _bound(
    formal: Sequence[defs.OpSchema.FormalParameter], given: Sequence[str]
) -> Iterator[tuple[int, str, str]]:
    """Position, type as the definition has it, and name; the last formal parameter takes all that follow."""
    for index, name in enumerate(given):
        if name and formal:
            yield index, formal[min(index, len(formal) - 1)].type_str, name


def _moved(node: onnx.NodeProto, ports: _Ports, growing: _Graph) -> onnx.NodeProto:
    change = growing.change
    made = onnx.NodeProto()
    made.CopyFrom(node)
    for name in _captured(node):
        growing.in_old(name)
    for index, name in enumerate(node.input):
        if name:
            made.input[index] = growing.in_new(name) if index in ports.inputs else growing.in_old(name)
    for index in ports.outputs:
        name = node.output[index]
        made.output[index] = growing.new[name] = growing.fresh(name)
    if ports.outputs:
        _retyped(made, change)
    return made


def _retyped(node: onnx.NodeProto, change: Change) -> None:
    """What a node's attributes say of its element type."""
    for one in node.attribute:
        if one.name in _TYPED and one.i == change.old:
            one.i = change.new
        elif one.name == "value" and one.HasField("t") and one.t.data_type == change.old:
            one.t.CopyFrom(change.tensor(one.t, one.t.name))


def _nested(node: onnx.NodeProto) -> bool:
    return any(one.HasField("g") or one.graphs for one in node.attribute)


def _captured(node: onnx.NodeProto) -> set[str]:
    """Names that the subgraphs of a node may take from around it."""
    waiting = [one.g for one in node.attribute if one.HasField("g")]
    names: set[str] = set()
    while waiting:
        body = waiting.pop()
        names.update(one.name for one in body.output)
        for inner in body.node:
            names.update(inner.input)
            waiting += [one.g for one in inner.attribute if one.HasField("g")]
    return names


def _onnx_name(kind: int) -> str:
    name = str(onnx.TensorProto.DataType.Name(kind))
    return {"FLOAT": "float", "DOUBLE": "double"}.get(name, name.lower())
