"""Retention over REST: how long each kind of rows is kept, and what was removed."""

from __future__ import annotations

from fastapi import APIRouter

from app import times
from app.access.api import Database, Viewer
from app.api import View
from app.retention import service
from app.settings import settings
from app.thinning.queries import every_class

router = APIRouter(prefix="/api/v1", tags=["retention"])


class RetentionView(View):
    """One kind of rows."""

    kind: str
    """`readings`, `points`, `thinned`, `predictions`, `outbox`, `events`, `dead_letters`."""
    keep_days: float | None
    """Null: for ever. Of readings and points those of tags that have no class (`GET /history/classes`)."""
    removed: int
    """Rows since the box was set up; of `readings` and `points`, blocks of one tag; of `thinned`, readings that have
    become points."""
    oldest: str | None
    """What is older than `keep_days` stays because it is not published, not applied, or still needed."""


class StepView(View):
    """One step of thinning."""

    after_days: float
    every_s: int


class ClassView(View):
    """How the readings of some tags are kept."""

    name: str
    keep_days: float | None
    """Null: for ever."""
    priority: int
    """1 is the highest; what has a greater number leaves a full disk first."""
    thin: list[StepView]
    tags: int
    """How many have it now."""


@router.get("/history/classes", operation_id="listHistoryClasses")
def history_classes(_who: Viewer, engine: Database) -> list[ClassView]:
    """Classes of the plant file, by name; those that only retired tags still have, too."""
    return [
        ClassView(
            name=one.name, keep_days=one.keep_days, priority=one.priority, tags=one.tags,
            thin=[StepView(after_days=days, every_s=every) for days, every in one.steps],
        )
        for one in every_class(engine)
    ]  # fmt: skip


@router.get("/retention", operation_id="getRetention")
def retention(_who: Viewer, engine: Database) -> list[RetentionView]:
    """How long what is kept, and what has left."""
    removed, keep = service.removals(engine), service.keeps(settings())
    return [
        RetentionView(kind=kind, keep_days=keep.get(kind), removed=removed[kind], oldest=times.optional_rfc3339(at))
        for kind, at in service.oldest(engine).items()
    ]
