"""The compaction of the history, once a minute, in the process that also keeps the calendar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from app import times
from app.db import UnreachableError, make_engine
from app.history.service import CompactedElsewhereError, compact, fold, merge
from app.log import DATABASE_LOST, HISTORY_COMPACTED, get_logger
from app.queue import COMPACT, celery
from app.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = get_logger(__name__)

AT_MOST_S: Final = 20.0
"""Of one run: the next one goes on, and whoever stops the process need not wait for long."""


def run(engine: Engine, until: float) -> None:
    """Compact all there is, then merge; what is not done at `until` (of the monotonic clock) waits for the next run."""
    readings = batches = merged = 0
    while time.monotonic() < until and (done := compact(engine)).batches:
        readings, batches = readings + done.readings, batches + done.batches
    while time.monotonic() < until and (done := merge(engine)).chunks:
        merged += done.chunks
    if time.monotonic() < until:
        fold(engine, times.now())
    if batches or merged:
        log.debug(HISTORY_COMPACTED, readings=readings, batches=batches, merged=merged)


@celery.task(name=COMPACT)
def compact_history() -> None:
    """One run."""
    engine = make_engine(settings().database())
    try:
        run(engine, time.monotonic() + AT_MOST_S)
    except CompactedElsewhereError:
        log.debug(HISTORY_COMPACTED, readings=0, batches=0, merged=0)
    except UnreachableError as error:
        # Nothing was done, nothing is lost: the next run is in a minute.
        log.warning(DATABASE_LOST, reason=str(error.orig))
    finally:
        engine.dispose()
