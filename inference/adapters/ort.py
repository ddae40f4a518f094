"""ONNX Runtime with a provider it was built with: sessions that never fall back silently.

Four ways lead from a wanted provider to the CPU unseen. The list of available providers is believed only where it says
no, for it also names those whose libraries are missing; the Python wrapper's own fallback is off; the provider must
stand first in the session made; and the node assignment of the session itself is counted, where what cannot be told
counts as fallen back.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from inference import (
    Absent,
    BackendNotInstalledError,
    Device,
    DeviceLostError,
    InferenceError,
    InputError,
    Placement,
    TensorSpec,
    UnsupportedModelError,
)
from inference.adapters import bucketing
from inference.adapters.batching import find, fixed
from inference.adapters.session import CheckedSession
from inference.adapters.tensors import NUMBERS, as_array
from inference.adapters.turns import Turns
from inference.buckets import SIZES

if TYPE_CHECKING:
    from pathlib import Path

    from inference import Model, Options, Session, Tensor
    from inference.adapters.batching import Call
    from inference.chip import Shape

T = TypeVar("T")
Open = Callable[["Path", dict[str, int], Mapping[str, str]], Any]
CPU: Final = "CPUExecutionProvider"
_TURNS: Final[dict[str, Turns]] = {}
"""By provider, of its sessions in this process."""
_RECORD: Final = "session.record_ep_graph_assignment_info"
_STRICT: Final = "session.disable_cpu_ep_fallback"
_FATAL_ONLY: Final = 4
"""Log severity: what goes wrong is raised with its text, so a second copy on stderr helps nobody."""

_RAN: Final = "Non-zero status code returned while running "
_TYPES: Final = {"float": "float32", "double": "float64", "string": "str"}
_LOST: Final = ("DeviceReset", "EngineError", "EPFail")
_ERRORS: Final = (
    "DeviceReset", "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel",
    "NoSuchFile", "NotFound", "NotImplemented", "RuntimeException", "ModelRequiresCompilation",
)


@dataclass(frozen=True, slots=True)
class Provider:
    """A vendor's data for this adapter."""

    vendor: str
    provider: str
    """The execution provider's registered name."""
    evidence: str
    package: str
    """What to install when ONNX Runtime is absent."""
    describe: Callable[[], str]
    """The device's name for people."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the provider is told, whatever the session: which card, for one."""
    precisions: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=lambda: {"fp32": ({},)})
    """What it is told besides, for each precision it can be asked for. Several are tried in turn: an option has another
    name in another version of the provider."""
    shapes: tuple[Shape, ...] = ("dynamic",)
    """How it meets free dimensions. Without `dynamic` and `profile`, a free batch is run in buckets."""
    buckets: tuple[int, ...] = SIZES
    """Rows at a time, ascending, where it takes fixed numbers of them."""
    one_at_a_time: bool = False
    """Whether its sessions in a process have to take turns."""


@cache
def runtime() -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
    """ONNX Runtime, its telemetry off. Raises BackendNotInstalledError."""
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        message = f"ONNX Runtime cannot be loaded ({error}): install onnxruntime"
        raise BackendNotInstalledError(message) from error
    module.disable_telemetry_events()
    module.set_default_logger_severity(_FATAL_ONLY)
    return module


@cache
def errors() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises, including pybind's own conversions of C++ exceptions."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = tuple(getattr(state, name) for name in _ERRORS if hasattr(state, name))
    return (*own, RuntimeError, ValueError, MemoryError)


def said(error: Exception) -> str:
    """The runtime's message on one line, without its C++ source locations."""
    text = " ".join(str(error).split())
    # A plugin's own error arrives inside that of ONNX Runtime, behind the signature of a C++ function.
    text = text[max(0, text.rfind("[ONNXRuntimeError] : ")):]
    text = re.sub(r"\S*\.(cc|h):\d+ (?:\S+ )?", "", text)
    # What a plugin compiled has a name that only ONNX Runtime knows.
    text = re.sub(rf"{_RAN}\w+ExecutionProvider_\w+ node. Name:'\S+' Status Message: ", "", text)
    return text.replace("[ONNXRuntimeError] : ", "")[:600]


