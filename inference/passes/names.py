"""Plain names for nodes, each its own, and for the values between them; inputs and outputs keep theirs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import onnx

from inference.graph import graphs
from inference.passes.values import copied

if TYPE_CHECKING:
    from collections.abc import Iterable

_ODD = re.compile(r"[^A-Za-z0-9_]+")


def apply(model: onnx.ModelProto) -> onnx.ModelProto:
    """Names of letters, digits and underscores, each once. A graph with subgraphs keeps the names of its values."""
    made = copied(model)
    taken: set[str] = set()
    for body in graphs(made):
        for node in body.node:
            node.name = _free(node.name or f"{node.op_type}_{len(taken)}", taken)
    if sum(1 for _ in graphs(made)) == 1:
        _rename(made.graph)
    return made


def _free(name: str, taken: set[str]) -> str:
    plain = wanted = _ODD.sub("_", name).strip("_") or "value"
    number = 1
    while plain in taken:
        number += 1
        plain = f"{wanted}_{number}"
    taken.add(plain)
    return plain


def _rename(graph: onnx.GraphProto) -> None:
    border = {one.name for one in (*graph.input, *graph.output)}
    taken = set(border)
    new: dict[str, str] = {}
    for name in _within(graph):
        if name and name not in border and name not in new:
            new[name] = _free(name, taken)
    for node in graph.node:
        for field in (node.input, node.output):
            renamed = [new.get(name, name) for name in field]
            del field[:]
            field.extend(renamed)
    for one in (*graph.initializer, *graph.value_info):
        one.name = new.get(one.name, one.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new.get(sparse.values.name, sparse.values.name)


def _within(graph: onnx.GraphProto) -> Iterable[str]:
    yield from (one.name for one in graph.initializer)
    yield from (one.values.name for one in graph.sparse_initializer)
    for node in graph.node:
        yield from node.output
