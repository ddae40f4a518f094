"""Device conformance: ONNX's own backend cases as the kit carries them, and our sessions as the kit's target."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

from inference import UnsupportedModelError
from inference.adapters.tensors import NUMBERS
from inference.graph import opset
from inference.kit import Case, Graph, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inference.kit import Value

KINDS: Final = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
"""The kinds of ONNX's backend test: 2,033 cases in onnx 1.23. `real` are nine whole networks, whose weights are made up
inside the graph: VGG-19 takes 570 MB of memory."""
_PROTOS: Final[dict[str, tuple[Any, Callable[[Any], Any]]]] = {
    "tensor_type": (onnx.TensorProto, onnx.numpy_helper.to_array),
    "sequence_type": (onnx.SequenceProto, onnx.numpy_helper.to_list),
    "optional_type": (onnx.OptionalProto, onnx.numpy_helper.to_optional),
}


def cases(wanted: str = "") -> tuple[Case, ...]:
    """The cases of the installed onnx whose name holds `wanted`, by kind and name; making them takes some 5 s."""
    loader = importlib.import_module("onnx.backend.test.loader")
    with warnings.catch_warnings():
        # Some cases overflow on purpose while numpy computes what to expect of them.
        warnings.simplefilter("ignore")
        loaded = [(kind, loader.load_model_tests(kind=kind)) for kind in KINDS]
    return tuple(
        _loaded(one, kind) for kind, some in loaded
        for one in sorted(some, key=lambda one: str(one.name)) if wanted in one.name
    )


def _loaded(one: Any, kind: str) -> Case:  # noqa: ANN401 - onnx's TestCase
    if one.model_dir is None and one.url:
        return _network(one, kind)
    if one.model is not None:
        vectors = [(tuple(map(_plain, given)), tuple(map(_plain, expected))) for given, expected in one.data_sets]
        return case(one.name, one.model, vectors, rtol=one.rtol, atol=one.atol, kind=kind)
    folder = Path(one.model_dir)
    model = onnx.load(folder / "model.onnx")
    stored = [
        (tuple(_stored(each, "input", _fed(model))), tuple(_stored(each, "output", model.graph.output)))
        for each in sorted(folder.glob("test_data_set_*"))
    ]
    return case(one.name, model, stored, rtol=one.rtol, atol=one.atol, kind=kind)


def _network(one: Any, kind: str) -> Case:  # noqa: ANN401 - onnx's TestCase
    """A network of the package: ONNX's runner feeds it a ramp from 0 to 1, and keeps what it answers beside it."""
    path = Path(onnx.__file__).parent.parent / one.url
    model = onnx.load(path)
    given = tuple(_ramp(value) for value in _fed(model))
    expected = tuple(
        _plain(onnx.load_tensor(path.with_name(f"{path.stem}_output_{number}.pb")))
        for number in range(len(model.graph.output))
    )
    return case(one.name, model, ((given, expected),), rtol=one.rtol, atol=one.atol, kind=kind)


def _ramp(value: onnx.ValueInfoProto) -> Value:
    shape = [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
    count = math.prod(shape)
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def case(
    name: str, model: onnx.ModelProto, vectors: Sequence[tuple[tuple[Value, ...], tuple[Value, ...]]], *,
    rtol: float = 1e-3, atol: float = 1e-7, kind: str = "node",
) -> Case:
    """A case of a model and its vectors: inputs and outputs in the order of the graph."""
    nodes = model.graph.node
    made, barred = graph(name, model)
    return Case(made, nodes[0].op_type if nodes else "", tuple(vectors), rtol, atol, kind, barred)


def graph(name: str, model: onnx.ModelProto) -> tuple[Graph, str]:
    """The model as the kit carries it, and why none of our sessions can, or nothing."""
    try:
        inputs, outputs = tuple(map(_spec, _fed(model))), tuple(map(_spec, model.graph.output))
        barred = ""
    except UnsupportedModelError as error:
        inputs, outputs, barred = (), (), str(error)
    made = Graph(
        name, model.SerializeToString(), inputs, outputs, len(model.graph.node), opset(model), model.ir_version
    )
    return made, barred


def _fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs without a stored value: old exporters list weights among them."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _stored(folder: Path, which: str, values: Sequence[onnx.ValueInfoProto]) -> Iterator[Value]:
    """What a case keeps in files, one for each value."""
    for number, value in enumerate(values):
        proto, read = _PROTOS[str(value.type.WhichOneof("value"))]
        yield _plain(read(proto.FromString((folder / f"{which}_{number}.pb").read_bytes())))


def _spec(value: onnx.ValueInfoProto) -> Spec:
    kind = value.type.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return Spec(value.name, kind.removesuffix("_type"), ())
    if kind != "tensor_type":
        message = f"{value.name!r} is a {(kind or 'value without a type').removesuffix('_type')}: it is not carried"
        raise UnsupportedModelError(message)
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type)
    dtype = {"FLOAT": "float32", "DOUBLE": "float64", "STRING": "str"}.get(name, name.lower())
    if dtype not in NUMBERS and dtype != "str":
        message = f"{value.name!r} is of type {name}, which numpy does not know: only its own types are carried"
        raise UnsupportedModelError(message)
    sizes = tuple(one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim)
    return Spec(value.name, dtype, sizes)


def _plain(value: Any) -> Value:  # noqa: ANN401 - whatever the cases hold
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return np.asarray(value)
