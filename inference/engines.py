"""Which vendors' devices run in an engine process, and with which interpreter: decided once in a process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from inference.adapters.engine_backend import EngineBackend
from inference.adapters.ort import OrtBackend
from inference.adapters.ort_plugin import PluginBackend
from inference.adapters.remote import MEMORY_MB, OPEN_S, RUN_S, Engine, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference import Backend

_ENGINES: dict[str, Engine] = {}


def use(
    interpreters: Mapping[str, str], *, memory_mb: int = MEMORY_MB, open_s: float = OPEN_S, run_s: float = RUN_S
) -> None:
    """From here on these vendors run in engines. `interpreters`: vendor to a path; empty: the one that runs this."""
    stop()
    for vendor, path in interpreters.items():
        place = Place(Path(path or sys.executable), memory_mb=memory_mb, open_s=open_s, run_s=run_s)
        _ENGINES[vendor] = Engine(place)


def stop() -> None:
    """End every engine, and let all vendors run in this process again."""
    for one in _ENGINES.values():
        one.stop()
    _ENGINES.clear()


def engine(vendor: str) -> Engine | None:
    """Of this vendor, if it has one."""
    return _ENGINES.get(vendor)


def placed(vendor: str, made: Backend) -> Backend:
    """The backend, in the vendor's engine if it has one. ValueError where its kind cannot run in one yet."""
    mine = _ENGINES.get(vendor)
    if mine is None:
        return made
    if isinstance(made, OrtBackend):
        return EngineBackend(made.spec, mine)
    if isinstance(made, PluginBackend):
        return EngineBackend(made.plugin.provider, mine, made.plugin)
    message = f"{vendor} cannot run in an engine of its own in this version: take it out of HEADRACE_ENGINES"
    raise ValueError(message)
