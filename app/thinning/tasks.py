"""The task that puts points in the place of old readings, in the process that keeps the calendar."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from app import times
from app.db import UnreachableError, make_engine
from app.errors import QueueError
from app.history.service import CompactedElsewhereError
from app.log import DATABASE_LOST, HISTORY_THINNED, get_logger
from app.queue import HISTORY, THIN, ask_for, celery
from app.settings import settings
from app.thinning.service import run

_log = get_logger(__name__)

PIECE_S: Final = 2.0
"""One task thins for so long; the next is another task, so that the compaction of what is new comes between."""


@celery.task(name=THIN)
def thin_history() -> None:
    """One piece."""
    engine = make_engine(settings().database())
    try:
        readings, more = run(engine, times.now(), time.monotonic() + PIECE_S)
    except CompactedElsewhereError:
        # What another process did meanwhile is done; the next run looks again.
        return
    except UnreachableError as error:
        _log.warning(DATABASE_LOST, reason=str(error.orig))
        return
    finally:
        engine.dispose()
    if readings:
        _log.info(HISTORY_THINNED, readings=readings)
    if more:
        with suppress(QueueError):
            ask_for(THIN, HISTORY)
