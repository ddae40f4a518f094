"""The ONNX Runtime that a chip maker's route is held against: the one of this process, or that of an engine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from inference import BackendNotInstalledError
from inference.adapters import ort
from inference.adapters.engine_backend import runtime_of
from inference.adapters.opened import told
from inference.chip import Text

if TYPE_CHECKING:
    from inference.adapters.remote import Engine


_NOTHING: Final = Text("", "")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What is known of it."""

    python: str
    numpy: str | None
    """None where it is not told."""
    version: str | None
    """None where there is none."""
    providers: tuple[str, ...] = ()
    missing: Text = _NOTHING
    """Why there is none."""
    where: str = ""
    """The interpreter of an engine."""
    ask: Callable[[Mapping[str, object]], dict[str, object] | Text] | None = None
    """Asks the engine for what is not ONNX Runtime's own: a plugin's devices, a toolchain. None without an engine."""


def ours() -> Runtime:
    """Of this process."""
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        module = ort.runtime()
    except BackendNotInstalledError as error:
        return Runtime(python, np.__version__, None, missing=_absent(str(error)))
    return Runtime(python, np.__version__, module.__version__, tuple(module.get_available_providers()))


def of(engine: Engine) -> Runtime:
    """Of an engine, which is started for it."""
    def ask(request: Mapping[str, object]) -> dict[str, object] | Text:
        return told(engine, request)

    found = runtime_of(engine)
    where = str(engine.place.python)
    if isinstance(found, str):
        return Runtime("", None, None, missing=_absent(found), where=where, ask=ask)
    providers = tuple(found["providers"])
    return Runtime(found["python"], found["numpy"], found["version"], providers, where=where, ask=ask)


def _absent(reason: str) -> Text:
    return Text(f"an ONNX Runtime ({reason})", f"ONNX Runtime（{reason}）")
