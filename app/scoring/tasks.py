"""The task that every batch ends in: score the windows, then apply all of it in one transaction."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from app import answers, longlived
from app.carrying import Carried, Carrier, initial, packed, unpacked
from app.certificates.queries import standing
from app.db import make_engine
from app.errors import QueueError
from app.inferring import Scored, refused, score_all, unanswered
from app.keeping import Keeper
from app.letters import service as letters
from app.log import (
    BATCH_DEADLY,
    BATCH_GONE,
    BATCH_REFUSED,
    BATCH_REPEATED,
    BATCH_WAITS,
    DATABASE_LOST,
    PIPELINE_UNUSABLE,
    PREDICTIONS_NOT_STORABLE,
    QUEUE_LOST,
    get_logger,
)
from app.messages import Message, decoded, encoded
from app.pipelines.service import Version, versions
from app.probing import Prober
from app.queue import MAX_BODY, TASK, celery, door, recompute, ring
from app.scoring import service
from app.sessions import Failed, Sessions
from app.settings import settings
from app.states import service as states
from app.workers import tell_lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from app.queue import Door
    from app.records import WindowBlock

_log = get_logger(__name__)

TRIES: Final = 3
"""A transaction that gave way to another goes through at once; a database that is away is the gateway's to wait for."""
SUSPECT: Final = 2
"""Workers that have died over a batch: once may be chance, or somebody's doing."""


WAIT_S: Final = 5.0
"""A window of a model that carries a state waits so long for the one before it; then the gateway sends it again."""
STEP_S: Final = 0.02


class NotYetError(Exception):
    """A window before this one has not been stored, and may still come."""


