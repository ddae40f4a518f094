"""What the API reads of the model registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db import reading
from app.models.tables import ModelRow

if TYPE_CHECKING:
    from sqlalchemy import Engine


def models(engine: Engine) -> list[ModelRow]:
    """Every imported model, newest first."""
    with reading(engine) as session:
        rows = list(session.scalars(select(ModelRow).order_by(ModelRow.imported_at.desc()).limit(1000)))
        session.expunge_all()
    return rows


def model(engine: Engine, digest: str) -> ModelRow | None:
    """One model by its digest."""
    with reading(engine) as session:
        row = session.get(ModelRow, digest)
        session.expunge_all()
    return row
