"""The state that a model carries: read before a window is run, moved on in the transaction that stores its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from app import times
from app.db import insert_new, reading, table
from app.readings.tables import AppliedRow, WatermarkRow
from app.states.tables import ModelStateRow

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.carrying import Carried
    from app.messages import Message

_states, _applied, _marks = table(ModelStateRow), table(AppliedRow), table(WatermarkRow)


class MovedError(Exception):
    """Another worker has moved the state meanwhile: what was computed began from an old one."""


def read(engine: Engine, version: int) -> tuple[int, bytes] | None:
    """After which window the state is this; None where no window was answered yet."""
    with reading(engine) as session:
        row = session.execute(
            select(_states.c.sequence, _states.c.state).where(_states.c.version_id == version)
        ).one_or_none()
        return None if row is None else (int(row.sequence), bytes(row.state))


def is_next(engine: Engine, message: Message) -> bool:
    """Whether all of the journal before this message is stored: then no earlier window can come any more."""
    mine = (_applied.c.journal == message.journal) & (_applied.c.epoch == message.epoch)
    of_mark = (_marks.c.journal == message.journal) & (_marks.c.epoch == message.epoch)
    with reading(engine) as session:
        mark = session.scalar(select(_marks.c.number).where(of_mark)) or 0
        between = mine & (_applied.c.number > mark) & (_applied.c.number < message.number)
        ahead = session.scalar(select(func.count()).select_from(_applied).where(between)) or 0
        return int(mark) + int(ahead) >= message.number - 1


def move(session: Session, version: int, carried: Carried) -> None:
    """From the window that it was computed from to the newest one. MovedError where it is not there any more."""
    values = {"sequence": carried.after, "state": carried.state, "changed_at": times.now()}
    if carried.before == 0 and insert_new(session, ModelStateRow, {"version_id": version, **values}):
        return
    mine = (_states.c.version_id == version) & (_states.c.sequence == carried.before)
    if session.execute(update(_states).where(mine).values(values)).rowcount != 1:  # type: ignore[attr-defined]
        message = f"the state of version {version} is no longer that after window {carried.before}"
        raise MovedError(message)
