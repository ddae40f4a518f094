"""History: the readings of one tag out of the batches that hold them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from sqlalchemy import Text, and_, exists, false, func, or_, select, type_coerce

from app.db import reading, table
from app.pipelines.tables import PipelineVersionRow
from app.readings.tables import WIDE_S, BatchRow
from app.records import decode_columns
from app.scoring.tables import PredictionRow
from app.sources.tables import ConnectionRow, TagRow, TagVersionRow
from app.times import NANOS
from connectors import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping

    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement, Engine, Row
    from sqlalchemy.orm import Session

LOOK_BACK: Final = 400
"""Batches of one connection that are searched for the newest reading of its tags."""
FETCH: Final = 50

Columns: TypeAlias = (
    "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Mapping[int, object], NDArray[np.uint32]]"
)
Rows: TypeAlias = "Generator[Row[*tuple[Any, ...]], None, None]"

_batches = table(BatchRow)
_predictions = table(PredictionRow)
_COLUMNS: Final = (
    _batches.c.first_time,
    _batches.c.last_time,
    _batches.c.received_time,
    _batches.c.epoch,
    _batches.c.number,
    _batches.c.columns,
    _batches.c.gap_id,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one tag at one instant (ns)."""

    time: int
    value: object
    status: int
    backfilled: bool = False
    """Read from the peer's history after a gap."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One batch of the history."""

    received_time: int
    backfilled: bool
    columns: Columns
    """tags, source_time, values, others, status: those of `connectors.Batch`."""


def history(engine: Engine, tag: int, start: int, end: int, limit: int) -> list[Reading]:
    """In the order of source time, start inclusive, end exclusive; ties in the order of arrival. At most `limit`.

    The same time, value and status twice is one reading, as when a history brings again what had arrived.
    """
    with reading(engine) as session:
        row = session.get(TagRow, tag)
        if row is None:
            return []
        if row.connection_id is None:
            return _answers(session, tag, start, end, limit)
        found = _Earliest(tag, start, end, limit)
        with closing(_narrow(session, _connections(session, row), start, end)) as batches:
            for batch in batches:
                if batch.last_time > found.end + WIDE_S * NANOS:
                    break
                found.take(batch)
        for batch in _wide(session, _connections(session, row), start, found.end):
            found.take(batch)
        return found.readings()


class _Earliest:
    """The earliest readings of one tag among those it is shown, no more than asked for."""

    def __init__(self, tag: int, start: int, end: int, limit: int) -> None:
        self._tag, self._start, self._limit = tag, start, limit
        self.end = end
        """ns: a reading at or after this is not among them."""
        self._found: list[tuple[tuple[int, int, int, int, int], Reading]] = []

    def take(self, batch: Row[*tuple[Any, ...]]) -> None:
        tags, times, values, others, status = decode_columns(batch.columns)
        times = np.where(times == NO_TIME, batch.received_time, times)
        for row in np.flatnonzero((tags == self._tag) & (times >= self._start) & (times < self.end)).tolist():
            at = int(times[row])
            order = (at, batch.received_time, batch.epoch, batch.number, row)
            value = others.get(row, float(values[row]))
            self._found.append((order, Reading(at, value, int(status[row]), batch.gap_id is not None)))
        if len(self._found) >= 2 * self._limit:
            self._cut()

    def readings(self) -> list[Reading]:
        self._cut()
        return [one for _, one in self._found]

    def _cut(self) -> None:
        self._found.sort(key=lambda one: one[0])
        self._found = [*_without_repeats(self._found)]
        if len(self._found) > self._limit:
            del self._found[self._limit :]
            self.end = self._found[-1][0][0] + 1


def _without_repeats(
    found: list[tuple[tuple[int, int, int, int, int], Reading]],
) -> Iterator[tuple[tuple[int, int, int, int, int], Reading]]:
    """Each reading as it arrived first; they are in order."""
    at, seen = -1, set[tuple[str, int]]()
    for order, one in found:
        if one.time != at:
            at, seen = one.time, set()
        key = (repr(one.value), one.status)
        if key not in seen:
            seen.add(key)
            yield order, one


