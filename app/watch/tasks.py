"""The look at the box's own promises, once a minute."""

from __future__ import annotations

from app.db import make_engine
from app.queue import WATCH, celery
from app.settings import settings
from app.watch.service import judge, unbalanced, uncertified


@celery.task(name=WATCH)
def watch() -> None:
    """One look."""
    engine = make_engine(settings().database())
    try:
        judge(engine, [*unbalanced(engine), *uncertified(engine)])
    finally:
        engine.dispose()
