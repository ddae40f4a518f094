"""Models over REST: which packages were imported, and what they promise."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app import times
from app.access.api import Database, Viewer
from app.api import View
from app.errors import Problem
from app.models import queries
from app.models.tables import ModelRow

router = APIRouter(prefix="/api/v1", tags=["models"])


class ModelView(View):
    """One model package, known by its digest."""

    digest: str
    sm3: str
    name: str
    version: str
    imported_at: str
    contract: dict[str, Any]


def _view(row: ModelRow) -> ModelView:
    return ModelView(
        digest=row.digest,
        sm3=row.sm3,
        name=row.name,
        version=row.version,
        imported_at=times.rfc3339(row.imported_at),
        contract=row.contract,
    )


@router.get("/models", operation_id="listModels")
def models(_who: Viewer, engine: Database) -> list[ModelView]:
    """Every imported model, newest first."""
    return [_view(row) for row in queries.models(engine)]


@router.get("/models/{digest}", operation_id="getModel")
def model(digest: str, _who: Viewer, engine: Database) -> ModelView:
    """One model."""
    row = queries.model(engine, digest)
    if row is None:
        raise Problem(404, "not_found", "There is no such model")
    return _view(row)
