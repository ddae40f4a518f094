"""What the API reads of dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db import reading
from app.readings.tables import DeadLetterRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from sqlalchemy import Engine


def dead_letters(engine: Engine, before: int | None, limit: int) -> list[tuple[DeadLetterRow, str | None]]:
    """Newest first, with the name of the connection."""
    query = (
        select(DeadLetterRow, ConnectionRow.name)
        .outerjoin(ConnectionRow, ConnectionRow.id == DeadLetterRow.connection_id)
        .order_by(DeadLetterRow.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(DeadLetterRow.id < before)
    with reading(engine) as session:
        rows: list[tuple[DeadLetterRow, str | None]] = [(row, name) for row, name in session.execute(query)]
        session.expunge_all()
    return rows
