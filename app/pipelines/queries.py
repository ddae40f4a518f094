"""What the API reads of pipelines and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db import reading
from app.pipelines.tables import PipelineRow, PipelineVersionRow

if TYPE_CHECKING:
    from sqlalchemy import Engine


def pipelines(engine: Engine) -> list[tuple[PipelineRow, PipelineVersionRow | None]]:
    """Every pipeline with the version in force, by name."""
    query = (
        select(PipelineRow, PipelineVersionRow)
        .outerjoin(PipelineVersionRow, PipelineVersionRow.id == PipelineRow.active_version)
        .order_by(PipelineRow.name)
    )
    with reading(engine) as session:
        rows: list[tuple[PipelineRow, PipelineVersionRow | None]] = [
            (one, version) for one, version in session.execute(query)
        ]
        session.expunge_all()
    return rows


def versions(engine: Engine, name: str) -> list[PipelineVersionRow]:
    """Every version of one pipeline, newest first; empty when there is no such pipeline."""
    query = (
        select(PipelineVersionRow)
        .join(PipelineRow, PipelineRow.id == PipelineVersionRow.pipeline_id)
        .where(PipelineRow.name == name)
        .order_by(PipelineVersionRow.number.desc())
        .limit(1000)
    )
    with reading(engine) as session:
        rows = list(session.scalars(query))
        session.expunge_all()
    return rows
