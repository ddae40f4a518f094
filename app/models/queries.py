"""What the API reads of the model registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from app.db import reading
from app.models.tables import ModelRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine

MOST: Final = 1000


def models(engine: Engine) -> list[ModelRow]:
    """Every imported model, newest first."""
    with reading(engine) as session:
        rows = list(session.scalars(select(ModelRow).order_by(ModelRow.imported_at.desc()).limit(MOST)))
        session.expunge_all()
    return rows


def model(engine: Engine, digest: str) -> ModelRow | None:
    """One model by its digest."""
    with reading(engine) as session:
        row = session.get(ModelRow, digest)
        session.expunge_all()
    return row


def named(engine: Engine, names: Iterable[str]) -> list[ModelRow]:
    """Every version of the models of these names, newest first."""
    query = select(ModelRow).where(ModelRow.name.in_([*names])).order_by(ModelRow.imported_at.desc(), ModelRow.digest)
    with reading(engine) as session:
        rows = list(session.scalars(query.limit(MOST)))
        session.expunge_all()
    return rows
