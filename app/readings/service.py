"""History: the readings of one tag out of the chunks and batches that hold them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from sqlalchemy import and_, func, select

from app import trends
from app.db import reading, snapshot, table
from app.history import queries as compacted
from app.readings.queries import answers, newest_answer, outputs
from app.readings.schemas import Reading, Stored, Trend
from app.readings.tables import WIDE_S, BatchRow
from app.records import decode_columns
from app.series import Series, joined, without_repeats
from app.sources.tables import ConnectionRow, TagRow, TagVersionRow
from app.thinning import queries as thinned
from app.times import LAST, NANOS
from connectors import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement, Engine, Row
    from sqlalchemy.orm import Session

    from app.history.queries import Found

LOOK_BACK: Final = 400
"""Batches of one connection that are searched for the newest reading of its tags."""
FETCH: Final = 50
EVERYTHING: Final = 1 << 62

Rows: TypeAlias = "Generator[Row[*tuple[Any, ...]], None, None]"
Order: TypeAlias = tuple[int, int, int, int]
"""Of parts with readings of one time: the one that arrived first is smaller."""

_batches = table(BatchRow)
_COLUMNS: Final = (
    _batches.c.first_time,
    _batches.c.last_time,
    _batches.c.received_time,
    _batches.c.epoch,
    _batches.c.number,
    _batches.c.columns,
    _batches.c.gap_id,
)


def history(engine: Engine, tag: int, start: int, end: int, limit: int) -> list[Reading]:
    """In the order of source time, start inclusive, end exclusive; ties in the order of arrival. At most `limit`.

    The same time, value and status twice is one reading, as when a history brings again what had arrived.
    """
    with snapshot(engine) as session:
        row = session.get(TagRow, tag)
        if row is None:
            return []
        if row.connection_id is None:
            return answers(session, tag, start, end, limit)
        found = _series(session, row, start, end, limit)
    return [
        Reading(time, found.value(at), status, backfilled)
        for at, (time, status, backfilled) in enumerate(
            zip(found.time.tolist(), found.status.tolist(), found.backfilled.tolist(), strict=True)
        )
    ]


def series(engine: Engine, tag: int, start: int, end: int) -> Series:
    """What `history` answers, in columns and without a limit: some 20 bytes a reading."""
    return _limited(engine, tag, start, end, EVERYTHING)


def _limited(engine: Engine, tag: int, start: int, end: int, limit: int) -> Series:
    with snapshot(engine) as session:
        row = session.get(TagRow, tag)
        if row is None:
            return joined(())
        if row.connection_id is None:
            return _as_series(answers(session, tag, start, end, limit))
        return _series(session, row, start, end, limit)


def pages(engine: Engine, tag: int, start: int, end: int, most: int = 100_000) -> Iterator[Series]:
    """What `series` answers, in parts of about so many readings; a part ends between two times, never within one."""
    limit = most
    while start < end:
        found = _limited(engine, tag, start, end, limit)
        whole = len(found) < limit
        # Of the last time there may be more.
        upto = len(found) if whole else int(found.time.searchsorted(found.time[-1]))
        if upto:
            yield found.picked(np.arange(upto))
        if whole:
            return
        limit = most if upto else 2 * limit
        start = int(found.time[-1])


def trend(engine: Engine, tag: int, start: int, end: int, points: int) -> Trend:
    """Least, greatest and mean of each of so many equal parts of a span (ns), start inclusive, end exclusive.

    Where points stand in the place of readings, each counts where its interval begins.
    """
    buckets = trends.Buckets(start, end, points)
    with snapshot(engine) as session:
        row = session.get(TagRow, tag)
        if row is not None and row.connection_id is None:
            buckets.add(_as_series(answers(session, tag, start, end, EVERYTHING)))
        elif row is not None:
            whole, cut = buckets.split(compacted.facts_of_tag(session, tag, start, end))
            buckets.add_whole(whole)
            for one in compacted.of_ids(session, cut):
                buckets.add(one.series().between(start, end))
            whole, cut = buckets.split(thinned.facts_of_tag(session, tag, start, end))
            buckets.add_whole(whole)
            for some in thinned.of_ids(session, cut):
                buckets.add_points(some.between(start, end))
            for batch in _reaching(session, _connections(session, row), start, end):
                buckets.add(joined([_part(batch, tag, start, end)]))
    return buckets.trend()


def _as_series(found: list[Reading]) -> Series:
    numbers = [one.value if isinstance(one.value, (int, float)) else np.nan for one in found]
    others = {at: one.value for at, one in enumerate(found) if not isinstance(one.value, (int, float))}
    return Series(
        np.array([one.time for one in found], dtype=np.int64),
        np.array(numbers, dtype=np.float64),
        others,
        np.array([one.status for one in found], dtype=np.uint32),
        np.zeros(len(found), dtype=np.bool_),
        np.zeros(len(found), dtype=np.bool_),
    )


def _series(session: Session, row: TagRow, start: int, end: int, limit: int) -> Series:
    found = _Earliest(start, end, limit)
    for one in compacted.of_tag(session, row.id, start, end):
        if one.first_time >= found.end:
            break
        found.take((one.received_time, 0, one.id, 0), one.series().between(start, found.end))
    connections = _connections(session, row)
    with closing(_narrow(session, connections, start, found.end)) as batches:
        for batch in batches:
            if batch.last_time > found.end + WIDE_S * NANOS:
                break
            found.take(_order(batch), _part(batch, row.id, start, found.end))
    for batch in _wide(session, connections, start, found.end):
        found.take(_order(batch), _part(batch, row.id, start, found.end))
    return found.series()


def _order(batch: Row[*tuple[Any, ...]]) -> Order:
    return batch.received_time, 1, batch.epoch, batch.number


def _part(batch: Row[*tuple[Any, ...]], tag: int, start: int, end: int) -> Series:
    """The readings of one tag and span in a batch, in the order of the batch."""
    tags, times, values, others, status = decode_columns(batch.columns)
    untimed = times == NO_TIME
    times = np.where(untimed, batch.received_time, times)
    rows = np.flatnonzero((tags == tag) & (times >= start) & (times < end))
    whole = Series(times, values, others, status, np.full(len(tags), batch.gap_id is not None), untimed)
    return whole.picked(rows)


class _Earliest:
    """The earliest readings among those it is shown, no more than asked for."""

    def __init__(self, start: int, end: int, limit: int) -> None:
        self._limit = limit
        self.end = max(start, end)
        """ns: a reading at or after this is not among them."""
        self._orders: list[Order] = []
        self._parts: list[tuple[Series, NDArray[np.int64]]] = []
        """Each with the place of every row's order in the list of orders."""
        self._count = 0

    def take(self, order: Order, part: Series) -> None:
        """Readings that arrived together."""
        self._parts.append((part, np.broadcast_to(np.int64(len(self._orders)), len(part))))
        self._orders.append(order)
        self._count += len(part)
        if self._count >= 2 * self._limit:
            self._cut()

    def series(self) -> Series:
        """In order, without repeats."""
        self._cut()
        return self._parts[0][0] if self._parts else joined(())

    def _cut(self) -> None:
        if not self._parts:
            return
        whole = joined([part for part, _ in self._parts], in_time=False)
        places = [places for _, places in self._parts]
        if not (whole.time[1:] > whole.time[:-1]).all():
            all_places = np.concatenate(places)
            order = np.lexsort((self._ranks()[all_places], whole.time))
            whole, kept = without_repeats(whole.picked(order))
            places = [all_places[order][kept]]
        if len(whole) > self._limit:
            rows = np.arange(self._limit)
            whole, places = whole.picked(rows), [np.concatenate(places)[rows]]
            self.end = int(whole.time[-1]) + 1
        self._parts = [(whole, places[0] if len(places) == 1 else np.concatenate(places))]
        self._count = len(whole)

    def _ranks(self) -> NDArray[np.int64]:
        """By place in the list of orders, how many are smaller."""
        ranks = np.empty(len(self._orders), dtype=np.int64)
        ranks[sorted(range(len(self._orders)), key=self._orders.__getitem__)] = np.arange(len(self._orders))
        return ranks


