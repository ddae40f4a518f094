"""Attempts counted before the work, windows that are kept, and what people do with them: every action is audited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, exists, func, select, update

from app import lives, times
from app.access.service import audit
from app.db import insert_all, insert_new, noting, reading, table, writing
from app.letters.schemas import MAX_OPEN, LetterError, mend, misfit, pack
from app.letters.tables import AttemptRow, DeadWindowsRow
from app.pipelines import service as pipelines
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.readings.tables import AppliedRow, DeadLetterRow, WatermarkRow
from app.texts import storable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Engine
    from sqlalchemy.orm import Session

    from app.messages import Message
    from app.records import WindowBlock

LONGEST_S: Final = 900
"""Whoever began on another host longer ago is dead: no task may run longer (`app.queue.CONFIGURATION`)."""
CLAIM_S: Final = 900
MOST_TRIES: Final = 3
"""A replay that so many workers have begun and none has ended is given up."""
OPEN, WAITING, REPLAYED, DROPPED = "open", "waiting", "replayed", "dropped"

_attempts = table(AttemptRow)
_applied = table(AppliedRow)
_marks = table(WatermarkRow)
_kept = table(DeadWindowsRow)
_VERSION: Final = func.coalesce(_kept.c.wanted_version, _kept.c.version_id)
"""That is to compute a letter's windows."""


class NoLetterError(LetterError):
    """There is no such dead letter: list them to see which there are."""


@dataclass(frozen=True, slots=True)
class Work:
    """Kept windows that are to be computed, as one worker has claimed them."""

    letter: int
    version: int
    body: bytes
    asked_by: str
    deadly: bool
    """Whether a worker has died over them, or several."""


def begin(engine: Engine, message: Message) -> int | None:
    """Note that this process begins with a message; returns how many have died over it. None: it is applied already.

    What is noted survives this process, which is all it is for: nobody waits for the disk.
    """
    key, now, me = _key(message), times.now(), lives.me()
    with noting(engine) as session:
        if _is_applied(session, message):
            return None
        if insert_new(session, AttemptRow, {**key, "deaths": 0, "process": me, "at": now}):
            return 0
        mine = _is(key)
        there = session.execute(select(_attempts).where(mine).with_for_update()).one_or_none()
        if there is None:
            return None
        gone = lives.is_gone(there.process) if there.process else False
        if gone is None:
            gone = there.at < now - LONGEST_S * times.NANOS
        deaths = int(there.deaths) + gone
        if gone or not there.process:
            session.execute(update(_attempts).where(mine).values(deaths=deaths, process=me, at=now))
        return deaths


def _is(key: Mapping[str, object]) -> ColumnElement[bool]:
    return (
        (_attempts.c.journal == key["journal"])
        & (_attempts.c.epoch == key["epoch"])
        & (_attempts.c.number == key["number"])
    )


def _is_applied(session: Session, message: Message) -> bool:
    mark = (
        (_marks.c.journal == message.journal) & (_marks.c.epoch == message.epoch) & (_marks.c.number >= message.number)
    )
    one = (
        (_applied.c.journal == message.journal)
        & (_applied.c.epoch == message.epoch)
        & (_applied.c.number == message.number)
    )
    return bool(session.scalar(select(exists().where(mark) | exists().where(one))))


def left(engine: Engine, message: Message) -> None:
    """Note that this process is done with a message that another one goes on with: it is not the one that dies."""
    with noting(engine) as session:
        mine = _is(_key(message)) & (_attempts.c.process == lives.me())
        session.execute(update(_attempts).where(mine).values(process=""))


def ended(session: Session, message: Message) -> None:
    """In the transaction that applies it."""
    if message.windows:
        session.execute(delete(_attempts).where(_is(_key(message))))


def _key(message: Message) -> dict[str, Any]:
    return {"journal": message.journal, "epoch": message.epoch, "number": message.number}


def keep(session: Session, letter: Mapping[str, Any], block: WindowBlock, wanted: Sequence[int]) -> None:
    """Store a dead letter with these windows of a block, in the transaction that stores why they have no answer."""
    row = DeadLetterRow(**letter)
    session.add(row)
    session.flush()
    waiting = select(func.count()).where(_kept.c.version_id == block.version_id, _kept.c.state.in_((OPEN, WAITING)))
    body, count = (b"", 0) if (session.scalar(waiting) or 0) >= MAX_OPEN else pack(block, wanted)
    ends = memoryview(block.end_time).cast("q")
    insert_all(session, DeadWindowsRow, [{
        "letter_id": row.id, "version_id": block.version_id, "windows": len(wanted), "kept": count,
        "first_end": ends[wanted[0]], "last_end": ends[wanted[-1]], "body": body, "mended": None, "state": OPEN,
        "wanted_version": None, "claimed_until": 0, "tries": 0, "answered": 0, "said": "",
        "changed_at": letter["at"], "changed_by": "",
    }])  # fmt: skip


def correct(engine: Engine, who: str, letter: int, edits: Mapping[int, Sequence[Sequence[float | None]]]) -> int:
    """Replace inputs (see `schemas.mend`); what came stays beside them. Returns how many cells differ. LetterError."""
    with writing(engine) as session:
        row = _locked(session, letter)
        mended, cells = mend(row.mended or row.body, edits)
        _change(session, row, who, mended=mended)
        audit(session, who, "letter_mended", _target(letter), {
            "cells": cells, "windows": [times.rfc3339(end) for end in sorted(edits)],
        })
        return cells


