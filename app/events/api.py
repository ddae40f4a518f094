"""Events over REST: what rules raised, and their acknowledgement (ISA-18.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app import times
from app.access.api import Database, Operator, Viewer
from app.api import Cursor, Limit, Page, View, open_cursor, seal_cursor
from app.errors import Problem
from app.events import queries, service
from app.events.tables import EventRow

router = APIRouter(prefix="/api/v1", tags=["events"])


class EventView(View):
    """One alarm, from its rising to its clearing and acknowledgement."""

    id: str
    pipeline: str
    rule: str
    state: str
    priority: int
    message: dict[str, str]
    value: Any
    limit: str
    prediction_id: str
    """The prediction that raised it."""
    cleared_by: str | None
    unit_id: str | None
    context: dict[str, Any]
    raised_at: str
    cleared_at: str | None
    acked_at: str | None
    acked_by: str | None
    comment: str


class Acknowledgement(BaseModel):
    """What the operator says to it."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=2000)


def _view(row: EventRow, pipeline: str) -> EventView:
    return EventView(
        id=row.id,
        pipeline=pipeline,
        rule=row.rule,
        state=row.state,
        priority=row.priority,
        message=row.message or {},
        value=row.value,
        limit=row.limit,
        prediction_id=row.prediction_id,
        cleared_by=row.cleared_by,
        unit_id=row.unit_id,
        context=row.context or {},
        raised_at=times.rfc3339(row.raised_at),
        cleared_at=times.optional_rfc3339(row.cleared_at),
        acked_at=times.optional_rfc3339(row.acked_at),
        acked_by=row.acked_by,
        comment=row.comment,
    )


@router.get("/events", operation_id="listEvents")
def events(
    _who: Viewer,
    engine: Database,
    *,
    pipeline: str | None = None,
    state: Annotated[Literal["unack_active", "ack_active", "rtn_unack", "normal"] | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[EventView]:
    """Events, newest first."""
    key = open_cursor(cursor, 2)
    after = None if key is None else (int(key[0]), key[1])
    rows = queries.events(engine, pipeline=pipeline, state=state, after=after, limit=limit)
    more = seal_cursor(rows[-1][0].raised_at, rows[-1][0].id) if len(rows) == limit else None
    return Page(items=[_view(row, name) for row, name in rows], next=more)


@router.get("/events/{event_id}", operation_id="getEvent")
def event(event_id: str, _who: Viewer, engine: Database) -> EventView:
    """One event."""
    found = queries.event(engine, event_id)
    if found is None:
        raise Problem(404, "not_found", "There is no such event")
    return _view(*found)


@router.post("/events/{event_id}/acknowledge", operation_id="acknowledgeEvent")
def acknowledge(event_id: str, body: Acknowledgement, who: Operator, engine: Database) -> EventView:
    """Say that somebody has seen it. Repeating it changes nothing."""
    if not service.acknowledge(engine, event_id, who.name, body.comment):
        raise Problem(404, "not_found", "There is no such event")
    return event(event_id, who, engine)
