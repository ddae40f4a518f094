"""Puts classes of tags in force, and points in the place of readings that are older than their class keeps them.

Each step is one transaction, or nothing: points in, readings out, and the count of what became points.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sqlalchemy import delete, func, select, update

from app import chunks, points, times
from app.backfill.service import OPEN
from app.backfill.tables import RecomputeRow
from app.chunks import ChunkError
from app.compacting import Kind, pieces, rows_of
from app.db import add_to, insert_all, snapshot, table, writing
from app.history.queries import ARRIVAL, CHUNK, read_chunks
from app.history.service import CompactedElsewhereError, replace
from app.history.tables import ChunkRow, HistoryClassRow, ThinnedRow
from app.ledger.tables import GapRow
from app.log import HISTORY_DAMAGED, get_logger
from app.pipelines import service as pipelines
from app.points import combined, of_readings
from app.recomputing import begins
from app.retention.tables import RemovalRow
from app.series import joined, without_repeats
from app.sources.tables import ConnectionRow, TagRow
from app.thinning.queries import classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement, Engine, Select
    from sqlalchemy.orm import Session

    from app.history.queries import Found
    from app.plant.schemas import HistoryClass
    from app.points import Points
    from app.series import Series

log = get_logger(__name__)

THINNED: Final = "thinned"
"""The kind under which it is counted how many readings became points, by connection."""
TOGETHER: Final = 16
"""Chunks of one tag that become points in one transaction: some 250,000 readings, 10 MB in columns."""
UNFULL: Final = 4
"""Blocks of points that are not full and are written again with new ones."""
MOST_TAGS: Final = 500
DAY_NS: Final = 86_400 * times.NANOS
_chunks, _thinned, _tags = table(ChunkRow), table(ThinnedRow), table(TagRow)
_gaps, _works = table(GapRow), table(RecomputeRow)


def put_in_force(
    session: Session, wanted: Iterable[HistoryClass], now: int
) -> Iterator[tuple[str, str, str]]:
    """Make the classes those that are wanted; name, what was done (added, changed, removed) and old → new of each.

    One that is no longer wanted stays for tags that had it when they were retired.
    """
    rows = {row.name: row for row in session.scalars(select(HistoryClassRow))}
    for one in wanted:
        row = rows.pop(one.name, None)
        before = None if row is None or row.retired_at is not None else (row.keep_days, row.priority, row.thin)
        after = (one.keep_days, one.priority, [[step.after_days, step.every_s] for step in one.thin])
        if before == after:
            continue
        if row is None:
            row = HistoryClassRow(name=one.name)
            session.add(row)
        row.keep_days, row.priority, row.thin = after
        row.retired_at = None
        yield one.name, "added" if before is None else "changed", _difference(before, after)
    for name, row in rows.items():
        if row.retired_at is None:
            row.retired_at = now
            yield name, "removed", ""


def _difference(before: tuple[object, ...] | None, after: tuple[object, ...]) -> str:
    names = ("keep_days", "priority", "thin")
    if before is None:
        return ", ".join(f"{name}: {new}" for name, new in zip(names, after, strict=True))
    changed = zip(names, before, after, strict=True)
    return ", ".join(f"{name}: {old} → {new}" for name, old, new in changed if old != new)


@dataclass(frozen=True, slots=True)
class Due:
    """Readings or points of one tag that came through one connection, and are to become points."""

    tag: int
    connection: int
    step_ns: int
    before: int
    """ns: what ends before."""
    of_points: bool


def due(engine: Engine, now: int) -> list[Due]:
    """What is old enough now (ns) and not needed as it is; no more than so many tags of a class, step and connection.

    The chunk with the newest reading of a tag stays: it is the value in force.
    """
    found: list[Due] = []
    with snapshot(engine) as session:
        needed = _needed(session)
        for one in classes(session):
            for at, (days, every) in enumerate(one.steps):
                for connection, since in needed.items():
                    before = min(now - round(days * DAY_NS), since)
                    step = every * times.NANOS
                    found += _of_points(session, one.name, connection, step, before)
                    if at == 0:
                        found += _of_readings(session, one.name, connection, step, before)
    return found


def _of_readings(session: Session, name: str, connection: int, step: int, before: int) -> Iterator[Due]:
    for tag in session.scalars(_tags_with(_chunks.c.tag_id, name, _readings(connection, before))):
        yield Due(tag, connection, step, before, of_points=False)


def _tags_with(of: ColumnElement[int], name: str, which: Sequence[ColumnElement[bool]]) -> Select[int]:
    """Tags of a class that have such blocks; asked tag by tag, since there may be many older ones of others."""
    there = select(of).where(of == _tags.c.id, *which).correlate(_tags).exists()
    return select(_tags.c.id).where(_tags.c.history == name, there).order_by(_tags.c.id).limit(MOST_TAGS)


def _readings(connection: int, before: int) -> tuple[ColumnElement[bool], ...]:
    """Chunks that can become points."""
    younger = _chunks.alias()
    newest = select(func.max(younger.c.last_time)).where(younger.c.tag_id == _chunks.c.tag_id).scalar_subquery()
    c = _chunks.c
    # A connection has many chunks and few tags: the index that serves is that of the tag.
    return c.connection_id + 0 == connection, c.last_time < before, ~c.unthinnable, c.last_time < newest


def _of_points(session: Session, name: str, connection: int, step: int, before: int) -> Iterator[Due]:
    for tag in session.scalars(_tags_with(_thinned.c.tag_id, name, _finer(connection, step, before))):
        yield Due(tag, connection, step, before, of_points=True)


def _finer(connection: int, step: int, before: int) -> tuple[ColumnElement[bool], ...]:
    """Blocks of points that can become coarser ones; intervals that do not fit into the new ones stay as they are."""
    c = _thinned.c
    return c.connection_id + 0 == connection, c.last_time <= before - step, c.step_ns < step, step % c.step_ns == 0


def _needed(session: Session) -> dict[int, int]:
    """Connection to the time (ns) since when its readings are needed as they came.

    By windows to be computed again, and by a gap that is not filled, whose readings are held against those there.
    """
    usable, _ = pipelines.in_force(session)
    works = session.execute(select(_works.c.version_id, _works.c.done_until).where(_works.c.done_at.is_(None))).all()
    versions = pipelines.of_session(session, {work.version_id for work in works})
    again = [begins(versions[one].windows, done + 1) for one, done in works if one in versions]
    all_of_them = min(again, default=times.LAST)
    since = dict.fromkeys(session.scalars(select(ConnectionRow.id).order_by(ConnectionRow.id)), all_of_them)
    open_gaps = (
        select(_gaps.c.connection_id, func.min(_gaps.c.since))
        .join(table(ConnectionRow), table(ConnectionRow).c.id == _gaps.c.connection_id)
        .where(_gaps.c.state == OPEN, table(ConnectionRow).c.retired_at.is_(None))
        .group_by(_gaps.c.connection_id)
    )
    for connection, gap in session.execute(open_gaps):
        specs = [one.windows for one in usable.values() if any(i.connection == connection for i in one.windows.inputs)]
        since[connection] = min(since[connection], gap, *(begins(spec, gap) for spec in specs))
    return since


def run(engine: Engine, now: int, until: float) -> tuple[int, bool]:
    """Thin what is due, up to `until` of the monotonic clock; how many readings became points, and whether more may be.

    Raises `CompactedElsewhereError`: what was done before is done.
    """
    readings, went_on = 0, True
    while went_on and (waiting := due(engine, now)):
        went_on = False
        for one in waiting:
            while (step := thin(engine, one)).blocks:
                readings, went_on = readings + step.readings, True
                if time.monotonic() >= until:
                    return readings, True
    return readings, False


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction did."""

    blocks: int = 0
    """That it looked at; 0 when there was nothing left."""
    readings: int = 0
    """That became points."""


