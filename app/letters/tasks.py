"""The task that computes the windows of a dead letter again, when somebody has asked for it."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from app.errors import QueueError
from app.housekeeping import came_by
from app.inferring import refused, score
from app.letters import service
from app.letters.schemas import LetterError, unpack
from app.log import DATABASE_LOST, LETTER_REPLAYED, PREDICTIONS_NOT_STORABLE, get_logger
from app.pipelines.service import versions
from app.probing import Prober
from app.queue import REPLAY_LETTERS, ask_for, celery
from app.scoring.service import NotStorableError, TryAgainError, apply_replayed
from app.scoring.tasks import scorer
from app.workers import Nobody, Others

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from app.inferring import Scored
    from app.letters.service import Work
    from app.sessions import Sessions

_log = get_logger(__name__)


class Replayer:
    """What one worker process needs for it."""

    def __init__(
        self, engine: Engine, sessions: Sessions, tell: Callable[[], None], to_others: Others | None = None
    ) -> None:
        """`tell`: says that the outbox has something new; may raise QueueError. `to_others`: what they are left."""
        self._engine = engine
        self._sessions = sessions
        self._tell, self._to_others = tell, to_others or Nobody("")

    def once(self) -> bool:
        """The oldest letter that waits; whether there was any."""
        try:
            waiting = service.waiting(self._engine)
            if not waiting:
                return False
            found = versions(self._engine, waiting)[0]
            orders = {key: one.spec.devices for key, one in found.items()}
            mine = waiting - self._to_others(orders)
            work = service.claim(self._engine, mine) if mine else None
            if work is None:
                return False
            self._replay(work)
        except TryAgainError as error:
            # Nothing was stored: the claim ends by itself, and beat asks again.
            _log.error(DATABASE_LOST, reason=str(error.orig))
            return False
        return True

    def _replay(self, work: Work) -> None:
        try:
            scored = self._scored(work)
        except LetterError as error:
            service.give_up(self._engine, work, str(error))
            return
        if self._store(work, scored):
            answered = scored.reason.count("")
            _log.info(LETTER_REPLAYED, letter=work.letter, version=work.version, answered=answered, of=len(scored))
            with suppress(QueueError):
                self._tell()

    def _scored(self, work: Work) -> Scored:
        """What has killed workers is run in another process. LetterError."""
        found, unusable = versions(self._engine, [work.version])
        if work.version not in found:
            why = unusable[0].reason if unusable else "there is no such version"
            message = f"the pipeline's version cannot be run: {why}"
            raise LetterError(message)
        version = found[work.version]
        if version.spec.state:
            message = "the model carries a state from window to window, and has gone on since"
            raise LetterError(message)
        windows = unpack(work.body)
        if windows.kept.inputs != len(version.spec.inputs) or windows.kept.length != version.windows.length:
            message = "the version takes windows of another shape"
            raise LetterError(message)
        block = windows.block(version.id, "<f4" if version.spec.cells == "float32" else "<f8")
        if not work.deadly:
            return score(self._sessions, version, block)
        with Prober(self._sessions.store) as prober:
            return prober.score([(version, block)])[0]

    def _store(self, work: Work, scored: Scored) -> bool:
        try:
            return apply_replayed(self._engine, work, scored)
        except TryAgainError:
            raise
        except NotStorableError as error:
            _log.exception(PREDICTIONS_NOT_STORABLE, letter=work.letter, version=work.version)
            return apply_replayed(self._engine, work, refused(scored, f"not_storable: {error}"))


@cache
def replayer() -> Replayer:
    """What this process holds; it runs models on the sessions that score what is new."""
    mine = scorer()
    return Replayer(mine.engine, mine.sessions, mine.tell, Others(REPLAY_LETTERS))


@celery.task(name=REPLAY_LETTERS, bind=True)
def replay_letters(self: Any) -> None:  # noqa: ANN401 - a task of the library
    """One letter; the next is another task, so that messages with new readings come between: where this one came."""
    if replayer().once():
        with suppress(QueueError):
            ask_for(REPLAY_LETTERS, came_by(self))
