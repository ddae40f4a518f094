"""Periodic housekeeping of the outbox and of tokens that have ended."""

from __future__ import annotations

from app.db import make_engine
from app.northbound.service import retain
from app.queue import celery
from app.settings import settings


@celery.task(name="headrace.retention")
def retention() -> None:
    """Remove what nobody needs any more."""
    engine = make_engine(settings().database())
    try:
        retain(engine)
    finally:
        engine.dispose()
