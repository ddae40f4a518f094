"""Reads points of a thinned past, and says where they stand in the place of readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import func, select

from app import chunks
from app.db import snapshot, table
from app.history.tables import HistoryClassRow, ThinnedRow
from app.points import Points, combined
from app.sources.tables import TagRow
from app.times import LAST
from app.trends import Facts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy import ColumnElement, Engine
    from sqlalchemy.orm import Session

FETCH: Final = 20
_thinned, _classes, _tags = table(ThinnedRow), table(HistoryClassRow), table(TagRow)


@dataclass(frozen=True, slots=True)
class Class:
    """How the readings of some tags are kept."""

    name: str
    keep_days: float | None
    priority: int
    steps: tuple[tuple[float, int], ...]
    """What is older than so many days becomes one point for so many seconds."""
    tags: int = 0
    """How many have it now."""


@dataclass(frozen=True, slots=True)
class Thinned:
    """Points of one length of interval in a span, in the place of readings."""

    start: int
    end: int
    """ns: no point lies before `start` or reaches beyond `end`."""
    step_ns: int
    readings: int
    """Of which the blocks that reach into the span were made."""


def classes(session: Session) -> list[Class]:
    """Every class that a tag may have, by name; retired ones too."""
    c = _classes.c
    mine = (_tags.c.history == c.name) & _tags.c.retired_at.is_(None) & _tags.c.connection_id.is_not(None)
    count = select(func.count()).select_from(_tags).where(mine).scalar_subquery()
    found = session.execute(select(c.name, c.keep_days, c.priority, c.thin, count).order_by(c.name))
    return [
        Class(name, keep, priority, tuple((float(days), int(every)) for days, every in thin), tags)
        for name, keep, priority, thin, tags in found
    ]


def every_class(engine: Engine) -> list[Class]:
    """The same in a transaction of its own."""
    with snapshot(engine) as session:
        return classes(session)


def spans(engine: Engine, tag: int, start: int, end: int) -> list[Thinned]:
    """Where points stand in the place of readings of a tag in a span (ns), a row for each length of interval."""
    c = _thinned.c
    columns = c.step_ns, func.min(c.first_time), func.max(c.last_time), func.sum(c.readings)
    query = select(*columns).where(c.tag_id == tag, _reaching(start, end)).group_by(c.step_ns).order_by(c.step_ns)
    with snapshot(engine) as session:
        return [
            Thinned(max(start, first), min(end, last + step), step, int(readings))
            for step, first, last, readings in session.execute(query)
        ]


def _reaching(start: int, end: int) -> ColumnElement[bool]:
    """Blocks whose intervals reach into a span."""
    return (_thinned.c.last_time + _thinned.c.step_ns > start) & (_thinned.c.first_time < end)


def facts_of_tag(session: Session, tag: int, start: int, end: int) -> list[Facts]:
    """What is known of blocks with points that begin in a span, without reading them."""
    c = _thinned.c
    columns = c.id, c.first_time, c.last_time, c.usable, c.minimum, c.maximum, c.mean
    query = select(*columns).where(c.tag_id == tag, c.last_time >= start, c.first_time < end)
    return [Facts(*row) for row in session.execute(query)]


def of_ids(session: Session, ids: Sequence[int]) -> Iterator[Points]:
    """The points of these blocks, in any order. ChunkError."""
    for at in range(0, len(ids), FETCH):
        query = select(_thinned.c.block).where(_thinned.c.id.in_(ids[at : at + FETCH]))
        yield from (chunks.decode_points(bytes(block)) for block in session.scalars(query))


def pages(engine: Engine, tag: int, start: int, end: int) -> Iterator[tuple[int, Points]]:
    """Length of interval (ns) and points that begin in a span (ns), a length after the other, each in order of time.

    Points of one interval are one, wherever they lie. ChunkError.
    """
    with snapshot(engine) as session:
        for step in _steps(session, tag, start, end):
            for part in _in_order(session, tag, step, start, end):
                if len(found := part.between(start, end)):
                    yield step, found


def earliest(engine: Engine, tag: int, start: int, end: int, limit: int) -> list[tuple[int, Points]]:
    """What `pages` answers, of each length no more than about so many."""
    found: list[tuple[int, Points]] = []
    with snapshot(engine) as session:
        for step in _steps(session, tag, start, end):
            count = 0
            for part in _in_order(session, tag, step, start, end):
                some = part.between(start, end)
                found.append((step, some.picked(slice(limit - count))))
                count += len(some)
                if count >= limit:
                    break
    return found


def _steps(session: Session, tag: int, start: int, end: int) -> list[int]:
    c = _thinned.c
    mine = (c.tag_id == tag) & (c.last_time >= start) & (c.first_time < end)
    return list(session.scalars(select(c.step_ns).where(mine).distinct().order_by(c.step_ns)))


def _in_order(session: Session, tag: int, step: int, start: int, end: int) -> Iterator[Points]:
    """Blocks of one tag and length; what may still become more with the next block waits for it."""
    c = _thinned.c
    mine = (c.tag_id == tag) & (c.step_ns == step) & (c.last_time >= start) & (c.first_time < end)
    ids = session.scalars(select(c.id).where(mine).order_by(c.first_time, c.id)).all()
    held = combined((), step)
    for at in range(0, len(ids), FETCH):
        some = ids[at : at + FETCH]
        blocks = dict(session.execute(select(c.id, c.block).where(c.id.in_(some))).all())
        for key in some:
            found = chunks.decode_points(bytes(blocks[key]))
            done = int(held.time.searchsorted(found.time[0])) if len(found) else 0
            if done:
                yield held.picked(slice(done))
            held = combined((held.picked(slice(done, None)), found), step)
    yield held


def ends_of(session: Session, tags: Collection[int], before: int) -> dict[int, int]:
    """Per tag that has points which begin before a time (ns), where the last of those blocks ends (ns)."""
    c, found = _thinned.c, {}
    for tag in sorted(tags):
        last = session.scalar(select(func.max(c.last_time + c.step_ns)).where(c.tag_id == tag, c.first_time < before))
        if last is not None:
            found[tag] = min(int(last), LAST)
    return found


def begun(session: Session, tag: int, times: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of these times (ns) lie in the interval of a point of a tag. ChunkError."""
    asked = np.array(times, dtype=np.int64)
    found = np.zeros(len(asked), dtype=np.bool_)
    if not len(asked):
        return found
    c = _thinned.c
    mine = (c.tag_id == tag) & _reaching(int(asked.min()), int(asked.max()) + 1)
    for key, step in session.execute(select(c.id, c.step_ns).where(mine).order_by(c.id)).all():
        for points in of_ids(session, [key]):
            found |= np.isin(asked // step * step, points.time)
    return found
