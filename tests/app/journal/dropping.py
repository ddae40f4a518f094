"""Records of a known size, and a worker that applies them, however late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.messages import Message
from app.records import Record
from app.scoring.service import apply

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.journal import Journal, Position

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
BIG = 120_000
"""Bytes of a record, so that nine of them fill the smallest segment."""


def record(connection: int, number: int, *, readings: int = 1, size: int = BIG, **more: Any) -> Record:  # noqa: ANN401
    """Of one second each; its content is not looked at."""
    at = BASE + number * SECOND
    return Record(connection, 1, at, at, readings, at, at, 0, (), bytes(size), **more)


def applied(engine: Engine, journal: Journal, position: Position, brought: Record) -> bool:
    """Whether a worker that brings this record now has stored it."""
    return apply(engine, Message(1, journal.id, *position, brought, ()), [])
