"""Values over REST: the latest of each tag, the history of one, and what was refused."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from app import times
from app.access.api import Database, Viewer
from app.api import Cursor, From, Limit, Page, To, View, open_cursor, seal_cursor
from app.errors import Problem
from app.plain import plain
from app.points import AGGREGATES
from app.readings import queries, service
from app.scoring.api import instant
from app.sources import queries as sources
from app.thinning import queries as thinned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from app.points import Points
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


class ThinnedView(View):
    """A part of the span where points stand in the place of readings; `GET /tags/{tag}/points` has them."""

    since: str = Field(serialization_alias="from")
    until: str = Field(serialization_alias="to")
    every_s: int
    """Seconds of the interval of each point."""
    aggregates: list[str]
    """What a point says of the readings of its interval, by the names of IEC 62541-13."""


class PastView(Page[PastReadingView]):
    """A page of the history."""

    thinned: list[ThinnedView]


class PointView(View):
    """What the readings of one interval have become (IEC 62541-13)."""

    time: str
    """Where the interval begins."""
    every_s: int
    """How long it is."""
    average: float | None
    """Of the readings that hold a finite number and are not Bad; null where there is none, as in the next two."""
    minimum: float | None
    maximum: float | None
    count: int
    """How many these are."""
    readings: int
    """How many there were in all."""
    status: int
    """Of `average`, with the historian's bit Calculated: Good, Uncertain_DataSubNormal or Bad_NoData."""
    quality: str
    worst_status: int
    """The first of the readings' StatusCodes of the worst severity (WorstQuality)."""


class TrendView(View):
    """A tag over a span in equal parts, columns of one length."""

    time: list[str]
    """Where each part begins; it ends where the next does."""
    count: list[int]
    minimum: list[float | None]
    maximum: list[float | None]
    mean: list[float | None]
    thinned: list[ThinnedView]
    """Where these are made of points, each of which counts where its interval begins."""


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
    since: From = None,
    until: To = None,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> PastView:
    """Readings of one tag in the order of source time, from inclusive, to exclusive; the last hour by default.

    `next` is the `from` of the page after. Points are no readings: `thinned` says where there are points instead.
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
    more = times.rfc3339(found[limit].time) if len(found) > limit else None
    return PastView(items=items, next=more, thinned=_thinned(engine, row.id, start, end))


@router.get("/tags/{tag}/points", operation_id="listPoints")
def points(
    tag: str,
    _who: Viewer,
    engine: Database,
    *,
    since: From = None,
    until: To = None,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> Page[PointView]:
    """Points in the place of readings that were thinned, whose intervals begin in a span, in the order of time.

    `next` is the `from` of the page after.
    """
    row, start, end = _span(engine, tag, since, until)
    found = thinned.earliest(engine, row.id, start, end, limit + 1)
    items = sorted((view for step, some in found for view in _points(step, some)), key=lambda one: one[:2])
    if len(items) <= limit:
        return Page(items=[view for *_, view in items], next=None)
    # Points of one time and another length of interval stay together, so that none is left out between two pages.
    edge = items[limit][0]
    if items[0][0] == edge:
        return Page(items=[view for time, _, view in items if time == edge], next=times.rfc3339(edge + 1))
    return Page(items=[view for time, _, view in items if time < edge], next=times.rfc3339(edge))


def _points(step: int, some: Points) -> Iterator[tuple[int, int, PointView]]:
    """Where each begins, and how long it is (ns)."""
    columns = (some.time, some.mean, some.minimum, some.maximum, some.count, some.readings, some.status(), some.worst)
    for time, mean, least, greatest, count, readings_, status, worst in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        yield time, step, PointView(
            time=times.rfc3339(time), every_s=step // times.NANOS, average=plain(mean), minimum=plain(least),
            maximum=plain(greatest), count=count, readings=readings_, status=status, quality=_SEVERITY[status >> 30],
            worst_status=worst,
        )  # fmt: skip


def _thinned(engine: Engine, tag: int, start: int, end: int) -> list[ThinnedView]:
    """Asked after the readings: what becomes points meanwhile is rather said twice than not at all."""
    return [
        ThinnedView(
            since=times.rfc3339(one.start), until=times.rfc3339(one.end), every_s=one.step_ns // times.NANOS,
            aggregates=list(AGGREGATES),
        )
        for one in thinned.spans(engine, tag, start, end)
    ]  # fmt: skip


@router.get("/tags/{tag}/trend", operation_id="getTrend")
def trend(
    tag: str,
    _who: Viewer,
    engine: Database,
    *,
    since: From = None,
    until: To = None,
    points: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> TrendView:
    """Least, greatest and mean of a tag in so many equal parts, from inclusive, to exclusive; the last hour by default.

    Of finite numbers whose status is not Bad; a part without any is null. `thinned` says what is made of points.
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
        thinned=_thinned(engine, row.id, start, end),
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
