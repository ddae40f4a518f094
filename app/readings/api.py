"""Values over REST: the latest of each tag, the history of one, and what was refused."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query

from app import times
from app.access.api import Database, Viewer
from app.api import Cursor, Limit, Page, View, open_cursor, seal_cursor
from app.errors import Problem
from app.plain import plain
from app.readings import queries, service
from app.scoring.api import instant
from app.sources import queries as sources

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.sources.tables import TagRow

router = APIRouter(prefix="/api/v1", tags=["readings"])

_SEVERITY = ("Good", "Uncertain", "Bad", "Bad")


class ReadingView(View):
    """One reading. `value` is null where the origin sent none; bytes are base64, arrays lists."""

    time: str
    value: Any
    status: int
    quality: str


class PastReadingView(ReadingView):
    """One reading of the history."""

    backfilled: bool
    """Whether it was read from the peer's history after a gap."""


class TrendView(View):
    """A tag over a span in equal parts, columns of one length."""

    time: list[str]
    """Where each part begins; it ends where the next does."""
    count: list[int]
    minimum: list[float | None]
    maximum: list[float | None]
    mean: list[float | None]


class LatestView(ReadingView):
    """The newest reading of one tag."""

    tag: int
    name: str
    unit: str


class DeadLetterView(View):
    """Something a peer sent that could not become a reading."""

    id: int
    at: str
    connection: str | None
    address: str
    reason: str
    detail: str
    excerpt: str
    """The first bytes, base64."""
    readings: int


@router.get("/values", operation_id="listLatestValues")
def latest(
    _who: Viewer,
    engine: Database,
    *,
    connection: str | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[LatestView]:
    """The newest reading of each tag; a tag that has none yet is left out."""
    key = open_cursor(cursor, 1)
    rows = sources.tags(engine, connection=connection, search=search, after=int(key[0]) if key else 0, limit=limit)
    found = service.latest(engine, [row.id for row, _ in rows])
    items = [
        LatestView(
            tag=row.id,
            name=row.name,
            unit=row.unit,
            time=times.rfc3339(newest.time),
            value=plain(newest.value),
            status=newest.status,
            quality=_SEVERITY[newest.status >> 30],
        )
        for row, _ in rows
        if (newest := found.get(row.id)) is not None
    ]
    return Page(items=items, next=seal_cursor(rows[-1][0].id) if len(rows) == limit else None)


@router.get("/tags/{tag}/readings", operation_id="listReadings")
def readings(
    tag: str,
    _who: Viewer,
    engine: Database,
    *,
    since: Annotated[str | None, Query(alias="from")] = None,
    until: Annotated[str | None, Query(alias="to")] = None,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> Page[PastReadingView]:
    """Readings of one tag in the order of source time, from inclusive, to exclusive; the last hour by default.

    `next` is the `from` of the page after.
    """
    row, start, end = _span(engine, tag, since, until)
    found = service.history(engine, row.id, start, end, limit + 1)
    items = [
        PastReadingView(
            time=times.rfc3339(r.time),
            value=plain(r.value),
            status=r.status,
            quality=_SEVERITY[r.status >> 30],
            backfilled=r.backfilled,
        )
        for r in found[:limit]
    ]
    return Page(items=items, next=times.rfc3339(found[limit].time) if len(found) > limit else None)


@router.get("/tags/{tag}/trend", operation_id="getTrend")
def trend(
    tag: str,
    _who: Viewer,
    engine: Database,
    *,
    since: Annotated[str | None, Query(alias="from")] = None,
    until: Annotated[str | None, Query(alias="to")] = None,
    points: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> TrendView:
    """Least, greatest and mean of a tag in so many equal parts, from inclusive, to exclusive; the last hour by default.

    Of finite numbers whose status is not Bad; a part without any is null.
    """
    row, start, end = _span(engine, tag, since, until)
    if end == start:
        raise Problem(422, "invalid_request", "The request is not valid", "`to` has to lie after `from`.")
    found = service.trend(engine, row.id, start, end, points)
    return TrendView(
        time=[times.rfc3339(at) for at in found.start.tolist()],
        count=found.count.tolist(),
        minimum=plain(found.minimum),
        maximum=plain(found.maximum),
        mean=plain(found.mean),
    )


def _span(engine: Engine, tag: str, since: str | None, until: str | None) -> tuple[TagRow, int, int]:
    """The tag, from and to (ns). Problem."""
    row = sources.tag(engine, tag)
    if row is None:
        raise Problem(404, "not_found", "There is no such tag")
    end = instant(until, "to") or times.now()
    start = instant(since, "from")
    start = end - 3600 * times.NANOS if start is None else start
    if end < start:
        raise Problem(422, "invalid_request", "The request is not valid", "`to` lies before `from`.")
    return row, start, end


@router.get("/dead-letters", operation_id="listDeadLetters")
def dead_letters(_who: Viewer, engine: Database, cursor: Cursor = None, limit: Limit = 100) -> Page[DeadLetterView]:
    """What was refused, newest first."""
    key = open_cursor(cursor, 1)
    rows = queries.dead_letters(engine, int(key[0]) if key else None, limit)
    items = [
        DeadLetterView(
            id=r.id,
            at=times.rfc3339(r.at),
            connection=name,
            address=r.address,
            reason=r.reason,
            detail=r.detail,
            excerpt=base64.b64encode(r.excerpt).decode(),
            readings=r.readings,
        )
        for r, name in rows
    ]
    return Page(items=items, next=seal_cursor(rows[-1][0].id) if len(rows) == limit else None)