def ask(engine: Engine, who: str, letter: int, *, present: bool) -> None:
    """Have the kept windows computed by the version they were made for, or by the one in force. LetterError."""
    with writing(engine) as session:
        row = _locked(session, letter)
        version = _in_force(session, row.version_id) if present else row.version_id
        _change(session, row, who, state=WAITING, wanted_version=version, claimed_until=0, tries=0)
        audit(session, who, "letter_replay_asked", _target(letter), {"version": version})


def _in_force(session: Session, version: int) -> int:
    """The version that is in force in place of this one, and takes its windows. LetterError."""
    pipeline = select(PipelineVersionRow.pipeline_id).where(PipelineVersionRow.id == version).scalar_subquery()
    found = session.scalar(select(PipelineRow.active_version).where(PipelineRow.id == pipeline))
    if found is None:
        message = "the pipeline has no version in force: put one in force, or replay with the windows' own version"
        raise LetterError(message)
    usable = pipelines.of_session(session, {version, found})
    if version not in usable or found not in usable:
        message = "it cannot be told whether the version in force takes these windows: one of both cannot be read"
        raise LetterError(message)
    why = misfit(usable[version].windows, usable[found].windows)
    if why:
        message = f"the version in force does not take these windows: {why}. Replay with the windows' own version"
        raise LetterError(message)
    return found


def drop(engine: Engine, who: str, letter: int, reason: str) -> None:
    """Let go of it for good; that it was there, and why it was dropped, stays. LetterError."""
    with writing(engine) as session:
        row = session.get(DeadLetterRow, letter)
        if row is None:
            message = f"there is no dead letter {letter}"
            raise NoLetterError(message)
        detail: dict[str, object] = {"reason": reason, "of": row.address, "was": row.reason, "detail": row.detail[:300]}
        if session.get(DeadWindowsRow, letter) is None:
            session.delete(row)
        else:
            kept = _locked(session, letter, whole=False)
            _change(session, kept, who, state=DROPPED, body=b"", mended=None, said=storable(reason, 1000))
            detail |= {"windows": kept.windows}
        audit(session, who, "letter_dropped", _target(letter), detail)


def waiting(engine: Engine) -> set[int]:
    """Pipeline versions with letters to be computed; asked without the lock of a writer, as mostly there is none."""
    with reading(engine) as session:
        return set(session.scalars(select(_VERSION).where(_free(times.now())).distinct()))


def _free(now: int) -> ColumnElement[bool]:
    return (_kept.c.state == WAITING) & (_kept.c.claimed_until < now)


def claim(engine: Engine, of: Collection[int]) -> Work | None:
    """The oldest letter that waits for one of these versions; the caller's until it says how it went, or minutes."""
    now = times.now()
    free = _free(now) & _VERSION.in_(of)
    with writing(engine) as session:
        row = session.scalar(
            select(DeadWindowsRow).where(free).order_by(_kept.c.letter_id).limit(1).with_for_update(skip_locked=True)
        )
        if row is None:
            return None
        if row.tries >= MOST_TRIES:
            said = f"{row.tries} workers have begun with it and none has ended"
            _change(session, row, row.changed_by, state=OPEN, said=said)
            return None
        why = session.scalar(select(DeadLetterRow.reason).where(DeadLetterRow.id == row.letter_id))
        deadly = row.tries > 0 or why == "killed_worker"
        row.tries, row.claimed_until = row.tries + 1, now + CLAIM_S * times.NANOS
        version = row.wanted_version or row.version_id
        return Work(row.letter_id, version, row.mended or row.body, row.changed_by, deadly)


def settle(session: Session, work: Work, answered: int, windows: int, said: str) -> bool:
    """Its windows are stored in this transaction; False, and nothing may be, when that is no longer wanted."""
    row = session.get(DeadWindowsRow, work.letter, with_for_update=True)
    if row is None or row.state != WAITING:
        return False
    state = REPLAYED if answered == windows else OPEN
    _change(session, row, work.asked_by, state=state, answered=answered, said=storable(said, 1000))
    audit(session, work.asked_by, "letter_replayed", _target(work.letter), {
        "version": work.version, "answered": answered, "windows": windows,
    })
    return True


def give_up(engine: Engine, work: Work, said: str) -> None:
    """It cannot be computed now: it is open again and says why."""
    with writing(engine) as session:
        settle(session, work, 0, -1, said)


def _locked(session: Session, letter: int, *, whole: bool = True) -> DeadWindowsRow:
    """Under a lock, where it can be worked with. `whole`: its windows are needed. LetterError."""
    row = session.get(DeadWindowsRow, letter, with_for_update=True)
    if row is None:
        message = f"dead letter {letter} has no windows: there is none, or it tells of something a peer sent"
        raise NoLetterError(message)
    if row.state == WAITING:
        message = f"dead letter {letter} is being computed: wait until it is done"
        raise LetterError(message)
    if row.state == DROPPED or (whole and not row.body):
        why = "it was dropped" if row.state == DROPPED else "there was no room for its windows"
        message = f"nothing can be done with dead letter {letter} any more: {why}"
        raise LetterError(message)
    return row


def _change(session: Session, row: DeadWindowsRow, who: str, **changes: Any) -> None:  # noqa: ANN401 - of columns
    session.execute(
        update(DeadWindowsRow)
        .where(DeadWindowsRow.letter_id == row.letter_id)
        .values(**changes, changed_at=times.now(), changed_by=who)
    )


def _target(letter: int) -> str:
    return f"dead letter {letter}"