def between(
    engine: Engine, connections: Collection[int], start: int, end: int, tags: Collection[int] | None = None
) -> Iterator[Stored]:
    """What has readings of a span, and others beside them; times in ns, start inclusive, end exclusive.

    `tags`: those that are wanted; others may come beside them.
    """
    with snapshot(engine) as session:
        for one in compacted.of_connections(session, connections, start, end, tags):
            yield from _of_chunk(one)
        for batch in _reaching(session, connections, start, end):
            yield _stored(batch)


def everything(engine: Engine, connection: int | None = None) -> Iterator[Stored]:
    """All that is stored, of one connection or of all, each reading as often as it is stored."""
    mine = () if connection is None else (_batches.c.connection_id == connection,)
    with snapshot(engine) as session:
        for one in compacted.every(session, connection):
            yield from _of_chunk(one)
        query = select(*_COLUMNS).where(*mine)
        with session.execute(query, execution_options={"yield_per": FETCH}) as result:
            for batch in result:
                yield _stored(batch)


def before(engine: Engine, connection: int, at: int, most: int = LOOK_BACK) -> Iterator[Stored]:
    """Batches with readings at or before a time (ns), the newest first; no more than so many.

    What has been compacted is not among them: ask `newest_chunks` afterwards, never before.
    """
    mine = (_batches.c.connection_id == connection) & (_batches.c.first_time <= at)
    mine &= _batches.c.last_time <= min(at + WIDE_S * NANOS, LAST)
    query = select(*_COLUMNS).where(mine).order_by(_batches.c.last_time.desc()).limit(most)
    with reading(engine) as session, session.execute(query, execution_options={"yield_per": FETCH}) as result:
        for batch in result:
            yield _stored(batch)


