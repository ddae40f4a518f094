"""The task that every batch ends in: score the windows, then apply all of it in one transaction."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

from app.db import make_engine
from app.inferring import Scored, Sessions, score
from app.log import get_logger
from app.pipelines.service import Version, versions
from app.queue import TASK, celery
from app.records import Message
from app.scoring import service
from app.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

_log = get_logger(__name__)
_decoder = msgspec.msgpack.Decoder(Message)
_known: dict[int, Version] = {}


@cache
def engine() -> Engine:
    """This process's engine."""
    return make_engine(settings().database())


@cache
def sessions() -> Sessions:
    """This process's sessions."""
    return Sessions(settings().data_dir / "models")


def _versions(wanted: set[int]) -> dict[int, Version]:
    """A version never changes: what was read once is kept."""
    missing = wanted - _known.keys()
    if missing:
        found, unusable = versions(engine(), missing)
        _known.update(found)
        for one in unusable:
            _log.error("version_unusable", pipeline=one.pipeline, reason=one.reason)
    return _known


@celery.task(name=TASK)
def apply(body: bytes) -> None:
    """Score and store one message. A repeat changes nothing; a database that is away makes Celery try again."""
    message = _decoder.decode(body)
    known = _versions({block.version_id for block in message.windows})
    scored: list[Scored] = [
        score(sessions(), known[block.version_id], block) for block in message.windows if block.version_id in known
    ]
    if not service.apply(engine(), message, scored):
        _log.info("batch_repeated", journal=message.journal, epoch=message.epoch, number=message.number)
