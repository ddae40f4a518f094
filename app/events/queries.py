"""What the API reads of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from app.db import reading
from app.events.tables import EventRow
from app.pipelines.tables import PipelineRow

if TYPE_CHECKING:
    from sqlalchemy import Engine


def events(
    engine: Engine,
    *,
    pipeline: str | None,
    state: str | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[tuple[EventRow, str]]:
    """Newest first, with the pipeline's name; `after` is the raising time and id of the last row before."""
    row = EventRow
    query = (
        select(row, PipelineRow.name)
        .join(PipelineRow, PipelineRow.id == row.pipeline_id)
        .order_by(row.raised_at.desc(), row.id.desc())
        .limit(limit)
    )
    if pipeline is not None:
        query = query.where(PipelineRow.name == pipeline)
    if state is not None:
        query = query.where(row.state == state)
    if after is not None:
        raised, last = after
        query = query.where(or_(row.raised_at < raised, and_(row.raised_at == raised, row.id < last)))
    with reading(engine) as session:
        rows = [(event, name) for event, name in session.execute(query)]
        session.expunge_all()
    return rows


def event(engine: Engine, event_id: str) -> tuple[EventRow, str] | None:
    """One event by its id."""
    query = select(EventRow, PipelineRow.name).join(PipelineRow, PipelineRow.id == EventRow.pipeline_id)
    with reading(engine) as session:
        found = session.execute(query.where(EventRow.id == event_id)).one_or_none()
        session.expunge_all()
    return None if found is None else (found[0], found[1])
