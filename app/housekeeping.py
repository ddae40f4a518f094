"""Pieces of work beside what is new: who is asked for them, and where."""

from __future__ import annotations

from typing import Any, Final

from app.queue import HOUSEKEEPING, ask_for, door

ASKED_S: Final = 10
"""Others are asked no more often than this, and let be what they come to later."""


def housekeeping_of(queue: str) -> str:
    """Where workers that take from a queue of devices are asked; no message with readings lies there."""
    return f"{HOUSEKEEPING}.{queue.rpartition('.')[2]}"


def came_by(task: Any) -> str:  # noqa: ANN401 - a task of the library
    """The queue by which a piece came: the next one is asked for there."""
    about = task.request.delivery_info or {}
    name = str(about.get("routing_key") or "")
    return name if name.startswith(HOUSEKEEPING) else HOUSEKEEPING


def ask_others(task: str, queue: str) -> None:
    """Have workers that take from a queue of devices do a piece soon, unless they were asked lately. QueueError."""
    if door().first(f"headrace:asked:{task}:{queue}", ASKED_S):
        ask_for(task, housekeeping_of(queue), ASKED_S)
