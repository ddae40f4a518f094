"""What is in force of plant files, and every one that was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.db import reading
from app.plant.tables import PlantRevisionRow

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


_PATH = select(PlantRevisionRow.path).order_by(PlantRevisionRow.number.desc()).limit(1)


def path_in_force(session: Session) -> str:
    """The plant's path, which begins every topic; empty before the first plant file."""
    return session.connection().scalar(_PATH) or ""


def number(engine: Engine) -> int:
    """The revision in force; 0 before the first plant file."""
    with reading(engine) as session:
        return session.scalar(select(func.max(PlantRevisionRow.number))) or 0


def revisions(engine: Engine) -> list[PlantRevisionRow]:
    """Every applied file, newest first."""
    with reading(engine) as session:
        rows = list(session.scalars(select(PlantRevisionRow).order_by(PlantRevisionRow.number.desc()).limit(500)))
        session.expunge_all()
        return rows


def revision(engine: Engine, number: int | None = None) -> PlantRevisionRow | None:
    """One applied file, the one in force by default."""
    query = select(PlantRevisionRow).order_by(PlantRevisionRow.number.desc()).limit(1)
    with reading(engine) as session:
        row = session.scalar(query if number is None else query.where(PlantRevisionRow.number == number))
        session.expunge_all()
        return row
