"""The task that removes what is old enough, in the process that keeps the calendar; then again while there is more."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from app import times
from app.db import UnreachableError, make_engine
from app.errors import QueueError
from app.log import DATABASE_LOST, RETENTION_REMOVED, get_logger
from app.queue import HISTORY, RETENTION, ask_for, celery
from app.retention.service import Removed, keeps, piece, within_budget
from app.settings import settings

_log = get_logger(__name__)

GB: Final = 10**9


@celery.task(name=RETENTION)
def retention() -> None:
    """Remove what nobody needs any more."""
    engine = make_engine(settings().database())
    try:
        removed = piece(engine, keeps(settings()), times.now())
        budget = settings().history_max_gb
        if budget is not None:
            more = within_budget(engine, round(budget * GB))
            removed = Removed(removed.rows + more.rows, removed.more or more.more)
    except UnreachableError as error:
        # What was removed is counted; the next run goes on.
        _log.warning(DATABASE_LOST, reason=str(error.orig))
        return
    finally:
        engine.dispose()
    if removed.rows.total():
        _log.info(RETENTION_REMOVED, **{kind: rows for kind, rows in removed.rows.items() if rows})
    if removed.more:
        with suppress(QueueError):
            ask_for(RETENTION, HISTORY)
