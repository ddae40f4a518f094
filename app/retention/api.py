"""Retention over REST: how long each kind of rows is kept, and what was removed."""

from __future__ import annotations

from fastapi import APIRouter

from app import times
from app.access.api import Database, Viewer
from app.api import View
from app.retention import service
from app.settings import settings

router = APIRouter(prefix="/api/v1", tags=["retention"])


class RetentionView(View):
    """One kind of rows."""

    kind: str
    """`readings`, `predictions`, `outbox`, `events`, `dead_letters`."""
    keep_days: float | None
    """Null: for ever."""
    removed: int
    """Rows since the box was set up; of readings, chunks of one tag."""
    oldest: str | None
    """What is older than `keep_days` stays because it is not published, not applied, or still needed."""


@router.get("/retention", operation_id="getRetention")
def retention(_who: Viewer, engine: Database) -> list[RetentionView]:
    """How long what is kept, and what has left."""
    removed, keep = service.removals(engine), service.keeps(settings())
    return [
        RetentionView(kind=kind, keep_days=keep[kind], removed=removed[kind], oldest=times.optional_rfc3339(at))
        for kind, at in service.oldest(engine).items()
    ]