class Scorer:
    """What one worker process holds: its database, its sessions, and the versions it has met."""

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        tell: Callable[[], None],
        filled: Callable[[], None] = lambda: None,
        send: Callable[[bytes, str, str], None] = lambda body, queue, name: door().send(body, queue, name),
        most_bytes: int = MAX_BODY,
        wait_s: float = WAIT_S,
    ) -> None:
        """Nothing is opened yet. `tell`: says that the outbox has something new, `filled` that a gap is filled.

        `send`: puts a message into a queue, under a name (`Door.send`). All three may raise QueueError.
        `most_bytes`: of one that is handed on. `wait_s`: for the window before one of a model that carries a state.
        """
        self.engine = engine
        self.tell = tell
        self.sessions = sessions
        self._filled, self._send, self._most_bytes, self._wait_s = filled, send, most_bytes, wait_s
        self._known: dict[int, Version] = {}

    def apply(self, body: bytes) -> bool:
        """Score and store one message; False when nothing changed. Whatever is not applied the gateway sends again."""
        try:
            return self._apply(decoded(body))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            _log.exception(BATCH_REFUSED, bytes=len(body), reason=str(error))
        except service.TryAgainError as error:
            _log.error(DATABASE_LOST, reason=str(error.orig))
        return False

    def close(self) -> None:
        """Let go of devices and database."""
        self.sessions.drop_all()
        self.engine.dispose()

    def _apply(self, message: Message) -> bool:
        deaths = letters.begin(self.engine, message) if message.windows else 0
        if deaths is None:
            return self._repeated(message)
        why = self._learn({block.version_id for block in message.windows})
        try:
            answered = self._answered(message, deaths)
        except NotYetError as error:
            _log.info(BATCH_WAITS, journal=message.journal, number=message.number, reason=str(error))
            return False
        if message.stops and self._hand_on(message, answered):
            return False
        if message.stops:
            # Too large to travel on: it ends here, and what has no device here is refused.
            message = msgspec.structs.replace(message, stops=())
            answered |= self._answered(message, deaths, frozenset(answered))
        scored = [one for _, one in sorted(answered.items())]
        unscored = [(one, why[one.version_id]) for one in message.windows if one.version_id in why]
        stored = self._store(message, scored, unscored)
        if stored and (scored or message.record.events):
            # The gateway looks by itself, too: a bell that does not ring costs time, nothing else.
            with suppress(QueueError):
                self.tell()
        if stored and message.record.fill is not None and message.record.fill.end:
            with suppress(QueueError):
                self._filled()
        return stored or self._repeated(message)

    def _answered(
        self, message: Message, deaths: int, but: frozenset[int] = frozenset()
    ) -> dict[int, Scored]:
        """By its place in the message, each block that earlier workers ran, and those that no later one is for.

        `but`: not these, which are answered already.
        """
        there = [self._known.get(one.version_id) for one in message.windows]
        known = {at: version for at, version in enumerate(there) if version is not None}
        given = {
            at: answers.unpacked(self.sessions, known[at], message.windows[at], body)
            for at, body in message.answers if at in known and at not in but
        }  # fmt: skip
        later = {order for stop in message.stops for order in stop.orders}
        done = {*given, *but}
        mine = [at for at, version in known.items() if at not in done and version.spec.devices not in later]
        free = [at for at in mine if not known[at].spec.state]
        scored = self._scored([(known[at], message.windows[at]) for at in free], deaths) if free else []
        stepped = {
            at: self._stepped(message, known[at], message.windows[at], deaths) for at in mine if known[at].spec.state
        }
        return {**given, **dict(zip(free, scored, strict=True)), **stepped}

    def _stepped(self, message: Message, version: Version, block: WindowBlock, deaths: int) -> Scored:
        """Windows of a model that carries a state, one after the other from where it stands. NotYetError."""
        if deaths >= SUSPECT:
            why = f"killed_worker: {deaths} workers have died over the batch; its windows were not run again"
            return unanswered(self.sessions, version, block, why)
        numbers = np.frombuffer(block.sequence, dtype="<i8")
        before, kept = self._state(message, version, int(numbers.min()))
        ready = self.sessions.get(version.spec)
        if isinstance(ready, Failed):
            return unanswered(self.sessions, version, block, ready.reason)
        model = ready.model
        carrier = Carrier(initial(version.spec, model) if kept is None else unpacked(kept, version.spec, model))
        (scored,) = score_all(self.sessions, [(version, block)], carrier.run)
        if (after := int(numbers.max())) <= before:
            return scored
        return replace(scored, carried=Carried(before, after, packed(carrier.state)))

    def _state(self, message: Message, version: Version, first: int) -> tuple[int, bytes | None]:
        """After which window the state stands from which this one goes on, and it. NotYetError.

        An earlier window may still be with another worker, which is waited for; where all of the journal before is
        stored, none can come any more, and the state goes on from where it is.
        """
        until = time.monotonic() + self._wait_s
        while True:
            found = states.read(self.engine, version.id)
            at = 0 if found is None else found[0]
            if at >= first - 1 or states.is_next(self.engine, message):
                return at, None if found is None else found[1]
            if time.monotonic() > until:
                why = f"{version.pipeline} carries a state and waits for window {at + 1}"
                raise NotYetError(why)
            time.sleep(STEP_S)

    def _hand_on(self, message: Message, answered: dict[int, Scored]) -> bool:
        """To the next stop, unless it has become too large. What does not get there the gateway sends again."""
        first, *later = message.stops
        done = tuple((at, _packed(one)) for at, one in answered.items())
        onward = encoded(msgspec.structs.replace(message, stops=tuple(later), answers=done))
        if len(onward) > self._most_bytes:
            return False
        if message.windows:
            letters.left(self.engine, message)
        try:
            self._send(onward, first.queue, f"{message.name}:{first.queue}")
        except QueueError as error:
            _log.error(QUEUE_LOST, reason=str(error))
        return True

    def _repeated(self, message: Message) -> bool:
        _log.info(BATCH_REPEATED, journal=message.journal, epoch=message.epoch, number=message.number)
        return False

    def _scored(self, blocks: list[tuple[Version, WindowBlock]], deaths: int) -> list[Scored]:
        """With care where workers have died over it: in another process first, then not at all."""
        if deaths < SUSPECT:
            return score_all(self.sessions, blocks)
        _log.error(BATCH_DEADLY, deaths=deaths, windows=sum(len(block.sequence) // 8 for _, block in blocks))
        if deaths == SUSPECT:
            with Prober(self.sessions.store) as prober:
                return prober.score(blocks)
        why = f"killed_worker: {deaths} workers have died over the batch; its windows were not run again"
        return [unanswered(self.sessions, version, block, why) for version, block in blocks]

    def _learn(self, wanted: set[int]) -> dict[int, str]:
        """A version never changes: what was read once is kept. Returns those that cannot be run, and why."""
        missing = wanted - self._known.keys()
        if not missing:
            return {}
        found, unusable = versions(self.engine, missing)
        self._known.update(found)
        why = {one.id: one.reason for one in unusable}
        bad = {version: why.get(version, "no such version") for version in sorted(missing - found.keys())}
        for version, reason in bad.items():
            _log.error(PIPELINE_UNUSABLE, version=version, reason=reason)
        return bad

    def _store(self, message: Message, scored: list[Scored], unscored: list[tuple[WindowBlock, str]]) -> bool:
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                return service.apply(self.engine, message, scored, unscored)
            except states.MovedError as error:
                _log.info(BATCH_WAITS, journal=message.journal, number=message.number, reason=str(error))
                return False
            except service.TryAgainError:
                if last:
                    raise
            except service.NotStorableError as error:
                # Readings must not wait for ever behind an answer that the database cannot hold.
                _log.exception(PREDICTIONS_NOT_STORABLE, journal=message.journal, number=message.number)
                scored = [refused(one, f"not_storable: {error}") for one in scored]
                if last:
                    raise
        raise AssertionError


def _packed(scored: Scored) -> bytes:
    """As it travels; what cannot is what the database could not hold either."""
    try:
        return answers.packed(scored)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        _log.exception(PREDICTIONS_NOT_STORABLE, version=scored.version.id)
        return answers.packed(refused(scored, f"not_storable: {error}"))


@cache
def scorer() -> Scorer:
    """What this process holds, made with its first message: a worker's parent opens neither devices nor database."""
    here = settings()
    engine = make_engine(here.database())
    stand = partial(standing, engine)
    sessions = Sessions(here.data_dir / "models", standing=stand, told=tell_lost, compiles_aside=True)
    Keeper(engine, sessions).start()
    return Scorer(engine, sessions, ring, recompute)


@celery.task(name=TASK)
def apply(body: bytes, name: str = "") -> None:
    """Score and store one message; a repeat changes nothing. `name`: of one that is too large to be in the queue."""
    if name:
        apply_large(scorer(), door, name)
    else:
        scorer().apply(body)
    _settled()


def apply_large(scorer: Scorer, door: Callable[[], Door], name: str) -> None:
    """The same for a message that waits beside the queue. `door`: to the Redis that has it."""
    if found := _fetched(door, name):
        scorer.apply(found)
        # One that was not applied is put there again by the gateway, which sends it again.
        with suppress(QueueError):
            door().drop(name)


def _fetched(door: Callable[[], Door], name: str) -> bytes | None:
    """None: it is applied already, or lost; then the gateway notices and sends it again."""
    try:
        found = door().fetch(name)
    except QueueError as error:
        _log.error(QUEUE_LOST, reason=str(error))
        return None
    if found is None:
        _log.info(BATCH_GONE, message=name)
    return found


@cache
def _settled() -> None:
    """Once, after the first message: models are made ready and statements compiled."""
    longlived.settle()
