"""ONNX Runtime with a provider loaded as a library: registered once in a process, its devices chosen by its name.

The list of hardware is never asked what kind of device something is, as a plugin may hang its own on the CPU. A library
is loaded in a child before it is loaded here; what crashes there is absent here, with the reason. The ways to the CPU
unseen are closed as for a provider that is built in (`ort.py`), and an empty list of devices, which would make a
session of the CPU's, is refused before ONNX Runtime sees it.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from inference import Absent, BackendNotInstalledError, Device, DeviceLostError, UnsupportedModelError, artefacts
from inference.adapters import ort
from inference.adapters.plugin_probe import NoDeviceError, Offered, Wanted, probe
from inference.chip import MissingPartError, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference import Model, Options
    from inference.adapters.session import CheckedSession

_BELIEVED_S: Final = 30.0
"""A library that could not be loaded is tried again after this long."""
_ON_CPU: Final = "assigned to the default CPU EP"
"""What ONNX Runtime says where it was forbidden to put nodes on the CPU."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A vendor's data for this adapter."""

    provider: ort.Provider
    wanted: Callable[[], Wanted]
    """What to load. Raises BackendNotInstalledError where a part that has to be there first is missing."""
    no_device: Text | None = None
    """Why it may list none, and what to do."""
    by_option: bool = False
    """Whether an option of the provider takes the card's number, and the plugin lists one device for all cards."""
    ahead: bool = False
    """Whether it compiles ahead of time (EPContext), so that the artefact can be kept."""


@dataclass(slots=True)
class _Loaded:
    """A library that ONNX Runtime holds in this process."""

    name: str
    sha256: str
    """Of the file as it was loaded: what lies in its place later is not what runs here."""
    sessions: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: MissingPartError
    until: float


_LOCK: Final = threading.RLock()
_LOADED: Final[dict[str, _Loaded]] = {}
"""By path: registered under two names a library would offer every device twice."""
_NUMBERS: Final = itertools.count()
_PROBED: Final[dict[tuple[Wanted, float], Offered | _Failed]] = {}


def probed(wanted: Wanted) -> Offered:
    """What a child found, remembered; a library that has been replaced is another one."""
    path = Path(wanted.library) if wanted.library else None
    changed = path.stat().st_mtime if path is not None and path.exists() else 0.0
    key = (wanted, changed)
    with _LOCK:
        known = _PROBED.get(key)
        if isinstance(known, Offered):
            return known
        if known is not None and known.until > time.monotonic():
            raise known.reason
        try:
            found = _PROBED[key] = probe(wanted)
        except MissingPartError as error:
            _PROBED[key] = _Failed(error, time.monotonic() + _BELIEVED_S)
            raise
        return found


def _load(wanted: Wanted, vendor: str) -> _Loaded:
    """Register the library in this process, once. Raises BackendNotInstalledError."""
    runtime = ort.runtime()
    offered = probed(wanted)
    with _LOCK:
        there = _LOADED.get(offered.library)
        if there is not None:
            return there
        name = f"headrace.{vendor}.{next(_NUMBERS)}"
        try:
            runtime.register_execution_provider_library(name, offered.library)
        except ort.errors() as error:
            said = ort.said(error)
            raise MissingPartError(Text(f"{offered.library} loads in a process of its own and not in this one: {said}",
                                        f"{offered.library} 可在独立进程中加载，但在本进程中失败：{said}")) from error
        made = _LOADED[offered.library] = _Loaded(name, digest_of(offered.library))
        return made


def digest_of(library: str) -> str:
    """SHA-256 of a library, hexadecimal; empty where it cannot be read."""
    try:
        with Path(library).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def said_of(version: str, sha256: str) -> str:
    """A plugin as a driver calls itself, and which build it is: a build that keeps its version is another one, too."""
    return ", ".join(part for part in (version, sha256 and f"sha256:{sha256[:16]}") if part)


