"""Connections and tags over REST."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app import live
from app.access.api import Database, Viewer
from app.api import Cursor, Limit, Page, View, open_cursor, seal_cursor
from app.errors import Problem
from app.sources import queries
from app.sources.tables import TagRow

router = APIRouter(prefix="/api/v1", tags=["sources"])


class ConnectionView(View):
    """One configured peer and how it stands; `state` is `unknown` when no gateway has reported lately."""

    id: int
    name: str
    connector: str
    revision: int
    priority: str
    """`low`, `normal`, `high`: what a full journal drops first, where it drops by priority."""
    tags: int
    state: str
    error: str
    notes: list[str]
    """What an operator should look at though it works, such as a certificate that ends soon."""
    readings_per_s: float | None
    options: dict[str, Any]
    """Without secrets."""


class TagView(View):
    """One named point; the id is permanent."""

    id: int
    name: str
    connection: str | None
    """None for the output of a pipeline."""
    address: str
    datatype: str
    unit: str
    place: str
    description: str
    revision: int


def _without_secrets(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        if "sealed" in value:
            return "••••"
        return {key: _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


@router.get("/connections", operation_id="listConnections")
def connections(_who: Viewer, engine: Database) -> list[ConnectionView]:
    """Every connection, by name."""
    now = live.connections()
    views = []
    for row, tags in queries.connections(engine):
        seen = now.get(row.name, live.UNKNOWN)
        views.append(
            ConnectionView(
                id=row.id,
                name=row.name,
                connector=row.connector,
                revision=row.revision,
                priority=row.priority,
                tags=tags,
                state=seen.state,
                error=seen.error,
                notes=list(seen.notes),
                readings_per_s=seen.readings_per_s,
                options=_without_secrets(row.options or {}),
            ),
        )
    return views


def _tag(row: TagRow, connection: str | None) -> TagView:
    return TagView(
        id=row.id,
        name=row.name,
        connection=connection,
        address=row.address,
        datatype=row.datatype,
        unit=row.unit,
        place=row.place,
        description=row.description,
        revision=row.revision,
    )


@router.get("/tags", operation_id="listTags")
def tags(
    _who: Viewer,
    engine: Database,
    *,
    connection: str | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[TagView]:
    """Tags in force, by id."""
    key = open_cursor(cursor, 1)
    rows = queries.tags(engine, connection=connection, search=search, after=int(key[0]) if key else 0, limit=limit)
    more = seal_cursor(rows[-1][0].id) if len(rows) == limit else None
    return Page(items=[_tag(row, name) for row, name in rows], next=more)


@router.get("/tags/{tag}", operation_id="getTag")
def tag(tag: str, _who: Viewer, engine: Database) -> TagView:
    """One tag by id or name."""
    row = queries.tag(engine, tag)
    if row is None:
        raise Problem(404, "not_found", "There is no such tag")
    names = {c.id: c.name for c, _ in queries.connections(engine)}
    return _tag(row, names.get(row.connection_id) if row.connection_id else None)
