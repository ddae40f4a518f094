"""What becomes of a gap: how far it is filled, how that ended, and which windows are to be computed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, or_, select, update

from app import times
from app.backfill.tables import RecomputeRow
from app.db import insert_all, reading, table, writing
from app.ledger.tables import GapRow
from app.pipelines import service as pipelines
from app.pipelines.tables import PipelineRow
from app.readings.tables import WatermarkRow
from app.scoring.tables import PredictionRow

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Engine
    from sqlalchemy.orm import Session

    from app.records import Record

CLAIM_S: Final = 300
"""A worker that has not come back by then is dead: another takes its piece."""
PUT_OFF_S: Final = 4
"""What has no window ready is looked at again after so long, and others before it."""
MOST_OPEN: Final = 100
"""Gaps of one connection that are looked at together, oldest first."""
THINNED: Final = "thinned: "
"""Begins the reason of windows whose readings were thinned; the name of a tag follows."""
OPEN, FILLED, PARTLY, NONE = "open", "filled", "partly", "none"

_works = table(RecomputeRow)
_predictions = table(PredictionRow)
_marks = table(WatermarkRow)


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A gap that waits to be filled; times in ns."""

    id: int
    since: int
    until: int
    filled_until: int
    """0 where nothing is filled yet."""


@dataclass(frozen=True, slots=True)
class Work:
    """Windows of one version that are to be computed again, as one worker has claimed them."""

    id: int
    gap: int
    version: int
    done_until: int
    until: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Which windows of a version there are to compute again, ns."""

    first: int
    """End of the first window since the version was last put in force; beyond all where there is none."""
    newest: int
    """End of the newest window all of whose readings are stored."""
    in_force: bool


def open_gaps(engine: Engine, connection: int) -> list[OpenGap]:
    """Of one connection, oldest first."""
    mine = (GapRow.connection_id == connection) & (GapRow.state == OPEN)
    columns = (GapRow.id, GapRow.since, GapRow.until, GapRow.filled_until)
    with reading(engine) as session:
        rows = session.execute(select(*columns).where(mine).order_by(GapRow.since).limit(MOST_OPEN))
        return [OpenGap(*row) for row in rows]


def fill(session: Session, record: Record) -> None:
    """Note what a record fills, in the transaction that stores its readings; the last one leaves work behind."""
    said = record.fill
    if said is None:
        return
    gap = session.get(GapRow, said.gap, with_for_update=True)
    if gap is None:
        return
    gap.readings += record.count
    gap.filled_until = max(gap.filled_until, said.until)
    if not said.end or gap.state != OPEN:
        return
    gap.state, gap.reason, gap.lacking = said.end, said.reason[:500], list(said.lacking)
    gap.ended_at = record.received_time
    if gap.filled_until > gap.since:
        insert_all(session, RecomputeRow, _works_of(session, gap))


def _works_of(session: Session, gap: GapRow) -> list[dict[str, Any]]:
    """One per version in force that can be run, whose windows lie on a grid and have an input of the gap's connection.

    A model that carries a state has long gone on from there. The end of a cycle is a reading of its own: one that
    happened in the gap was never counted, and cannot be numbered afterwards.
    """
    usable, _ = pipelines.in_force(session)
    return [
        {
            "gap_id": gap.id, "version_id": version, "done_until": gap.since - 1, "windows": 0, "claimed_until": 0,
            "until": min(gap.until, gap.filled_until) + (spec.length - 1) * spec.step_ns, "done_at": None, "reason": "",
        }
        for version, spec in ((one.id, one.windows) for one in usable.values() if not one.spec.state)
        if spec.kind == "grid" and any(one.connection == gap.connection_id for one in spec.inputs)
    ]  # fmt: skip


def waiting(engine: Engine) -> set[int]:
    """Pipeline versions with work that nobody works on; asked without the lock of a writer, as mostly there is none."""
    with reading(engine) as session:
        return set(session.scalars(select(_works.c.version_id).where(_free(times.now())).distinct()))


def claim(engine: Engine, of: Collection[int]) -> Work | None:
    """The oldest work of these versions that nobody works on; the caller's for minutes, or until it says it is done."""
    now = times.now()
    free = _free(now) & _works.c.version_id.in_(of)
    columns = (_works.c.id, _works.c.gap_id, _works.c.version_id, _works.c.done_until, _works.c.until)
    with writing(engine) as session:
        oldest = select(*columns).where(free).order_by(_works.c.id).limit(1).with_for_update()
        row = session.execute(oldest).one_or_none()
        if row is None:
            return None
        session.execute(
            update(_works).where(_works.c.id == row.id).values(claimed_until=now + CLAIM_S * times.NANOS)
        )
        return Work(*row)


