"""History: the readings of one tag out of the batches that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from sqlalchemy import or_, select

from app.db import reading
from app.pipelines.tables import PipelineVersionRow
from app.readings.tables import BatchRow
from app.records import decode_columns
from app.scoring.tables import PredictionRow
from app.sources.tables import ConnectionRow, TagRow, TagVersionRow
from connectors import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

LOOK_BACK: Final = 400
"""Batches of one connection that are searched for the newest reading of its tags."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one tag at one instant (ns)."""

    time: int
    value: object
    status: int


def history(engine: Engine, tag: int, start: int, end: int, limit: int) -> list[Reading]:
    """In the order of source time, start inclusive, end exclusive; ties in the order of arrival. At most `limit`."""
    with reading(engine) as session:
        row = session.get(TagRow, tag)
        if row is None:
            return []
        if row.connection_id is None:
            return _answers(session, row, start, end, limit)
        found: list[Reading] = []
        for batch in _batches(session, _connections(session, row), start, end):
            found += _of(batch, tag, start, end)
            if len(found) >= 4 * limit:
                break
    found.sort(key=lambda one: one.time)
    return found[:limit]


def _connections(session: Session, tag: TagRow) -> list[int]:
    """Every connection this tag ever had."""
    attributes = session.scalars(select(TagVersionRow.attributes).where(TagVersionRow.tag_id == tag.id)).all()
    names = {one.get("connection") for one in attributes if isinstance(one, dict)}
    ids = session.scalars(select(ConnectionRow.id).where(ConnectionRow.name.in_([n for n in names if n]))).all()
    return sorted({*ids, *([tag.connection_id] if tag.connection_id else [])})


def _batches(session: Session, connections: Sequence[int], start: int, end: int) -> Iterator[BatchRow]:
    """Batches that overlap the range, oldest first."""
    query = (
        select(BatchRow)
        .where(BatchRow.connection_id.in_(connections), BatchRow.last_time >= start, BatchRow.first_time < end)
        .order_by(BatchRow.last_time, BatchRow.epoch, BatchRow.number)
        .execution_options(yield_per=50)
    )
    for batch in session.scalars(query):
        yield batch
        session.expunge(batch)


def _of(batch: BatchRow, tag: int, start: int, end: int) -> list[Reading]:
    tags, times, values, others, status = decode_columns(batch.columns)
    times = np.where(times == NO_TIME, batch.received_time, times)
    rows = np.flatnonzero((tags == tag) & (times >= start) & (times < end)).tolist()
    return [Reading(int(times[r]), others.get(r, float(values[r])), int(status[r])) for r in rows]


def _answers(session: Session, tag: TagRow, start: int, end: int, limit: int) -> list[Reading]:
    """A pipeline's output is a tag too: its readings are the predictions."""
    specs = session.execute(select(PipelineVersionRow.id, PipelineVersionRow.spec)).all()
    output = {
        version: one["name"] for version, spec in specs for one in spec.get("outputs", ()) if one.get("tag") == tag.id
    }
    query = (
        select(PredictionRow.version_id, PredictionRow.end_time, PredictionRow.outputs, PredictionRow.status)
        .where(PredictionRow.version_id.in_(output), PredictionRow.end_time >= start, PredictionRow.end_time < end)
        .order_by(PredictionRow.end_time)
        .limit(limit)
    )
    return [
        Reading(row.end_time, (row.outputs or {}).get(output[row.version_id]), row.status)
        for row in session.execute(query)
    ]


def latest(engine: Engine, tags: Sequence[int]) -> dict[int, Reading]:
    """The newest reading of each of these tags, as far as the last few hundred batches of their connections tell."""
    with reading(engine) as session:
        query = select(TagRow.id, TagRow.connection_id).where(TagRow.id.in_(tags))
        homes: dict[int | None, set[int]] = {}
        for tag, connection in session.execute(query):
            homes.setdefault(connection, set()).add(tag)
        found: dict[int, Reading] = {}
        for tag in homes.pop(None, ()):
            newest = _newest_answer(session, tag)
            found |= {} if newest is None else {tag: newest}
        for connection, wanted in homes.items():
            found |= _newest(session, connection, wanted)
        return found


def _newest_answer(session: Session, tag: int) -> Reading | None:
    query = (
        select(PredictionRow.end_time)
        .join(PipelineVersionRow, PipelineVersionRow.id == PredictionRow.version_id)
        .where(or_(PipelineVersionRow.spec.contains(f'"tag":{tag},'), PipelineVersionRow.spec.contains(f'"tag":{tag}}}')))
        .order_by(PredictionRow.end_time.desc())
        .limit(1)
    )
    end = session.scalar(query)
    if end is None:
        return None
    found = _answers(session, session.get_one(TagRow, tag), end, end + 1, 1)
    return found[-1] if found else None


def _newest(session: Session, connection: int | None, wanted: set[int]) -> dict[int, Reading]:
    query = (
        select(BatchRow)
        .where(BatchRow.connection_id == connection)
        .order_by(BatchRow.last_time.desc())
        .limit(LOOK_BACK)
        .execution_options(yield_per=20)
    )
    found: dict[int, Reading] = {}
    for batch in session.scalars(query):
        tags, times, values, others, status = decode_columns(batch.columns)
        times = np.where(times == NO_TIME, batch.received_time, times)
        for tag in wanted - found.keys():
            rows = np.flatnonzero(tags == tag)
            if len(rows):
                row = int(rows[np.argmax(times[rows])])
                found[tag] = Reading(int(times[row]), others.get(row, float(values[row])), int(status[row]))
        session.expunge(batch)
        if len(found) == len(wanted):
            break
    return found