def thin(engine: Engine, one: Due) -> Step:
    """The oldest chunks, or finer points, of what is due. Raises `CompactedElsewhereError`, and did nothing then."""
    return _thin_points(engine, one) if one.of_points else _thin_readings(engine, one)


def _thin_readings(engine: Engine, one: Due) -> Step:
    with snapshot(engine) as session:
        mine = (_chunks.c.tag_id == one.tag, *_readings(one.connection, one.before))
        ids = session.scalars(select(_chunks.c.id).where(*mine).order_by(_chunks.c.last_time).limit(TOGETHER)).all()
        found = _readable(session, one, ids)
        old = _unfull(session, one)
    series, _ = without_repeats(joined([series for _, series in found]))
    numbers = _numbers(series)
    if not numbers.any():
        _leave(engine, ids)
        return Step(len(ids))
    made = combined([of_readings(series.picked(np.flatnonzero(numbers)))], one.step_ns)
    received = max(chunk.received_time for chunk, _ in found)
    left = pieces(Kind(one.tag, one.connection), series.picked(np.flatnonzero(~numbers)), received, 0)
    axes, rows = rows_of(left)
    count = sum(chunk.readings for chunk, _ in found) - sum(row["readings"] for row in rows)
    with writing(engine) as session:
        replace(session, [(chunk.id, chunk.axis) for chunk, _ in found], axes, rows)
        # Those left over, and those that cannot be read.
        session.execute(update(_chunks).where(*mine, _chunks.c.id.in_(ids)).values(unthinnable=True))
        _put(session, one, old, made)
        add_to(session, RemovalRow, {"kind": THINNED, "whose": str(one.connection)}, {"rows": count})
    return Step(len(ids), count)


