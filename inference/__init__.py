"""The contract of the portable inference core: a model is made ready on a device and run, the same way on any chip.

Nothing here knows the connectors or the service: numpy and a runtime, nothing else of the stack.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Tensor = NDArray[np.generic]


class InferenceError(Exception):
    """Something between a model and a device; each subclass says whose move it is."""


class UnsupportedModelError(InferenceError):
    """The device cannot run this model; the message names the node and the reason. Try the pipeline's next device."""


class InvalidModelError(InferenceError):
    """The file is no model we accept; the message says what is wrong and what to do. Refuse the import."""


class InputError(InferenceError):
    """The feeds do not fit the model. Dead-letter the batch with the reason; do not retry."""


class DeviceLostError(InferenceError):
    """The device or its engine went away. Prepare a new session and retry."""


class BackendNotInstalledError(InferenceError):
    """A runtime is absent. The message names the package or the extra to install."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    dtype: str
    """numpy's name: float32, int64, …; `str` for strings; `map` for ONNX sequences of maps."""
    shape: tuple[int | None, ...]
    """None where the dimension is free."""
    unit: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A checked ONNX file known by its digest, with its contract."""

    digest: str
    """SHA-256 of the package content, hexadecimal: `sha256:…`."""
    sm3: str
    """SM3 (GB/T 32905) of the same content: `sm3:…`."""
    name: str
    version: str
    path: Path
    """The .onnx file in the content-addressed store."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir_version: int
    nodes: int
    manifest: Mapping[str, object] = field(default_factory=dict)
    """`model.yaml`, validated; empty for a bare .onnx."""
    golden: Path | None = None
    """npz of inputs (`in/NAME`) and expected outputs (`out/NAME`)."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something a session can run on."""

    id: str
    """`cpu`, `ascend:0`: vendor file name, then the ordinal where there can be several."""
    vendor: str
    name: str
    backend: str
    """The adapter and its version: `onnxruntime 1.32.0`."""
    evidence: str
    """verified-ci, simulated, verified-hardware, documented."""
    driver: str = ""
    """Driver, SDK or plugin as far as the probe knows them, with their versions; another text is another driver."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a vendor offers no device here: which device node, library or package is missing."""

    vendor: str
    reason: str
    evidence: str
    reason_zh: str = ""
    """The reason in Chinese, where there is one."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How many nodes run on the device, which fell back to the CPU, and why. Unknown counts as fallen back."""

    nodes: int
    on_device: int
    fallen_back: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How a session is to be made ready."""

    threads: int = 1
    """Within one run; 1 is right for small models on shared cores."""
    batch: int | None = None
    """Fix the first dimension to this; None leaves it as the model has it."""
    precision: str = "fp32"


@runtime_checkable
class Session(Protocol):
    """A model made ready on a device."""

    placement: Placement

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute every output. Raises InputError, DeviceLostError. Never answers zeros for what it cannot compute."""

    def close(self) -> None:
        """Free the device. Safe to call twice."""


@runtime_checkable
class Backend(Protocol):
    """An adapter bound to a vendor file."""

    def devices(self) -> tuple[Device, ...]:
        """Empty when there are none; never raises."""

    def absent(self) -> Absent | None:
        """Why there are no devices, or None when there are."""

    def prepare(self, model: Model, device: Device, options: Options) -> Session:
        """Make ready. Raises UnsupportedModelError with node and reason."""


def names() -> tuple[str, ...]:
    """Every chip maker's file name in `vendors/`, sorted. Not called `vendors`: that is the folder itself."""
    package = importlib.import_module(f"{__name__}.vendors")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")))


def backend(vendor: str) -> Backend:
    """The backend of one vendor file. KeyError names those that exist. Never raises for an absent runtime."""
    if vendor not in names():
        message = f"there is no vendor {vendor!r}; there are: {', '.join(names())}"
        raise KeyError(message)
    module = importlib.import_module(f"{__name__}.vendors.{vendor}")
    made: Backend = module.backend()
    engines = importlib.import_module(f"{__name__}.engines")
    placed: Backend = engines.placed(vendor, made)
    return placed


__all__ = [
    "Absent", "Backend", "BackendNotInstalledError", "Device", "DeviceLostError", "InferenceError", "InputError",
    "InvalidModelError", "Model", "Options", "Placement", "Session", "TensorSpec", "UnsupportedModelError",
    "backend", "names",
]