def translated(error: Exception) -> InferenceError:
    """A failed run as the error that says whose move it is."""
    text = said(error)
    lost = type(error).__name__ in _LOST or isinstance(error, MemoryError) or "llocat" in text
    return DeviceLostError(text) if lost else InputError(f"the model fails on these inputs: {text}")


def _dtype(kind: str) -> str:
    """ONNX Runtime's type text as our dtype: `tensor(float)`, `seq(map(int64,tensor(float)))`."""
    if kind.startswith("seq(map("):
        return "map"
    if kind.startswith("seq("):
        return "sequence"
    inner = kind.removeprefix("tensor(").removesuffix(")")
    name = _TYPES.get(inner, inner)
    if name not in NUMBERS and name != "str":
        message = f"the type {kind} cannot cross the border of a model here: add a Cast to float32 inside the graph"
        raise UnsupportedModelError(message)
    return name


def _spec(argument: Any) -> TensorSpec:  # noqa: ANN401 - ONNX Runtime's NodeArg
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in argument.shape)
    return TensorSpec(argument.name, _dtype(argument.type), shape)


def contract(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an .onnx as the CPU reference sees them. Raises UnsupportedModelError."""
    session = _open(path, CPU, 1, {}, {})
    return tuple(map(_spec, session.get_inputs())), tuple(map(_spec, session.get_outputs()))


def session_options(threads: int, dims: dict[str, int], *, strict: bool) -> Any:  # noqa: ANN401 - SessionOptions
    """What every session is made with; `strict` forbids the CPU as a fallback. `dims`: free dimensions to be fixed."""
    options = runtime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Worker processes share cores: a thread that spins for the next run takes them from the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(_RECORD, "1")
    if strict:
        options.add_session_config_entry(_STRICT, "1")
    for name, size in dims.items():
        options.add_free_dimension_override_by_name(name, size)
    return options


def _open(
    path: Path, provider: str, threads: int, dims: dict[str, int], told: Mapping[str, str]
) -> Any:  # noqa: ANN401 - InferenceSession
    # The strict entry forbids the CPU as a fallback, so it would forbid the CPU as the wish, too.
    options = session_options(threads, dims, strict=provider != CPU)
    return session_on(path, options, provider, [(provider, dict(told))])


def session_on(
    path: Path, options: Any, provider: str, listed: Sequence[tuple[str, dict[str, str]]] | None  # noqa: ANN401
) -> Any:  # noqa: ANN401 - InferenceSession
    """A session of this provider and no other. `listed`: None where `options` name its devices already.

    Raises UnsupportedModelError, also where ONNX Runtime made one on something else.
    """
    try:
        session = runtime().InferenceSession(str(path), options, providers=listed, enable_fallback=0)
    except errors() as error:
        raise UnsupportedModelError(said(error)) from error
    if session.get_providers()[0] != provider:
        message = f"asked for {provider}, ONNX Runtime made a session on {session.get_providers()[0]}"
        raise UnsupportedModelError(message)
    return session


def placed(session: Any, provider: str, nodes: int) -> Placement:  # noqa: ANN401 - InferenceSession
    """Where the nodes of a session run, after the runtime's own fusions. `nodes` is used where it cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        reason = "this ONNX Runtime cannot tell where nodes run; unknown counts as fallen back"
        return Placement(nodes, 0, ("unknown",), reason)
    ours, others = 0, []
    for part in session.get_provider_graph_assignment_info():
        if part.ep_name == provider:
            ours += len(part.get_nodes())
        else:
            others += [f"{node.op_type} {node.name} on {part.ep_name}" for node in part.get_nodes()]
    return Placement(ours + len(others), ours, tuple(others))


def _caller(session: Any) -> Call:  # noqa: ANN401 - InferenceSession
    """One run, as directly as the runtime's public interface allows."""
    names = [output.name for output in session.get_outputs()]
    tensors = all(output.type.startswith("tensor(") for output in session.get_outputs())
    raised = errors()
    run = session.run

    def call(feeds: dict[str, Tensor]) -> list[Tensor]:
        try:
            outputs: list[Tensor] = run(names, feeds)
        except raised as error:
            raise translated(error) from error
        return outputs if tensors else [as_array(value) for value in outputs]

    return call


def understood(open_with: Callable[[Mapping[str, str]], T], alternatives: Sequence[Mapping[str, str]]) -> T:
    """What is opened with the first options whose names the provider knows; any other refusal is the answer.

    Raises UnsupportedModelError. A provider that knows none of them would compute in a precision nobody asked for.
    """
    unknown = []
    for told in alternatives:
        try:
            return open_with(told)
        except UnsupportedModelError as error:
            if "nknown provider option" not in str(error):
                raise
            unknown.append(str(error))
    raise UnsupportedModelError("; ".join(unknown))


class OrtBackend:
    """ONNX Runtime bound to one vendor's provider."""

    def __init__(self, spec: Provider) -> None:
        """Nothing is loaded yet."""
        self.spec = spec

    def devices(self) -> tuple[Device, ...]:
        """One device, or none where ONNX Runtime is absent or has no such provider."""
        if self.absent() is not None:
            return ()
        spec = self.spec
        backend = f"onnxruntime {runtime().__version__}"
        return (Device(spec.vendor, spec.vendor, spec.describe(), backend, spec.evidence),)

    def absent(self) -> Absent | None:
        """Why there is no device."""
        spec = self.spec
        try:
            listed = runtime().get_available_providers()
        except BackendNotInstalledError as error:
            return Absent(spec.vendor, f"{error} (package {spec.package})", spec.evidence)
        if spec.provider in listed:
            return None
        without = f"no {spec.provider} in onnxruntime {runtime().__version__}"
        return Absent(spec.vendor, f"{without} (package {spec.package})", spec.evidence)

    @property
    def precisions(self) -> tuple[str, ...]:
        """What its sessions can be asked for."""
        return tuple(self.spec.precisions)

    def prepare(self, model: Model, device: Device, options: Options) -> Session:
        """Open the model, count its placement and try its batch. Raises UnsupportedModelError."""
        spec = self.spec

        def opened(path: Path, dims: dict[str, int], told: Mapping[str, str]) -> Any:  # noqa: ANN401 - InferenceSession
            return _open(path, spec.provider, options.threads, dims, told)

        return prepared(spec, model, device, options, opened)


def prepared(
    spec: Provider, model: Model, device: Device, options: Options, opened: Open, turns: Turns | None = None
) -> CheckedSession:
    """A session in the precision asked for, its placement counted and its batch tried. Raises UnsupportedModelError.

    `opened` makes ONNX Runtime's session from a file, dimensions to be fixed and what the provider is told. `turns`:
    of the engine that holds the session, where one does.
    """
    told = precision(spec, device, options)
    taking = (turns or _TURNS.setdefault(spec.provider, Turns())) if spec.one_at_a_time else None

    def open_with(path: Path, dims: dict[str, int]) -> tuple[Call, Placement]:
        with taking or nullcontext():
            session = understood(lambda more: opened(path, dims, {**spec.options, **more}), told)
        call = _caller(session)
        return taking.call(call) if taking else call, placed(session, spec.provider, model.nodes)

    made = _fitted(spec, model, options, open_with)
    made.turns = taking
    return made


def _fitted(
    spec: Provider, model: Model, options: Options, open_with: Callable[[Path, dict[str, int]], tuple[Call, Placement]]
) -> CheckedSession:
    """The session at the sizes that the provider takes."""
    if options.batch is None and bucketing.needed(model, spec.shapes):
        with bucketing.named(model.path) as path:
            first = bucketing.first_dimensions(path)
            return bucketing.session(model, spec.buckets, lambda size: open_with(path, dict.fromkeys(first, size)))
    dims = {} if options.batch is None else dict.fromkeys(bucketing.first_dimensions(model.path), options.batch)
    call, placement = open_with(model.path, dims)
    batching = find(model, call) if options.batch is None else fixed(model, options.batch)
    return CheckedSession(call, model.inputs, [spec.name for spec in model.outputs], placement, batching)


def precision(spec: Provider, device: Device, options: Options) -> Sequence[Mapping[str, str]]:
    """What asks this provider for the precision. Raises UnsupportedModelError where it cannot be asked for it."""
    asked = spec.precisions.get(options.precision)
    if asked is None:
        offered = ", ".join(spec.precisions)
        message = f"{device.id} can be asked for {offered}; {options.precision} must be in the model itself"
        raise UnsupportedModelError(message)
    return asked