def between(engine: Engine, connections: Collection[int], start: int, end: int) -> Iterator[Stored]:
    """Batches that have readings of a span, and others beside them; times in ns, start inclusive, end exclusive."""
    with reading(engine) as session:
        for rows in (_narrow(session, connections, start, end), _wide(session, connections, start, end)):
            with closing(rows) as batches:
                for batch in batches:
                    yield _stored(batch)


def before(engine: Engine, connection: int, at: int, most: int = LOOK_BACK) -> Iterator[Stored]:
    """Batches with readings at or before a time (ns), the newest first; no more than so many."""
    mine = (_batches.c.connection_id == connection) & (_batches.c.first_time <= at)
    mine &= _batches.c.last_time <= at + WIDE_S * NANOS
    query = select(*_COLUMNS).where(mine).order_by(_batches.c.last_time.desc()).limit(most)
    with reading(engine) as session, session.execute(query, execution_options={"yield_per": FETCH}) as result:
        for batch in result:
            yield _stored(batch)


def _stored(batch: Row[*tuple[Any, ...]]) -> Stored:
    return Stored(batch.received_time, batch.gap_id is not None, decode_columns(batch.columns))


def _connections(session: Session, tag: TagRow) -> list[int]:
    """Every connection this tag ever had."""
    attributes = session.scalars(select(TagVersionRow.attributes).where(TagVersionRow.tag_id == tag.id)).all()
    names = {one.get("connection") for one in attributes if isinstance(one, dict)}
    ids = session.scalars(select(ConnectionRow.id).where(ConnectionRow.name.in_([n for n in names if n]))).all()
    return sorted({*ids, *([tag.connection_id] if tag.connection_id else [])})


def _narrow(session: Session, connections: Collection[int], start: int, end: int) -> Rows:
    """Batches that may reach into the range and span at most a minute, by their last time."""
    last = _batches.c.last_time
    yield from _read(session, connections, ~_batches.c.wide & (last >= start) & (last < end + WIDE_S * NANOS))


def _wide(session: Session, connections: Collection[int], start: int, end: int) -> Rows:
    """Batches that reach into the range and span more than a minute: few, unless a peer's clocks disagree."""
    inside = (_batches.c.last_time >= start) & (_batches.c.first_time < end)
    yield from _read(session, connections, _batches.c.wide & inside)


def _read(
    session: Session, connections: Collection[int], which: ColumnElement[bool]
) -> Rows:
    mine = and_(_batches.c.connection_id.in_(connections), which)
    query = select(*_COLUMNS).where(mine).order_by(_batches.c.last_time)
    # Closed, because a cursor of the server would outlive a search that ends early.
    with session.execute(query, execution_options={"yield_per": FETCH}) as result:
        yield from result


def _outputs(session: Session, tags: Collection[int]) -> dict[int, dict[int, str]]:
    """Per tag that is a pipeline's output: version id to the output's name."""
    spec = PipelineVersionRow.spec
    # The text of the JSON narrows the search; an input may carry the same number, so the JSON itself decides.
    named = [type_coerce(spec, Text).contains(f'"tag":{tag}{after}') for tag in tags for after in ",}"]
    found: dict[int, dict[int, str]] = {}
    for version, one in session.execute(select(PipelineVersionRow.id, spec).where(or_(false(), *named))):
        for output in one.get("outputs", ()):
            if output.get("tag") in tags:
                found.setdefault(output["tag"], {})[version] = output["name"]
    return found


