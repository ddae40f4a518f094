"""The look at the box's own promises, once a minute."""

from __future__ import annotations

from app.db import make_engine
from app.log import PROMISE_BROKEN, PROMISE_KEPT, get_logger
from app.queue import WATCH, celery
from app.settings import settings
from app.watch.service import judge, unbalanced, uncertified

_log = get_logger(__name__)


@celery.task(name=WATCH)
def watch() -> None:
    """One look."""
    engine = make_engine(settings().database())
    try:
        for one in judge(engine, [*unbalanced(engine), *uncertified(engine)]):
            if one.value is None:
                _log.info(PROMISE_KEPT, rule=one.rule, of=one.name)
            else:
                _log.error(PROMISE_BROKEN, rule=one.rule, of=one.name, value=one.value)
    finally:
        engine.dispose()