def newest_chunks(engine: Engine, tags: Collection[int], at: int) -> Iterator[Stored]:
    """Per tag the chunks that may hold its newest reading at or before a time (ns), and others beside it."""
    with snapshot(engine) as session:
        for one in compacted.newest_of(session, tags, at):
            yield from _of_chunk(one)


def _stored(batch: Row[*tuple[Any, ...]]) -> Stored:
    columns = decode_columns(batch.columns)
    time = np.where(columns[1] == NO_TIME, batch.received_time, columns[1])
    return Stored(batch.received_time, batch.gap_id is not None, columns, time)


def _of_chunk(one: Found) -> Iterator[Stored]:
    """Its readings, and by themselves those that were read from the peer's history."""
    whole = one.series()
    for backfilled in (True, False):
        rows = np.flatnonzero(whole.backfilled == backfilled)
        if len(rows):
            found = whole.picked(rows)
            tags = np.full(len(found), one.tag_id, dtype=np.int64)
            source_time = np.where(found.untimed, NO_TIME, found.time)
            columns = tags, source_time, found.values, found.others, found.status
            yield Stored(one.received_time, backfilled, columns, found.time, compacted=True)


def _connections(session: Session, tag: TagRow) -> list[int]:
    """Every connection this tag ever had."""
    attributes = session.scalars(select(TagVersionRow.attributes).where(TagVersionRow.tag_id == tag.id)).all()
    names = {one.get("connection") for one in attributes if isinstance(one, dict)}
    ids = session.scalars(select(ConnectionRow.id).where(ConnectionRow.name.in_([n for n in names if n]))).all()
    return sorted({*ids, *([tag.connection_id] if tag.connection_id else [])})


def _reaching(session: Session, connections: Collection[int], start: int, end: int) -> Rows:
    """Batches that may reach into the range."""
    yield from _narrow(session, connections, start, end)
    yield from _wide(session, connections, start, end)


def _narrow(session: Session, connections: Collection[int], start: int, end: int) -> Rows:
    """Batches that may reach into the range and span at most a minute, by their last time."""
    last, until = _batches.c.last_time, min(end + WIDE_S * NANOS, LAST)
    yield from _read(session, connections, ~_batches.c.wide & (last >= start) & (last <= until))


def _wide(session: Session, connections: Collection[int], start: int, end: int) -> Rows:
    """Batches that reach into the range and span more than a minute: few, unless a peer's clocks disagree."""
    inside = (_batches.c.last_time >= start) & (_batches.c.first_time < end)
    yield from _read(session, connections, _batches.c.wide & inside)


def _read(session: Session, connections: Collection[int], which: ColumnElement[bool]) -> Rows:
    mine = and_(_batches.c.connection_id.in_(connections), which)
    query = select(*_COLUMNS).where(mine).order_by(_batches.c.last_time)
    # Closed, because a cursor of the server would outlive a search that ends early.
    with session.execute(query, execution_options={"yield_per": FETCH}) as result:
        yield from result


def latest(engine: Engine, tags: Collection[int]) -> dict[int, Reading]:
    """The newest reading of each of these tags that has any."""
    found: dict[int, Reading] = {}
    homes: dict[int | None, set[int]] = {}
    with snapshot(engine) as session:
        query = select(TagRow.id, TagRow.connection_id).where(TagRow.id.in_(tags))
        for tag, connection in session.execute(query):
            homes.setdefault(connection, set()).add(tag)
        for tag, output in outputs(session, homes.pop(None, set())).items():
            newest = newest_answer(session, output)
            found |= {} if newest is None else {tag: newest}
        for connection, wanted in homes.items():
            found |= _newest(session, connection, wanted)
        _newest_of_chunks(session, found, {tag for wanted in homes.values() for tag in wanted})
    return found


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


def _newest_of_chunks(session: Session, found: dict[int, Reading], wanted: set[int]) -> None:
    """Put those into what was found that lie in a chunk and are newer."""
    ends = compacted.last_times(session, wanted)
    newer = {tag for tag, end in ends.items() if tag not in found or end > found[tag].time}
    for one in compacted.newest_of(session, newer):
        last = one.series()
        row = len(last) - 1
        filled = bool(last.backfilled[row])
        found[one.tag_id] = Reading(one.last_time, last.value(row), int(last.status[row]), filled)


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
    """Readings in the history per connection id, counted batch by batch and chunk by chunk."""
    query = select(_batches.c.connection_id, func.sum(_batches.c.count)).group_by(_batches.c.connection_id)
    with snapshot(engine) as session:
        found = compacted.counts(session)
        for connection, stored in session.execute(query):
            found[connection] = found.get(connection, 0) + int(stored)
    return found