def _free(now: int) -> ColumnElement[bool]:
    return _works.c.done_at.is_(None) & (_works.c.claimed_until < now)


def reach(engine: Engine, work: Work) -> Reach:
    """Which of its windows can be computed now."""
    mine = _predictions.c.version_id == work.version
    begun = select(func.max(_predictions.c.end_time)).where(mine, _predictions.c.sequence == 1)
    stored = (_marks.c.journal == _predictions.c.journal) & (_marks.c.epoch == _predictions.c.epoch)
    newest = (
        select(_predictions.c.end_time)
        .join(_marks, stored & (_predictions.c.number <= _marks.c.number))
        .where(mine, _predictions.c.sequence.is_not(None))
        .order_by(_predictions.c.end_time.desc())
        .limit(1)
    )
    active = select(func.count()).select_from(PipelineRow).where(PipelineRow.active_version == work.version)
    with reading(engine) as session:
        first, last = session.scalar(begun), session.scalar(newest)
        return Reach(2**62 if first is None else first, last or 0, bool(session.scalar(active)))


def advance(session: Session, work: Work, done_until: int, windows: int) -> bool:
    """The windows up to this time are stored in this transaction. False, and nothing may be, when others did them."""
    if not _mine(session, work):
        return False
    done = times.now() if done_until >= work.until else None
    changed = {"done_until": done_until, "windows": _works.c.windows + windows, "claimed_until": 0, "done_at": done}
    session.execute(update(_works).where(_works.c.id == work.id).values(changed))
    return True


def leave(engine: Engine, work: Work, reason: str = "") -> None:
    """Nothing more can be done for now; with a reason, for ever."""
    now = times.now()
    with writing(engine) as session:
        if _mine(session, work):
            later = now + PUT_OFF_S * times.NANOS
            changed = {"claimed_until": later, "done_at": now if reason else None, "reason": reason[:300]}
            session.execute(update(_works).where(_works.c.id == work.id).values(changed))


def refuse(engine: Engine, work: Work, done_until: int, reason: str) -> None:
    """Windows that end by a time (ns) cannot be computed, and are done with; what comes after them is left to do."""
    now = times.now()
    over = done_until >= work.until
    with writing(engine) as session:
        if _mine(session, work):
            changed = {
                "done_until": min(done_until, work.until), "done_at": now if over else None, "claimed_until": 0,
                "reason": reason[:300],
            }  # fmt: skip
            session.execute(update(_works).where(_works.c.id == work.id).values(changed))


def _mine(session: Session, work: Work) -> bool:
    """Whether nobody has done it meanwhile; under a lock."""
    query = select(_works.c.done_until, _works.c.done_at).where(_works.c.id == work.id).with_for_update()
    row = session.execute(query).one_or_none()
    return row is not None and row.done_at is None and row.done_until == work.done_until


@dataclass(frozen=True, slots=True)
class Hole:
    """Between these times (ns) nothing is known of a connection, or of some of its tags."""

    connection: int
    since: int
    until: int
    tags: frozenset[int] | None = None
    """None means all."""


def holes(engine: Engine, connections: set[int], start: int, end: int) -> list[Hole]:
    """What of the gaps in a span was not filled."""
    mine = GapRow.connection_id.in_(connections) & (GapRow.since < end) & (GapRow.until > start)
    whole = or_(GapRow.state != FILLED, GapRow.filled_until < GapRow.until)
    with reading(engine) as session:
        rows = list(session.scalars(select(GapRow).where(mine, whole).order_by(GapRow.since)))
        session.expunge_all()
    found = []
    for row in rows:
        done = min(max(row.filled_until, row.since), row.until)
        if done < row.until:
            found.append(Hole(row.connection_id, done, row.until))
        if row.lacking and done > row.since:
            found.append(Hole(row.connection_id, row.since, done, frozenset(row.lacking)))
    return found
