"""ONNX Runtime in an engine process: what runs in ours otherwise, with its own interpreter and without risk to us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from inference import Absent, Device
from inference.adapters import ort
from inference.adapters.opened import Opened, told
from inference.adapters.ort_plugin import said_of
from inference.chip import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from inference import Model, Options
    from inference.adapters.ort_plugin import Plugin
    from inference.adapters.plugin_probe import Wanted
    from inference.adapters.remote import Engine
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


class RemoteSession(Opened):
    """What `ort` asks of ONNX Runtime's session, asked of an engine."""

    def __init__(self, engine: Engine, request: Mapping[str, Any]) -> None:
        """Open it there. Raises UnsupportedModelError, DeviceLostError, BackendNotInstalledError."""
        super().__init__(engine, request)
        told = self.told
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

    @property
    def precisions(self) -> tuple[str, ...]:
        """What its sessions can be asked for."""
        return tuple(self.spec.precisions)

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

        return ort.prepared(spec, model, device, options, opened, self._engine.turns)

    def _library(self, device: Device) -> dict[str, Any] | None:
        if self._plugin is None:
            return None
        number = 0 if self._plugin.by_option else int(device.id.partition(":")[2] or 0)
        return {**wanted(self._plugin.wanted(), self.spec.vendor), "ordinal": number}

    def _look(self) -> dict[str, Any] | Absent:
        spec = self.spec
        found = runtime_of(self._engine, self._library(Device("", "", "", "", "")))
        if isinstance(found, str):
            return Absent(spec.vendor, found, spec.evidence)
        if self._plugin is None and spec.provider not in found["providers"]:
            reason = f"onnxruntime {found['version']} of {self._engine.place.python} is built without {spec.provider}"
            return Absent(spec.vendor, f"{reason} (package {spec.package})", spec.evidence)
        return found


def wanted(plugin: Wanted, vendor: str) -> dict[str, Any]:
    """A plugin as an engine is told of it: a library by its path, or the module of its environment that knows it."""
    return {"library": plugin.library, "module": plugin.module, "folders": list(plugin.folders),
            "name": f"headrace.{vendor}", "provider": plugin.provider, "ordinal": 0}  # fmt: skip


def runtime_of(engine: Engine, plugin: Mapping[str, Any] | None = None) -> dict[str, Any] | str:
    """Which runtime an engine has: `python`, `version`, `providers`, a plugin's `devices`; or why that is not known."""
    found = told(engine, {"driver": DRIVER, "plugin": plugin})
    return found.en if isinstance(found, Text) else found
