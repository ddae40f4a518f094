"""ONNX Runtime in an engine process: what runs in ours otherwise, with its own interpreter and without risk to us."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from inference import Absent, Device, DeviceLostError, InferenceError, UnsupportedModelError
from inference.adapters import ort
from inference.adapters.ort_plugin import said_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from inference import Model, Options, Tensor
    from inference.adapters.ort_plugin import Plugin
    from inference.adapters.remote import Engine, Lane
    from inference.adapters.session import CheckedSession

DRIVER: Final = "ort"


class Argument(NamedTuple):
    """An input or output, as ONNX Runtime's own."""

    name: str
    type: str
    shape: list[Any]


class _Node(NamedTuple):
    op_type: str
    name: str


@dataclass(frozen=True, slots=True)
class _Part:
    ep_name: str
    nodes: tuple[_Node, ...]

    def get_nodes(self) -> tuple[_Node, ...]:
        """Of this provider."""
        return self.nodes


class RemoteSession:
    """What `ort` asks of ONNX Runtime's session, asked of an engine. One call at a time."""

    def __init__(self, engine: Engine, request: Mapping[str, Any]) -> None:
        """Open it there. Raises UnsupportedModelError, DeviceLostError, BackendNotInstalledError."""
        self._lane, self._cancel = engine.lane(), engine.lane()
        self._lock = threading.Lock()
        try:
            told = self._lane.call({"op": "open", **request}, engine.place.open_s)
        except TimeoutError as error:
            self._lane.kill()
            self.close()
            message = f"making the model ready did not end within {engine.place.open_s:g} s; the engine was stopped"
            raise UnsupportedModelError(message) from error
        except InferenceError:
            self.close()
            raise
        self._key = told["session"]
        self._inputs = [Argument(*one) for one in told["inputs"]]
        self._outputs = [Argument(*one) for one in told["outputs"]]
        self._providers: list[str] = told["providers"]
        if told["parts"] is not None:
            parts = [_Part(ep, tuple(_Node(*node) for node in nodes)) for ep, nodes in told["parts"]]
            # A version that cannot tell has no such method, and is asked in the same way.
            self.get_provider_graph_assignment_info: Callable[[], Sequence[_Part]] = lambda: parts

    def get_inputs(self) -> list[Argument]:
        """As ONNX Runtime's."""
        return self._inputs

    def get_outputs(self) -> list[Argument]:
        """As ONNX Runtime's."""
        return self._outputs

    def get_providers(self) -> list[str]:
        """As ONNX Runtime's."""
        return self._providers

    def run(self, names: Sequence[str], feeds: Mapping[str, Tensor]) -> list[Any]:
        """As ONNX Runtime's. Raises InputError, DeviceLostError."""
        with self._lock:
            return self._lane.run(self._key, names, feeds, self._cancel)

    def close(self) -> None:
        """The engine lets go of it, too. Safe to call twice."""
        self._lane.close()
        self._cancel.close()

    def __del__(self) -> None:
        """A session that nobody holds any more is closed."""
        with suppress(AttributeError):
            self.close()


class EngineBackend:
    """A provider, built in or a plugin's, of the ONNX Runtime that an engine's interpreter has."""

    def __init__(self, spec: ort.Provider, engine: Engine, plugin: Plugin | None = None) -> None:
        """Nothing is started yet."""
        self.spec, self._engine, self._plugin = spec, engine, plugin

    def on(self, engine: Engine) -> EngineBackend:
        """The same in another engine."""
        return EngineBackend(self.spec, engine, self._plugin)

    def devices(self) -> tuple[Device, ...]:
        """What the engine's runtime says it has; none where the engine or the runtime is absent."""
        found = self._look()
        if isinstance(found, Absent):
            return ()
        spec = self.spec
        backend = f"onnxruntime {found['version']}, engine, Python {found['python']}"
        count = found.get("devices")
        ids = [spec.vendor] if count is None else [f"{spec.vendor}:{number}" for number in range(count)]
        drivers = found.get("drivers") or [""] * len(ids)
        return tuple(
            Device(
                one, spec.vendor, spec.describe(), backend, spec.evidence, said_of(driver, found.get("sha256", ""))
            )
            for one, driver in zip(ids, drivers, strict=True)
        )

    def absent(self) -> Absent | None:
        """Why there is no device: the interpreter, the runtime, the provider or the plugin."""
        found = self._look()
        return found if isinstance(found, Absent) else None

    def prepare(self, model: Model, device: Device, options: Options) -> CheckedSession:
        """Open the model in the engine. Raises UnsupportedModelError, DeviceLostError, BackendNotInstalledError."""
        spec = self.spec

        def opened(
            path: Path, dims: dict[str, int], told: Mapping[str, str]
        ) -> Any:  # noqa: ANN401 - as ONNX Runtime's session
            return RemoteSession(self._engine, {
                "driver": DRIVER, "path": str(path), "provider": spec.provider, "told": dict(told),
                "threads": options.threads, "dims": dims, "plugin": self._library(device),
            })  # fmt: skip

        return ort.prepared(spec, model, device, options, opened)

    def _library(self, device: Device) -> dict[str, Any] | None:
        if self._plugin is None:
            return None
        ordinal = int(device.id.partition(":")[2] or 0)
        return {"library": self._plugin.wanted().library, "name": f"headrace.{self.spec.vendor}",
                "provider": self.spec.provider, "ordinal": ordinal}  # fmt: skip

    def _look(self) -> dict[str, Any] | Absent:
        spec = self.spec
        found = runtime_of(self._engine, self._library(Device("", "", "", "", "")))
        if isinstance(found, str):
            return Absent(spec.vendor, found, spec.evidence)
        if self._plugin is None and spec.provider not in found["providers"]:
            reason = f"onnxruntime {found['version']} of {self._engine.place.python} is built without {spec.provider}"
            return Absent(spec.vendor, f"{reason} (package {spec.package})", spec.evidence)
        return found


def runtime_of(engine: Engine, plugin: Mapping[str, Any] | None = None) -> dict[str, Any] | str:
    """Which runtime an engine has: `python`, `version`, `providers`, a plugin's `devices`; or why that is not known."""
    lane: Lane | None = None
    try:
        lane = engine.lane()
        found = lane.call({"op": "runtime", "driver": DRIVER, "plugin": plugin}, engine.place.start_s)
        return {**found, "python": lane.about["python"]}
    except TimeoutError:
        if lane is not None:
            lane.kill()
        return "the engine did not say within its time which runtime it has"
    except (InferenceError, DeviceLostError) as error:
        return f"{error} (interpreter {engine.place.python})"
    finally:
        if lane is not None:
            lane.close()