def _readable(session: Session, one: Due, ids: Sequence[int]) -> list[tuple[Found, Series]]:
    """Chunks, in order of arrival; one that cannot be read stays as it is."""
    found: list[tuple[Found, Series]] = []
    for key in session.scalars(select(_chunks.c.id).where(_chunks.c.id.in_(ids)).order_by(*ARRIVAL)).all():
        query = select(*CHUNK).where(_chunks.c.id == key)
        try:
            found += [(chunk, chunk.series()) for chunk in read_chunks(session, query)]
        except ChunkError as error:
            log.warning(HISTORY_DAMAGED, tag=one.tag, chunk=key, reason=str(error))
    return found


def _numbers(series: Series) -> NDArray[np.bool_]:
    """Rows that can become points: numbers, and readings without a value. Texts and the like have no mean."""
    numbers = np.ones(len(series), dtype=np.bool_)
    numbers[[row for row, value in series.others.items() if value is not None]] = False
    return numbers


def _leave(engine: Engine, ids: Sequence[int]) -> None:
    """There is nothing in these chunks that could become points."""
    with writing(engine) as session:
        session.execute(update(_chunks).where(_chunks.c.id.in_(ids)).values(unthinnable=True))


def _thin_points(engine: Engine, one: Due) -> Step:
    with snapshot(engine) as session:
        mine = (_thinned.c.tag_id == one.tag, *_finer(one.connection, one.step_ns, one.before))
        ids = session.scalars(select(_thinned.c.id).where(*mine).order_by(_thinned.c.last_time).limit(TOGETHER)).all()
        found = _decoded(session, one, ids)
        old = _unfull(session, one)
    if not found:
        return Step()
    with writing(engine) as session:
        _take_out(session, list(found))
        _put(session, one, old, combined(list(found.values()), one.step_ns))
    return Step(len(found))


def _unfull(session: Session, one: Due) -> dict[int, Points]:
    """Blocks of the same length of interval that are not full, by id, the youngest."""
    c = _thinned.c
    mine = (c.tag_id == one.tag) & (c.connection_id == one.connection) & (c.step_ns == one.step_ns)
    query = select(c.id).where(mine, c.points < points.MOST // 2).order_by(c.last_time.desc()).limit(UNFULL)
    return _decoded(session, one, session.scalars(query).all())


def _decoded(session: Session, one: Due, ids: Sequence[int]) -> dict[int, Points]:
    """Points by the id of their block; one that cannot be read stays as it is."""
    found = {}
    for key, block in session.execute(select(_thinned.c.id, _thinned.c.block).where(_thinned.c.id.in_(ids))).all():
        try:
            found[key] = chunks.decode_points(bytes(block))
        except ChunkError as error:
            log.warning(HISTORY_DAMAGED, tag=one.tag, points=key, reason=str(error))
    return found


def _put(session: Session, one: Due, old: dict[int, Points], new: Points) -> None:
    """New points, and those of blocks that were not full, in as few blocks as may be."""
    _take_out(session, list(old))
    whole = combined([*old.values(), new], one.step_ns)
    insert_all(session, ThinnedRow, [_row(one, part) for part in points.pieces(whole)])


def _take_out(session: Session, ids: Sequence[int]) -> None:
    gone = session.connection().execute(delete(_thinned).where(_thinned.c.id.in_(ids))).rowcount if ids else 0
    if gone != len(ids):
        raise CompactedElsewhereError


def _row(one: Due, part: Points) -> dict[str, Any]:
    usable, minimum, maximum, mean = part.summed_up()
    return {
        "tag_id": one.tag, "connection_id": one.connection, "step_ns": one.step_ns,
        "first_time": int(part.time[0]), "last_time": int(part.time[-1]), "points": len(part),
        "readings": int(part.readings.sum()), "usable": usable, "minimum": minimum, "maximum": maximum, "mean": mean,
        "block": chunks.encode_points(part),
    }  # fmt: skip
