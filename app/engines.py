"""Where models are made ready, by the settings: in engine processes, from kept artefacts. Each entry point calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inference import artefacts, engines
from inference.limits import MIB

if TYPE_CHECKING:
    from app.settings import Settings


def use(chosen: Settings) -> None:
    """From here on. Nothing is started yet."""
    engines.use(
        chosen.engines, memory_mb=chosen.engine_memory_mb, open_s=chosen.engine_open_s, run_s=chosen.engine_run_s
    )
    keep(chosen)


def keep(chosen: Settings) -> None:
    """Artefacts in the data folder, from here on."""
    folder = chosen.data_dir / "artefacts" if chosen.artefacts_mb else None
    artefacts.use(folder, chosen.artefacts_mb * MIB)
