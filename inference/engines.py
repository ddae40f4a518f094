"""Which vendors' devices run in an engine process, and with which interpreter: decided once in a process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from inference import UnsupportedModelError, backend
from inference.adapters.chip import ChipBackend
from inference.adapters.compiled import CompiledBackend
from inference.adapters.engine_backend import EngineBackend
from inference.adapters.ort import OrtBackend
from inference.adapters.ort_plugin import PluginBackend
from inference.adapters.remote import MEMORY_MB, OPEN_S, RUN_S, Engine, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inference import Backend

_ENGINES: dict[str, Engine] = {}


class _Limits:
    """Of every engine of this process."""

    memory_mb, open_s, run_s = MEMORY_MB, OPEN_S, RUN_S


def use(
    interpreters: Mapping[str, str], *, memory_mb: int = MEMORY_MB, open_s: float = OPEN_S, run_s: float = RUN_S
) -> None:
    """From here on these vendors run in engines. `interpreters`: vendor to a path; empty: the one that runs this."""
    stop()
    _Limits.memory_mb, _Limits.open_s, _Limits.run_s = memory_mb, open_s, run_s
    for vendor, path in interpreters.items():
        _ENGINES[vendor] = Engine(place(path))


def place(path: str = "") -> Place:
    """Where an engine with this interpreter runs; empty: the one that runs this."""
    limits = _Limits
    return Place(
        Path(path or sys.executable), memory_mb=limits.memory_mb, open_s=limits.open_s, run_s=limits.run_s
    )


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
    return made if mine is None else inside(mine, vendor, made)


def inside(mine: Engine, vendor: str, made: Backend) -> Backend:
    """The backend in that engine. ValueError where its kind cannot run in one yet."""
    if isinstance(made, EngineBackend):
        return made.on(mine)
    if isinstance(made, OrtBackend):
        return EngineBackend(made.spec, mine)
    if isinstance(made, ChipBackend | CompiledBackend):
        return made.inside(mine)
    if isinstance(made, PluginBackend):
        return EngineBackend(made.plugin.provider, mine, made.plugin)
    message = f"{vendor} cannot run in an engine of its own in this version: take it out of HEADRACE_ENGINES"
    raise ValueError(message)


class Apart:
    """Engines of one's own, whatever runs in this process: for what may end a process again."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._engines: dict[str, Engine] = {}

    def backend(self, vendor: str) -> Backend:
        """As `inference.backend`, in an engine. UnsupportedModelError where its kind cannot run in one."""
        made = backend(vendor)
        if vendor not in self._engines:
            shared = engine(vendor)
            self._engines[vendor] = Engine(place() if shared is None else shared.place)
        try:
            return inside(self._engines[vendor], vendor, made)
        except ValueError as error:
            message = f"{vendor} cannot run in a process of its own: what killed a process is not run in another"
            raise UnsupportedModelError(message) from error

    def stop(self) -> None:
        """End them; the next session starts them again, without waiting because they died."""
        for one in self._engines.values():
            one.stop()