def _answers(session: Session, tag: int, start: int, end: int, limit: int) -> list[Reading]:
    """A pipeline's output is a tag too: its readings are the predictions."""
    output = _outputs(session, {tag}).get(tag, {})
    at = _predictions.c.end_time
    columns = (_predictions.c.version_id, at, _predictions.c.outputs, _predictions.c.status)
    mine = _predictions.c.version_id.in_(output) & (at >= start) & (at < end) & ~_revised()
    query = select(*columns).where(mine).order_by(at, _predictions.c.sequence).limit(limit)
    return [_answer(row, output) for row in session.execute(query)]


def _revised() -> ColumnElement[bool]:
    """Whether a prediction's window was computed again."""
    later = _predictions.alias()
    same = (later.c.version_id == _predictions.c.version_id) & (later.c.end_time == _predictions.c.end_time)
    return exists().where(same, later.c.revision > _predictions.c.revision)


def _answer(row: Row[*tuple[Any, ...]], output: dict[int, str]) -> Reading:
    return Reading(row.end_time, (row.outputs or {}).get(output[row.version_id]), row.status)


def latest(engine: Engine, tags: Collection[int]) -> dict[int, Reading]:
    """The newest reading of each of these tags, as far as the last few hundred batches of their connections tell."""
    found: dict[int, Reading] = {}
    homes: dict[int | None, set[int]] = {}
    with reading(engine) as session:
        query = select(TagRow.id, TagRow.connection_id).where(TagRow.id.in_(tags))
        for tag, connection in session.execute(query):
            homes.setdefault(connection, set()).add(tag)
        for tag, output in _outputs(session, homes.pop(None, set())).items():
            newest = _newest_answer(session, output)
            found |= {} if newest is None else {tag: newest}
        for connection, wanted in homes.items():
            found |= _newest(session, connection, wanted)
    return found


def _newest_answer(session: Session, output: dict[int, str]) -> Reading | None:
    at = _predictions.c.end_time
    columns = (_predictions.c.version_id, at, _predictions.c.outputs, _predictions.c.status)
    mine = _predictions.c.version_id.in_(output)
    query = select(*columns).where(mine).order_by(at.desc(), _predictions.c.revision.desc()).limit(1)
    row = session.execute(query).one_or_none()
    return None if row is None else _answer(row, output)


def _newest(session: Session, connection: int | None, wanted: set[int]) -> dict[int, Reading]:
    last = _batches.c.last_time.desc()
    query = select(*_COLUMNS).where(_batches.c.connection_id == connection).order_by(last).limit(LOOK_BACK)
    found: dict[int, Reading] = {}
    with session.execute(query, execution_options={"yield_per": FETCH}) as result:
        for batch in result:
            if all(tag in found and found[tag].time > batch.last_time for tag in wanted):
                break
            _take_newest(found, batch, wanted)
    return found


def _take_newest(found: dict[int, Reading], batch: Row[*tuple[Any, ...]], wanted: set[int]) -> None:
    tags, times, values, others, status = decode_columns(batch.columns)
    times = np.where(times == NO_TIME, batch.received_time, times)
    for row in _last_rows(tags, times, wanted):
        tag, at = int(tags[row]), int(times[row])
        if tag not in found or at > found[tag].time:
            found[tag] = Reading(at, others.get(row, float(values[row])), int(status[row]))


def _last_rows(tags: np.ndarray[Any, Any], times: np.ndarray[Any, Any], wanted: set[int]) -> list[int]:
    """Per tag that is wanted the row of its newest reading, the later arrival of two at the same time."""
    rows = np.flatnonzero(np.isin(tags, np.fromiter(wanted, dtype=np.int64)))
    rows = rows[np.lexsort((rows, times[rows], tags[rows]))]
    if not len(rows):
        return []
    ends = np.append(np.diff(tags[rows]) != 0, np.True_)
    found: list[int] = rows[ends].tolist()
    return found


def counts(engine: Engine) -> dict[int, int]:
    """Readings in the history per connection id, counted batch by batch."""
    query = select(_batches.c.connection_id, func.sum(_batches.c.count)).group_by(_batches.c.connection_id)
    with reading(engine) as session:
        return {connection: int(stored) for connection, stored in session.execute(query)}
