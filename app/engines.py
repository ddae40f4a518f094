"""Lets the vendors that the settings name run in engine processes: each entry point calls it, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inference import engines

if TYPE_CHECKING:
    from app.settings import Settings


def use(chosen: Settings) -> None:
    """From here on. Nothing is started yet."""
    engines.use(
        chosen.engines, memory_mb=chosen.engine_memory_mb, open_s=chosen.engine_open_s, run_s=chosen.engine_run_s
    )
