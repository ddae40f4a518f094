"""ONNX Runtime for the engine process: any version since 1.12, its own providers or a plugin's, and no silent fallback.

Loaded by the engine from beside it; standard library and the runtime, Python 3.8 upwards.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from typing import TYPE_CHECKING, Any, Dict, Tuple, Type  # noqa: UP035 - Python 3.8

if TYPE_CHECKING:
    from inference import engine_wire as wire
else:
    wire = sys.modules["engine_wire"]

CPU = "CPUExecutionProvider"
RECORD = "session.record_ep_graph_assignment_info"
STRICT = "session.disable_cpu_ep_fallback"
FATAL_ONLY = 4
LOST = ("DeviceReset", "EngineError", "EPFail")
ERRORS = (
    "DeviceReset", "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel",
    "NoSuchFile", "NotFound", "NotImplemented", "RuntimeException", "ModelRequiresCompilation",
)
"""Its own, by name: no version has all of them."""
_plugins: Dict[str, str] = {}  # noqa: UP006 - Python 3.8
"""Libraries that were loaded, once in a process, with the SHA-256 of each as it was loaded."""


def _onnxruntime() -> Any:  # noqa: ANN401 - it has no types
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        message = f"ONNX Runtime cannot be loaded ({error})"
        raise wire.AbsentError(message) from error
    if hasattr(module, "disable_telemetry_events"):
        module.disable_telemetry_events()
    return module


def errors() -> Tuple[Type[Exception], ...]:  # noqa: UP006 - Python 3.8
    """Everything that ONNX Runtime raises, with what pybind makes of exceptions of C++."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return (*(getattr(state, name) for name in ERRORS if hasattr(state, name)), RuntimeError, ValueError, MemoryError)


def runtime(body: wire.Body) -> wire.Body:
    """Which ONNX Runtime this is, what it says it was built with, and a plugin's devices. Raises AbsentError."""
    module = _onnxruntime()
    found = {
        "name": "onnxruntime", "version": module.__version__, "providers": module.get_available_providers(),
        "numpy": importlib.import_module("numpy").__version__,
    }  # fmt: skip
    plugin = body.get("plugin")
    if plugin:
        try:
            listed = _devices(module, plugin)
            found["devices"] = len(listed)
            found["drivers"] = [str(getattr(one, "ep_metadata", {}).get("version", "")) for one in listed]
            found["sha256"] = _plugins[_library(plugin)]
        except errors() as error:
            raise wire.AbsentError(said(error)) from error
    return found


def said(error: Exception) -> str:
    """The runtime's message on one line, without its C++ source locations."""
    text = re.sub(r"\S*\.(cc|h):\d+ (?:\S+ )?", "", " ".join(str(error).split()))
    return text.replace("[ONNXRuntimeError] : ", "")[:600]


class Order:
    """One run, which can be cancelled."""

    def __init__(self, module: Any) -> None:  # noqa: ANN401 - it has no types
        """Not begun."""
        self.options = module.RunOptions()

    def cancel(self) -> None:
        """It ends as soon as the node that is computed now has ended."""
        self.options.terminate = True


class Session:
    """A model made ready."""

    def __init__(self, module: Any, made: Any) -> None:  # noqa: ANN401 - it has no types
        """As the runtime made it."""
        self._module, self._made = module, made

    def order(self) -> Order:
        """For a run."""
        return Order(self._module)

    def close(self) -> None:
        """Let the runtime free it."""
        self._made = None

    def run(self, names: list[str], feeds: dict[str, Any], order: Order) -> list[Any]:
        """Every output. Raises FeedError, LostError."""
        try:
            answers: list[Any] = self._made.run(names, feeds, order.options)
        except errors() as error:
            if order.options.terminate:
                message = "the run was cancelled"
                raise wire.LostError(message) from error
            if type(error).__name__ in LOST or isinstance(error, MemoryError) or "llocat" in str(error):
                raise wire.LostError(said(error)) from error
            message = f"the model fails on these inputs: {said(error)}"
            raise wire.FeedError(message) from error
        return answers


