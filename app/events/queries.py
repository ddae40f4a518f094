"""What the API reads of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import aliased

from app.db import reading
from app.events.tables import EventRow
from app.pipelines.tables import PipelineRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from sqlalchemy import Engine


Found: TypeAlias = "tuple[EventRow, str | None, str | None]"
"""The event, and the name of its pipeline or of its connection."""

_FOUND = (
    select(EventRow, PipelineRow.name, ConnectionRow.name)
    .outerjoin(PipelineRow, PipelineRow.id == EventRow.pipeline_id)
    .outerjoin(ConnectionRow, ConnectionRow.id == EventRow.connection_id)
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events; None is any."""

    pipeline: str | None = None
    state: str | None = None
    source: str | None = None
    connection: str | None = None


def events(engine: Engine, wanted: Wanted, *, after: tuple[int, str] | None, limit: int) -> list[Found]:
    """Newest first; `after` is the raising time and id of the last row before.

    A plant tells a state by a new event, so that of a condition only the newest one is in the state that is wanted.
    """
    row = EventRow
    pipeline, state = wanted.pipeline, wanted.state
    query = _FOUND.order_by(row.raised_at.desc(), row.id.desc()).limit(limit)
    if wanted.source is not None:
        query = query.where(row.source == wanted.source)
    if wanted.connection is not None:
        query = query.where(ConnectionRow.name == wanted.connection)
    if pipeline is not None:
        query = query.where(PipelineRow.name == pipeline)
    if state is not None:
        younger = aliased(EventRow)
        later = and_(younger.raised_at == row.raised_at, younger.id > row.id)
        same = and_(younger.condition_key == row.condition_key, or_(younger.raised_at > row.raised_at, later))
        query = query.where(row.state == state, ~exists().where(same))
    if after is not None:
        raised, last = after
        query = query.where(or_(row.raised_at < raised, and_(row.raised_at == raised, row.id < last)))
    with reading(engine) as session:
        rows: list[Found] = [(event, name, connection) for event, name, connection in session.execute(query)]
        session.expunge_all()
    return rows


def event(engine: Engine, event_id: str) -> Found | None:
    """One event by its id."""
    with reading(engine) as session:
        found = session.execute(_FOUND.where(EventRow.id == event_id)).one_or_none()
        session.expunge_all()
    return None if found is None else (found[0], found[1], found[2])
