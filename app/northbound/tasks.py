"""Periodic housekeeping of the outbox and of tokens that have ended."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete

from app import times
from app.access.tables import TokenRow
from app.db import make_engine, writing
from app.northbound.tables import OutboxRow
from app.queue import celery
from app.settings import settings

KEEP_SENT_S: Final = 24 * 3600
KEEP_ENDED_S: Final = 30 * 24 * 3600
"""An ended token stays as long as its owner may ask what it was."""


@celery.task(name="headrace.retention")
def retention() -> None:
    """Remove outbox rows sent more than a day ago, and tokens that ended more than a month ago."""
    now = times.now()
    engine = make_engine(settings().database())
    with writing(engine) as session:
        session.execute(delete(OutboxRow).where(OutboxRow.sent_at < now - KEEP_SENT_S * times.NANOS))
        session.execute(delete(TokenRow).where(TokenRow.expires_at < now - KEEP_ENDED_S * times.NANOS))
    engine.dispose()
