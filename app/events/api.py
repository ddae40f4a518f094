"""Events over REST: what rules raised and plants reported; acknowledgement of the former (ISA-18.2)."""

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
    """One alarm of a rule, from its rising to its clearing and acknowledgement; or one event of a plant, as it was."""

    id: str
    source: str
    """`rule`, `plant`, or `box`: a promise of the box itself is broken."""
    connection: str | None
    """Of a plant or of the box; then there is neither pipeline nor prediction."""
    pipeline: str | None
    rule: str
    """Of a plant: the name of the condition, else of what the event is about."""
    state: str
    priority: int
    message: dict[str, str]
    value: Any
    limit: str
    prediction_id: str | None
    """The prediction that raised it."""
    cleared_by: str | None
    unit_id: str | None
    context: dict[str, Any]
    raised_at: str
    cleared_at: str | None
    acked_at: str | None
    acked_by: str | None
    comment: str
    plant: dict[str, Any] | None
    """What the plant said of it: its own id, type, source, severity, and the states of its condition."""


class Acknowledgement(BaseModel):
    """What the operator says to it."""

    model_config = ConfigDict(extra="forbid")

    comment: str = Field(default="", max_length=2000)


def _view(row: EventRow, pipeline: str | None, connection: str | None) -> EventView:
    return EventView(
        id=row.id,
        source=row.source,
        connection=connection,
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
        plant=row.plant,
    )


@router.get("/events", operation_id="listEvents")
def events(
    _who: Viewer,
    engine: Database,
    *,
    pipeline: str | None = None,
    state: Annotated[Literal["unack_active", "ack_active", "rtn_unack", "normal", "occurred"] | None, Query()] = None,
    source: Annotated[Literal["rule", "plant", "box"] | None, Query()] = None,
    connection: Annotated[str | None, Query(max_length=100)] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[EventView]:
    """Events, newest first."""
    key = open_cursor(cursor, 2)
    after = None if key is None else (int(key[0]), key[1])
    wanted = queries.Wanted(pipeline, state, source, connection)
    rows = queries.events(engine, wanted, after=after, limit=limit)
    more = seal_cursor(rows[-1][0].raised_at, rows[-1][0].id) if len(rows) == limit else None
    return Page(items=[_view(*found) for found in rows], next=more)


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
    try:
        there = service.acknowledge(engine, event_id, who.name, body.comment)
    except service.OfPlantError as error:
        raise Problem(409, "plant_event", "An alarm of the plant is acknowledged at the plant") from error
    if not there:
        raise Problem(404, "not_found", "There is no such event")
    return event(event_id, who, engine)
