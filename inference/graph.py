"""Reads a foreign ONNX graph without running it: sizes, operators, and the files it keeps its weights in."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import onnx

from inference import InvalidModelError
from inference.limits import MIB
from inference.unpack import safe_name

if TYPE_CHECKING:
    from pathlib import Path

    from inference.limits import Limits

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators every ONNX Runtime brings; all others need a library we would have to load."""

OLDEST_OPSET: Final = 1
_DecodeError: Final[type[Exception]] = importlib.import_module("google.protobuf.message").DecodeError
"""What onnx lets through when the protobuf is broken; protobuf is onnx's dependency, not ours."""
_DEEPEST: Final = 16
"""Subgraphs within subgraphs."""


def parse(path: Path, limits: Limits) -> onnx.ModelProto:
    """Parse the protobuf; external data is not read. Raises InvalidModelError."""
    if not path.is_file():
        message = "the package has no model.onnx at its top: put the graph there under this name"
        raise InvalidModelError(message)
    size = path.stat().st_size
    if size > limits.graph_bytes:
        message = (f"model.onnx has {size // MIB} MiB, more than {limits.graph_bytes // MIB}: "
                   "save it with its weights as external data")
        raise InvalidModelError(message)
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except _DecodeError as error:
        message = "the file is no ONNX model, or it is cut off: export or transfer it again"
        raise InvalidModelError(message) from error
    if not model.ir_version or not model.HasField("graph"):
        message = "the file is no ONNX model (no IR version or no graph): export it with onnx"
        raise InvalidModelError(message)
    return model


def _bodies(model: onnx.ModelProto) -> Iterator[tuple[onnx.GraphProto | onnx.FunctionProto, int]]:
    yield model.graph, 0
    for function in model.functions:
        yield function, 0


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The graph, its functions and all subgraphs. InvalidModelError when nested too deep."""
    waiting = list(_bodies(model))
    while waiting:
        body, depth = waiting.pop()
        if depth > _DEEPEST:
            message = f"subgraphs are nested deeper than {_DEEPEST}: simplify the model"
            raise InvalidModelError(message)
        yield body
        waiting += [(inner, depth + 1) for node in body.node for inner in _subgraphs(node)]


def count(model: onnx.ModelProto, limits: Limits) -> int:
    """Nodes of the graph, its functions and subgraphs. InvalidModelError beyond the limit or where there is none."""
    nodes = sum(len(body.node) for body in graphs(model))
    if nodes > limits.nodes:
        message = f"the model has {nodes} nodes, more than {limits.nodes}: simplify it or raise the limit"
        raise InvalidModelError(message)
    if not nodes:
        message = "the model has no nodes: it computes nothing"
        raise InvalidModelError(message)
    return nodes


def opset(model: onnx.ModelProto) -> int:
    """The opset of the standard operators; of the first domain where only another is used (ai.onnx.ml alone)."""
    versions: dict[str, int] = {each.domain: each.version for each in model.opset_import}
    if not versions:
        message = "the model imports no opset: export it again with a current exporter"
        raise InvalidModelError(message)
    return versions.get("", versions.get("ai.onnx", next(iter(versions.values()))))


def versions_problem(model: onnx.ModelProto) -> list[str]:
    """What this release of onnx cannot know: IR and opsets newer than itself."""
    newest_ir, newest = onnx.IR_VERSION, onnx.defs.onnx_opset_version()
    standard = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    problems = [
        f"opset {version} is not within {OLDEST_OPSET} to {newest}: export with opset 17"
        for version in standard if not OLDEST_OPSET <= version <= newest
    ]
    if model.ir_version > newest_ir:
        problems.append(f"IR version {model.ir_version} is newer than {newest_ir}: export with IR 8 to {newest_ir}")
    return problems


def foreign_operators(model: onnx.ModelProto) -> list[str]:
    """Operators of domains we bring no code for, each named once; the model's own functions are not foreign."""
    own = {(each.domain, each.name) for each in model.functions}
    found = {
        f"{node.domain}.{node.op_type}"
        for body in graphs(model) for node in body.node
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own
    }
    if not found:
        return []
    names = ", ".join(sorted(found)[:20])
    return [f"custom operators that no runtime here has: {names}; express them with standard ones or as functions"]


def _attribute_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for each in (*sparse, *attribute.sparse_tensors):
            yield from (each.values, each.indices)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for body in graphs(model):
        if isinstance(body, onnx.GraphProto):
            yield from body.initializer
            for each in body.sparse_initializer:
                yield from (each.values, each.indices)
        for node in body.node:
            yield from _attribute_tensors(node)


def external_files(model: onnx.ModelProto) -> list[str]:
    """The files beside the graph that hold weights, sorted. InvalidModelError for one that lies outside the package."""
    names = set()
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        try:
            names.add(PurePosixPath(safe_name(location)).as_posix())
        except InvalidModelError as error:
            message = (f"the weights {tensor.name!r} lie in {location!r}, outside the package: "
                       "save the external data beside model.onnx")
            raise InvalidModelError(message) from error
    return sorted(names)
