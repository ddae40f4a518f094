"""Pipelines over REST: what is in force, and every version there was."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app import times
from app.access.api import Database, Viewer
from app.api import View
from app.errors import Problem
from app.pipelines import queries
from app.pipelines.tables import PipelineVersionRow

router = APIRouter(prefix="/api/v1", tags=["pipelines"])


class VersionView(View):
    """One version of a pipeline; it never changes."""

    number: int
    model_digest: str
    created_at: str
    spec: dict[str, Any]


class PipelineView(View):
    """One pipeline and the version in force; null when it is stopped."""

    name: str
    active: VersionView | None


def _version(row: PipelineVersionRow) -> VersionView:
    return VersionView(
        number=row.number,
        model_digest=row.model_digest,
        created_at=times.rfc3339(row.created_at),
        spec=row.spec,
    )


@router.get("/pipelines", operation_id="listPipelines")
def pipelines(_who: Viewer, engine: Database) -> list[PipelineView]:
    """Every pipeline, by name."""
    found = queries.pipelines(engine)
    return [PipelineView(name=p.name, active=None if v is None else _version(v)) for p, v in found]


@router.get("/pipelines/{name}/versions", operation_id="listPipelineVersions")
def versions(name: str, _who: Viewer, engine: Database) -> list[VersionView]:
    """Every version of one pipeline, newest first."""
    found = queries.versions(engine, name)
    if not found:
        raise Problem(404, "not_found", "There is no such pipeline")
    return [_version(row) for row in found]
