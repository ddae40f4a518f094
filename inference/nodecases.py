"""Device conformance: ONNX's own node cases, each run through our sessions on one device and judged."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import onnx

from inference import InferenceError, Model, Options, TensorSpec, UnsupportedModelError
from inference.adapters.tensors import NUMBERS
from inference.graph import opset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from inference import Backend, Device, Session, Tensor

Outcome = Literal["passed", "fallen_back", "differs", "refused", "failed"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("passed", "fallen_back", "differs", "refused", "failed")
"""`refused`: not taken, by the device or at our border. `fallen_back`: right, but not all of it by the device."""


@dataclass(frozen=True, slots=True)
class Case:
    """One model of ONNX's backend test with its vectors."""

    name: str
    model: onnx.ModelProto
    vectors: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]
    """Inputs and expected outputs, in the order of the graph."""
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """The operator the case is counted under: that of its first node."""
        nodes = self.model.graph.node
        return nodes[0].op_type if nodes else ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case; `reason` is empty exactly when it passed."""

    case: str
    operator: str
    outcome: Outcome
    reason: str = ""


def cases(wanted: str = "") -> tuple[Case, ...]:
    """The node cases of the installed onnx whose name holds `wanted`, sorted; making them takes some 15 s."""
    loader = importlib.import_module("onnx.backend.test.loader")
    with warnings.catch_warnings():
        # Some cases overflow on purpose while numpy computes what to expect of them.
        warnings.simplefilter("ignore")
        loaded = loader.load_model_tests(kind="node")
    return tuple(
        Case(one.name, one.model, tuple((tuple(i), tuple(o)) for i, o in one.data_sets), one.rtol, one.atol)
        for one in sorted(loaded, key=lambda one: str(one.name)) if wanted in one.name
    )


def run(backend: Backend, device: Device, chosen: Iterable[Case]) -> Iterator[Result]:
    """Judge each case on the device. What the device does wrong is a result, never an exception."""
    with tempfile.TemporaryDirectory(prefix="headrace-conform-") as folder:
        path = Path(folder) / "model.onnx"
        for case in chosen:
            outcome, reason = _judged(backend, device, case, path)
            yield Result(case.name, case.operator, outcome, reason)


def by_operator(results: Sequence[Result]) -> dict[str, dict[str, int]]:
    """For each operator, sorted, how many cases had which outcome."""
    counted: dict[str, Counter[str]] = {}
    for one in results:
        counted.setdefault(one.operator, Counter())[one.outcome] += 1
    return {name: {outcome: counted[name][outcome] for outcome in OUTCOMES} for name in sorted(counted)}


def _judged(backend: Backend, device: Device, case: Case, path: Path) -> tuple[Outcome, str]:
    onnx.save(case.model, path)
    try:
        model = _model(case, path)
        session = backend.prepare(model, device, Options())
    except UnsupportedModelError as error:
        return "refused", str(error)
    except InferenceError as error:
        return "failed", str(error)
    try:
        return _answers(session, model, case)
    except InferenceError as error:
        return "failed", str(error)
    finally:
        session.close()


def _answers(session: Session, model: Model, case: Case) -> tuple[Outcome, str]:
    for given, expected in case.vectors:
        feeds = {spec.name: _array(value) for spec, value in zip(model.inputs, given, strict=True)}
        outputs = session.run(feeds)
        for spec, value in zip(model.outputs, expected, strict=True):
            reason = _difference(_array(value), outputs[spec.name], case)
            if reason:
                return "differs", f"output {spec.name!r}: {reason}"
    placement = session.placement
    if placement.on_device == placement.nodes and not placement.fallen_back:
        return "passed", ""
    return "fallen_back", ", ".join(placement.fallen_back) or placement.reason or "where the nodes run is unknown"


def _model(case: Case, path: Path) -> Model:
    graph = case.model.graph
    stored = {tensor.name for tensor in graph.initializer}
    return Model(
        digest="", sm3="", name=case.name, version="", path=path,
        inputs=tuple(_spec(value) for value in graph.input if value.name not in stored),
        outputs=tuple(_spec(value) for value in graph.output),
        opset=opset(case.model), ir_version=case.model.ir_version, nodes=len(graph.node),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "value without a type").removesuffix("_type")
        message = f"{value.name!r} is a {what}: only tensors are carried"
        raise UnsupportedModelError(message)
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type)
    dtype = {"FLOAT": "float32", "DOUBLE": "float64", "STRING": "str"}.get(name, name.lower())
    if dtype not in NUMBERS and dtype != "str":
        message = f"{value.name!r} is of type {name}, which numpy does not know: only its own types are carried"
        raise UnsupportedModelError(message)
    sizes = tuple(one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim)
    return TensorSpec(value.name, dtype, sizes)


def _array(value: Any) -> Tensor:  # noqa: ANN401 - whatever the cases hold
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def _difference(want: Tensor, have: Tensor, case: Case) -> str:
    """Why the answer is not the expected one, empty where it is; NaN is equal to NaN, as ONNX's own runner has it."""
    if want.shape != have.shape:
        return f"shape {list(have.shape)}, expected {list(want.shape)}"
    if want.dtype.kind in "OUS" or have.dtype.kind in "OUS":
        return "" if np.array_equal(want.astype(str), have.astype(str)) else "other text"
    if want.dtype != have.dtype:
        return f"{have.dtype}, expected {want.dtype}"
    if np.allclose(have, want, rtol=case.rtol, atol=case.atol, equal_nan=True):
        return ""
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        gap = np.abs(have.astype(wide) - want.astype(wide))
    return f"differs by up to {float(np.nanmax(gap)) if not np.isnan(gap).all() else float('nan'):.3g}"
