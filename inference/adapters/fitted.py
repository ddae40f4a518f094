"""A model as makers' compilers take it: shapes fixed, every name plain, weights inside.

Compilers write the names of a foreign graph into programs, scripts and command lines of theirs. None of its text
reaches them: values are `v1`, nodes `n1`, and a text attribute that could end a quoted string is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import onnx

from inference import UnsupportedModelError
from inference.adapters import bucketing
from inference.adapters.readable import beyond
from inference.graph import graphs
from inference.passes import PassError, opset, shapes
from inference.passes.values import fed, settle, sizes, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from inference import Model

_DOMAIN: Final = re.compile(r"[\w.]*", re.ASCII)
_TEXT: Final = re.compile(rb"[A-Za-z0-9_.,:>+*/ -]*")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was written, in plain names."""

    inputs: tuple[dict[str, Any], ...]
    """`name`, `dtype` and `shape` of each, in the order of the model's; a shape's None is not known."""
    outputs: tuple[dict[str, Any], ...]
    nodes: tuple[str, ...]


def write(
    model: Model, target: Path, *, rows: int | None, opsets: tuple[int | None, int | None] = (None, None),
    ir: int | None = None,
) -> Fitted:
    """Write it to `target`. Raises UnsupportedModelError.

    `rows`: the size of first dimensions that are free; None where none is. `opsets`, `ir`: the lowest and highest opset
    and the highest IR version that the compiler reads, None where it has no limit; what is beyond is converted.
    """
    made = bucketing.read(model.path)
    if not made.HasField("graph"):
        message = "the file is no ONNX model: it has no graph"
        raise UnsupportedModelError(message)
    onnx.load_external_data_for_model(made, str(model.path.parent))
    settle(made)
    try:
        made = opset.apply(made, version=beyond(model.opset, opsets), ir=ir)
        if rows is not None:
            made = shapes.apply(made, batch=rows)
    except PassError as error:
        raise UnsupportedModelError(str(error)) from error
    # A model may give the same value twice, or an input: each output has a name of its own all the same.
    _plain(made)
    try:
        onnx.save_model(made, target)
    except ValueError as error:
        message = f"with its weights inside, the model does not fit one file: {error}"
        raise UnsupportedModelError(message) from error
    nodes = tuple(node.name for node in made.graph.node)
    return Fitted(tuple(map(_spec, fed(made))), tuple(map(_spec, made.graph.output)), nodes)


def _spec(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    if not tensor.elem_type:
        message = "its border has sequences or maps, which no compiler takes"
        raise UnsupportedModelError(message)
    return {"name": value.name, "dtype": type_name(tensor.elem_type), "shape": list(sizes(tensor.shape.dim))}


def _plain(model: onnx.ModelProto) -> None:
    model.graph.name, model.producer_name, model.doc_string = "model", "", ""
    del model.metadata_props[:]
    new: dict[str, str] = {}
    for name in _names(model):
        if name:
            new.setdefault(name, f"v{len(new) + 1}")
    number = 0
    for body in graphs(model):
        for node in body.node:
            number += 1
            node.name, node.doc_string = f"n{number}", ""
            _checked(node)
            for field in (node.input, node.output):
                renamed = [new.get(name, name) for name in field]
                del field[:]
                field.extend(renamed)
        _rename(body, new)


def _names(model: onnx.ModelProto) -> Iterator[str]:
    """Every name of a value, of the graph and of those within: ONNX lets no inner name hide an outer one."""
    for body in graphs(model):
        if isinstance(body, onnx.GraphProto):
            for group in (body.input, body.output, body.initializer):
                yield from (one.name for one in group)
            yield from (one.values.name for one in body.sparse_initializer)
        for node in body.node:
            yield from (*node.input, *node.output)


def _rename(body: onnx.GraphProto | onnx.FunctionProto, new: dict[str, str]) -> None:
    if not isinstance(body, onnx.GraphProto):
        message = "it has functions of its own, which makers' compilers do not take"
        raise UnsupportedModelError(message)
    del body.value_info[:]
    del body.metadata_props[:]
    borders: Iterable[onnx.ValueInfoProto] = (*body.input, *body.output)
    for one in borders:
        one.doc_string = ""
        for dim in one.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    for value in (*body.input, *body.output, *body.initializer):
        value.name = new[value.name]
    for sparse in body.sparse_initializer:
        sparse.values.name = new[sparse.values.name]


def _checked(node: onnx.NodeProto) -> None:
    """Raises UnsupportedModelError for a text that is more than a word."""
    texts = [text for one in node.attribute for text in ([one.s] if one.s else []) + list(one.strings)]
    names = (node.op_type, *(one.name for one in node.attribute))
    if all(map(_TEXT.fullmatch, texts)) and all(map(str.isidentifier, names)) and _DOMAIN.fullmatch(node.domain):
        return
    message = f"a node {node.op_type[:40]!r} has texts that are not handed to a maker's compiler"
    raise UnsupportedModelError(message)
