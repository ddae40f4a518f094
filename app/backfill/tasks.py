"""The task that computes windows again after a gap was filled: piece by piece, beside the scoring of what is new."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from app.backfill import queries, service
from app.errors import QueueError
from app.housekeeping import came_by
from app.inferring import refused, score_all
from app.log import DATABASE_LOST, PREDICTIONS_NOT_STORABLE, WINDOWS_RECOMPUTED, WINDOWS_THINNED, get_logger
from app.pipelines.service import Version, versions
from app.queue import RECOMPUTE, ask_for, celery
from app.recomputing import again, ends_between
from app.records import to_block
from app.scoring.service import NotStorableError, TryAgainError, apply_late
from app.scoring.tasks import scorer
from app.workers import Nobody, Others

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from app.backfill.service import Work
    from app.inferring import Scored
    from app.sessions import Sessions

_log = get_logger(__name__)

MOST_WINDOWS: Final = 300
"""Of one piece."""
SPAN_NS: Final = 120 * 1_000_000_000
"""Of one piece, but for the length of its first window: it must not keep a worker from what is new."""


class Recomputer:
    """What one worker process needs for it."""

    def __init__(
        self, engine: Engine, sessions: Sessions, tell: Callable[[], None], to_others: Others | None = None
    ) -> None:
        """`tell`: says that the outbox has something new; may raise QueueError. `to_others`: what they are left."""
        self._engine = engine
        self._sessions = sessions
        self._tell, self._to_others = tell, to_others or Nobody("")
        self._known: dict[int, Version] = {}

    def once(self) -> bool:
        """One piece of the oldest work that is ready; whether there was any."""
        try:
            waiting = service.waiting(self._engine)
            if not waiting:
                return False
            self._learn(waiting)
            orders = {one: self._known[one].spec.devices for one in waiting if one in self._known}
            mine = waiting - self._to_others(orders)
            work = service.claim(self._engine, mine) if mine else None
            return work is not None and self._piece(work)
        except TryAgainError as error:
            # Nothing was stored: the claim ends by itself, and beat asks again.
            _log.error(DATABASE_LOST, reason=str(error.orig))
            return False

    def _piece(self, work: Work) -> bool:
        version = self._known.get(work.version)
        if version is None:
            service.leave(self._engine, work, "the pipeline's version cannot be run")
            return True
        reach = service.reach(self._engine, work)
        spec = version.windows
        hop = spec.step_ns * spec.hop
        after, last = max(work.done_until, reach.first - 1), min(work.until, reach.newest)
        first, end, count = ends_between(spec, after, last, max(1, min(MOST_WINDOWS, SPAN_NS // hop)))
        if not count:
            self._nothing(work, whole=first > work.until, in_force=reach.in_force)
            return True
        if (gone := queries.gone(self._engine, spec, first, end)) is not None:
            self._refuse(work, gone)
            return True
        through = work.until if end + hop > work.until else end
        scored = self._scored(version, first, end)
        if not self._store(work, scored, through):
            return True
        _log.info(WINDOWS_RECOMPUTED, gap=work.gap, version=version.id, windows=sum(map(len, scored)))
        if scored:
            with suppress(QueueError):
                self._tell()
        return True

    def _refuse(self, work: Work, gone: queries.Gone) -> None:
        """Windows that need readings which were thinned keep the answer they have; those after them are computed."""
        _log.warning(WINDOWS_THINNED, gap=work.gap, version=work.version, tag=gone.tag, until=gone.until)
        service.refuse(self._engine, work, gone.until, f"{service.THINNED}{gone.tag}")

    def _nothing(self, work: Work, *, whole: bool, in_force: bool) -> None:
        """No window is ready: they have not closed yet, or never will."""
        if whole:
            service.leave(self._engine, work, "no window lay in it")
        elif in_force:
            service.leave(self._engine, work)
        else:
            service.leave(self._engine, work, "the pipeline's version is no longer in force")

    def _learn(self, wanted: set[int]) -> None:
        """What of them is not known yet."""
        if missing := wanted - self._known.keys():
            self._known.update(versions(self._engine, missing)[0])

    def _scored(self, version: Version, first: int, last: int) -> list[Scored]:
        spec = version.windows
        past = queries.past(self._engine, spec, version.spec.context_connection, first, last)
        start = first - spec.length * spec.step_ns
        holes = service.holes(self._engine, {one.connection for one in spec.inputs}, start, last)
        cells = "<f4" if version.spec.cells == "float32" else "<f8"
        blocks = [to_block(version.id, windows, cells) for windows in again(spec, past, holes, first, last)]
        return score_all(self._sessions, [(version, block) for block in blocks])

    def _store(self, work: Work, scored: list[Scored], through: int) -> bool:
        try:
            return apply_late(self._engine, work, scored, through)
        except TryAgainError:
            raise
        except NotStorableError as error:
            _log.exception(PREDICTIONS_NOT_STORABLE, gap=work.gap, version=work.version)
            return apply_late(self._engine, work, [refused(one, f"not_storable: {error}") for one in scored], through)


@cache
def recomputer() -> Recomputer:
    """What this process holds; it runs models on the sessions that score what is new."""
    mine = scorer()
    return Recomputer(mine.engine, mine.sessions, mine.tell, Others(RECOMPUTE))


@celery.task(name=RECOMPUTE, bind=True)
def compute_again(self: Any) -> None:  # noqa: ANN401 - a task of the library
    """One piece; the next is another task, so that messages with new readings come between: where this one came."""
    if recomputer().once():
        with suppress(QueueError):
            ask_for(RECOMPUTE, came_by(self))