def open_session(body: wire.Body) -> Tuple[Session, wire.Body]:  # noqa: UP006 - Python 3.8
    """A session on this provider and no other, and what it is. Raises AbsentError, UnsupportedError, LostError."""
    module = _onnxruntime()
    provider, told = body["provider"], dict(body["told"])
    options = _options(module, body)
    try:
        listed: Any = [(provider, told)]
        if body.get("plugin"):
            _choose(module, options, body["plugin"], told)
            listed = None
        made = module.InferenceSession(body["path"], options, providers=listed, enable_fallback=0)
    except errors() as error:
        raise wire.UnsupportedError(said(error)) from error
    if made.get_providers()[0] != provider:
        message = f"asked for {provider}, ONNX Runtime made a session on {made.get_providers()[0]}"
        raise wire.UnsupportedError(message)
    return Session(module, made), {
        "inputs": _arguments(made.get_inputs()), "outputs": _arguments(made.get_outputs()),
        "providers": made.get_providers(), "parts": _parts(made), "version": module.__version__,
    }  # fmt: skip


def _options(module: Any, body: wire.Body) -> Any:  # noqa: ANN401 - it has no types
    options = module.SessionOptions()
    options.intra_op_num_threads = int(body["threads"])
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    entries = {"session.intra_op.allow_spinning": "0", RECORD: "1"}
    if body["provider"] != CPU:
        # It forbids the CPU as a fallback, so it would forbid the CPU as the wish, too.
        entries[STRICT] = "1"
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    for name, size in body["dims"].items():
        options.add_free_dimension_override_by_name(name, int(size))
    return options


def _devices(module: Any, plugin: wire.Body) -> list[Any]:  # noqa: ANN401 - no types
    """Load a plugin's library once, and list its devices by the provider's name. Raises AbsentError."""
    library = _library(plugin)
    if library not in _plugins:
        module.register_execution_provider_library(plugin["name"], library)
        with open(library, "rb") as file:  # noqa: PTH123 - Python 3.8, and nothing else of pathlib here
            content = hashlib.sha256()
            for block in iter(lambda: file.read(2**20), b""):
                content.update(block)
        _plugins[library] = content.hexdigest()
    return [one for one in module.get_ep_devices() if one.ep_name == plugin["provider"]]


def _library(plugin: wire.Body) -> str:
    """Its path, told by the caller or by the module of this environment, which must name the provider."""
    if not plugin["module"]:
        return str(plugin["library"])
    sys.path.extend(one for one in plugin["folders"] if one not in sys.path)
    try:
        maker = importlib.import_module(plugin["module"])
        named = maker.get_ep_names() if hasattr(maker, "get_ep_names") else [maker.get_ep_name()]
        library = str(maker.get_library_path())
    except (ImportError, AttributeError, OSError) as error:
        message = f"{plugin['module']} cannot be used: {error}"
        raise wire.AbsentError(message) from error
    if plugin["provider"] not in named:
        message = f"{plugin['module']} offers {', '.join(map(str, named))}, not {plugin['provider']}"
        raise wire.AbsentError(message)
    return library


def _choose(module: Any, options: Any, plugin: wire.Body, told: dict[str, str]) -> None:  # noqa: ANN401 - no types
    devices = _devices(module, plugin)
    ordinal = int(plugin["ordinal"])
    if not 0 <= ordinal < len(devices):
        message = f"{plugin['provider']} has {len(devices)} devices, asked for number {ordinal}"
        raise wire.LostError(message)
    options.add_provider_for_devices([devices[ordinal]], told)


def _arguments(listed: list[Any]) -> list[list[Any]]:
    def size(one: object) -> object:
        return one if isinstance(one, (int, str)) else None

    return [[one.name, one.type, [size(each) for each in one.shape]] for one in listed]


def _parts(made: Any) -> list[Any] | None:  # noqa: ANN401 - it has no types
    """Provider and nodes (operator, name) of each part; None where this version cannot tell."""
    if not hasattr(made, "get_provider_graph_assignment_info"):
        return None
    found = made.get_provider_graph_assignment_info()
    return [[part.ep_name, [[node.op_type, node.name] for node in part.get_nodes()]] for part in found]