class PluginBackend:
    """A provider plugin bound to one vendor's data."""

    def __init__(self, plugin: Plugin) -> None:
        """Nothing is loaded yet."""
        self.plugin = plugin

    def devices(self) -> tuple[Device, ...]:
        """Each device that the plugin lists; none where it cannot be loaded."""
        spec = self.plugin.provider
        try:
            listed = self._listed()
            loaded = _load(self.plugin.wanted(), spec.vendor)
        except BackendNotInstalledError:
            return ()
        backend = f"onnxruntime {ort.runtime().__version__}, {spec.provider}"
        return tuple(
            Device(
                f"{spec.vendor}:{number}", spec.vendor, spec.describe(), backend, spec.evidence,
                said_of(getattr(one, "ep_metadata", {}).get("version", ""), loaded.sha256),
            )
            for number, one in enumerate(listed)
        )

    def absent(self) -> Absent | None:
        """Which part is missing, or how the library failed."""
        spec = self.plugin.provider
        try:
            self._listed()
        except NoDeviceError as error:
            said = self.plugin.no_device or error.text
            return Absent(spec.vendor, said.en, spec.evidence, said.zh)
        except MissingPartError as error:
            return Absent(spec.vendor, error.text.en, spec.evidence, error.text.zh)
        except BackendNotInstalledError as error:
            return Absent(spec.vendor, str(error), spec.evidence)
        return None

    @property
    def precisions(self) -> tuple[str, ...]:
        """What its sessions can be asked for."""
        return tuple(self.plugin.provider.precisions)

    def prepare(self, model: Model, device: Device, options: Options) -> CheckedSession:
        """Open the model on that device and nowhere else. Raises UnsupportedModelError, naming nodes it does not take.

        Raises DeviceLostError where the plugin or the device is no longer there.
        """
        return self._prepared(model, device, options)

    def compile(self, model: Model, device: Device, options: Options, artefact: Path) -> Path:
        """Compile ahead of time: an ONNX file whose nodes hold what the provider's compiler made (EPContext).

        The caller chooses `artefact` so that it stands for model, device, driver and options; it is replaced at once
        or not at all. Raises UnsupportedModelError, and DeviceLostError as `prepare` does.
        """
        spec = self.plugin.provider
        told = ort.precision(spec, device, options)
        made = artefact.with_name(f"{artefact.name}.new")

        def compiled(more: Mapping[str, str]) -> None:
            self._compile(model.path, made, options.threads, {}, self._chosen(device), {**spec.options, **more})

        try:
            ort.understood(compiled, told)
            made.replace(artefact)
        finally:
            made.unlink(missing_ok=True)
        return artefact

    def load(self, artefact: Path, model: Model, device: Device, options: Options) -> CheckedSession:
        """A session from what `compile` made of this model. Raises UnsupportedModelError, also for what others made."""
        return self._prepared(replace(model, path=artefact), device, options)

    def unload(self) -> None:
        """Give the library back. Raises BackendNotInstalledError where sessions are still open."""
        with _LOCK:
            offered = probed(self.plugin.wanted())
            there = _LOADED.get(offered.library)
            if there is None:
                return
            if len(there.sessions):
                message = f"{len(there.sessions)} session(s) of {offered.library} are open: close them first"
                raise BackendNotInstalledError(message)
            ort.runtime().unregister_execution_provider_library(there.name)
            del _LOADED[offered.library]

    def _prepared(self, model: Model, device: Device, options: Options) -> CheckedSession:
        spec = self.plugin.provider

        def opened(path: Path, dims: dict[str, int], told: Mapping[str, str]) -> Any:  # noqa: ANN401 - InferenceSession
            more = dict(told)
            session = self._from_artefact(path, model, device, options, dims, more)
            if session is None:
                session = self._direct(path, model, device, options, dims, more)
            _load(self.plugin.wanted(), spec.vendor).sessions.add(session)
            return session

        return ort.prepared(spec, model, device, options, opened)

    def _direct(
        self, path: Path, model: Model, device: Device, options: Options, dims: dict[str, int], told: dict[str, str]
    ) -> Any:  # noqa: ANN401 - InferenceSession
        """A session of the model itself. Raises UnsupportedModelError with the nodes that are not taken."""
        chosen = self._chosen(device)
        try:
            return self._open(path, options.threads, dims, chosen, told, strict=True)
        except UnsupportedModelError as error:
            if _ON_CPU not in str(error):
                raise
            lax = self._open(path, options.threads, dims, chosen, told, strict=False)
            left = _left(device, ort.placed(lax, self.plugin.provider.provider, model.nodes))
            raise UnsupportedModelError(left) from error

    def _from_artefact(
        self, path: Path, model: Model, device: Device, options: Options, dims: dict[str, int], told: dict[str, str]
    ) -> Any:  # noqa: ANN401 - InferenceSession
        """A session of what was compiled before, or is now; None where that cannot be kept or does not load."""
        kept = artefacts.kept() if self.plugin.ahead and model.digest else None
        if kept is None:
            return None
        chosen = self._chosen(device)
        key = artefacts.Key(
            model.digest, device.vendor, self._sdk(device), driver=device.driver, soc=device.name,
            precision=options.precision, shapes=dims, options=told,
        )
        try:
            with kept.held(
                key, lambda target: self._compile(path, target, options.threads, dims, chosen, told)
            ) as artefact:
                return self._open(artefact, options.threads, dims, chosen, told, strict=True)
        except artefacts.NotKeptError:
            raise
        except UnsupportedModelError:
            # The model itself says why, or is taken all the same.
            kept.drop(key)
        except OSError:
            # A disk that is full costs time at each start, and no answer.
            return None
        return None

    def _sdk(self, device: Device) -> str:
        """The runtime and the very library: one that has been replaced compiles otherwise."""
        path = Path(probed(self.plugin.wanted()).library)
        found = path.stat()
        return f"{device.backend}, {path.name} {found.st_size} {found.st_mtime_ns}"

    def _compile(
        self, path: Path, target: Path, threads: int, dims: dict[str, int], chosen: list[Any], told: dict[str, str]
    ) -> None:
        settings = ort.session_options(threads, dims, strict=True)
        settings.add_provider_for_devices(chosen, told)
        try:
            ort.runtime().ModelCompiler(
                settings, str(path), embed_compiled_data_into_model=True
            ).compile_to_file(str(target))
        except ort.errors() as error:
            raise UnsupportedModelError(ort.said(error)) from error

    def _open(
        self, path: Path, threads: int, dims: dict[str, int], chosen: list[Any], told: dict[str, str], *, strict: bool
    ) -> Any:  # noqa: ANN401 - InferenceSession
        settings = ort.session_options(threads, dims, strict=strict)
        settings.add_provider_for_devices(chosen, told)
        return ort.session_on(path, settings, self.plugin.provider.provider, None)

    def _listed(self) -> list[Any]:
        """ONNX Runtime's devices of this provider. Raises BackendNotInstalledError where there is none."""
        spec = self.plugin.provider
        _load(self.plugin.wanted(), spec.vendor)
        found = [one for one in ort.runtime().get_ep_devices() if one.ep_name == spec.provider]
        if not found:
            raise NoDeviceError(Text(f"{spec.provider} was loaded and lists no device",
                                     f"{spec.provider} 已加载，但未列出设备"))
        return found

    def _chosen(self, device: Device) -> list[Any]:
        """The one device to run on. Raises DeviceLostError: an empty list would mean the CPU."""
        number = 0 if self.plugin.by_option else int(device.id.partition(":")[2] or 0)
        try:
            found = self._listed()[number:number + 1]
        except BackendNotInstalledError as error:
            raise DeviceLostError(str(error)) from error
        if not found:
            message = f"{device.id} is not there: {self.plugin.provider.provider} lists fewer devices"
            raise DeviceLostError(message)
        return found


def _left(device: Device, placement: Any) -> str:  # noqa: ANN401 - Placement
    """Which nodes the provider leaves to the CPU."""
    names = "; ".join(placement.fallen_back[:10])
    return (f"{device.id} takes {placement.on_device} of {placement.nodes} nodes and leaves: {names}. "
            "The CPU is not used in its place")
