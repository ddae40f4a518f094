"""Reads chunks: of one tag, of a connection, and what is known of batches whose rows are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from app import chunks
from app.db import table
from app.history.tables import AxisRow, ChunkRow, CompactionRow
from app.series import Series
from app.trends import Facts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.orm import Session

FETCH: Final = 50
IDS_AT_ONCE: Final = 500
_chunks, _axes, _compactions = table(ChunkRow), table(AxisRow), table(CompactionRow)
CHUNK: Final = (
    _chunks.c.id, _chunks.c.tag_id, _chunks.c.first_time, _chunks.c.last_time, _chunks.c.received_time,
    _chunks.c.readings, _chunks.c.axis, _chunks.c.block,
)  # fmt: skip
_FACTS: Final = (
    _chunks.c.id, _chunks.c.first_time, _chunks.c.last_time, _chunks.c.usable, _chunks.c.minimum, _chunks.c.maximum,
    _chunks.c.mean,
)  # fmt: skip
ARRIVAL: Final = (_chunks.c.received_time, _chunks.c.id)
"""The order in which readings of one time arrived."""


@dataclass(frozen=True, slots=True)
class Found:
    """One chunk that was read; its columns are unpacked when they are asked for."""

    id: int
    tag_id: int
    first_time: int
    last_time: int
    received_time: int
    readings: int
    axis: str | None
    chunk: chunks.Chunk

    def reaches(self, start: int, end: int) -> bool:
        """Whether any of its readings lies in this span (ns), start inclusive, end exclusive."""
        time = self.chunk.time()
        return bool(time.searchsorted(start) < time.searchsorted(end))

    def series(self) -> Series:
        """All of its readings. ChunkError."""
        one = self.chunk
        backfilled, untimed = one.flagged(chunks.BACKFILLED), one.flagged(chunks.UNTIMED)
        return Series(one.time(), one.values(), one.others(), one.status(), backfilled, untimed)


def read_chunks(session: Session, query: Select[*tuple[Any, ...]]) -> Iterator[Found]:
    """The chunks of a query over `CHUNK`, in its order. ChunkError."""
    axes: dict[str, NDArray[np.int64]] = {}
    with session.execute(query, execution_options={"yield_per": FETCH}) as result:
        for some in result.partitions():
            _fetch(session, axes, {row.axis for row in some if row.axis is not None})
            for row in some:
                yield _found(row, None if row.axis is None else axes[row.axis])


def _found(row: Row[*tuple[Any, ...]], axis: NDArray[np.int64] | None) -> Found:
    return Found(
        row.id, row.tag_id, row.first_time, row.last_time, row.received_time, row.readings, row.axis,
        chunks.Chunk(bytes(row.block), axis),
    )  # fmt: skip


def _fetch(session: Session, axes: dict[str, NDArray[np.int64]], wanted: set[str]) -> None:
    """Have these axes; those that nobody asks for now are forgotten."""
    for digest in axes.keys() - wanted:
        del axes[digest]
    missing = wanted - axes.keys()
    if missing:
        query = select(_axes.c.digest, _axes.c.block).where(_axes.c.digest.in_(missing))
        axes.update((digest, chunks.decode_whole(bytes(block))) for digest, block in session.execute(query))


def within(start: int, end: int) -> ColumnElement[bool]:
    """Chunks that reach into a span (ns), start inclusive, end exclusive."""
    return (_chunks.c.last_time >= start) & (_chunks.c.first_time < end)


def of_tag(session: Session, tag: int, start: int, end: int) -> Iterator[Found]:
    """Chunks of one tag that reach into a span, by their first times."""
    mine = _chunks.c.tag_id == tag, within(start, end)
    yield from _in_order(session, select(_chunks.c.id).where(*mine).order_by(_chunks.c.first_time, *ARRIVAL))


def _in_order(session: Session, query: Select[int]) -> Iterator[Found]:
    """Chunks whose ids a query gives, in its order: a database that sorts whole chunks has to carry them about."""
    ids = session.scalars(query).all()
    for at in range(0, len(ids), FETCH):
        some = ids[at : at + FETCH]
        found = {one.id: one for one in read_chunks(session, select(*CHUNK).where(_chunks.c.id.in_(some)))}
        for key in some:
            yield found[key]


def facts_of_tag(session: Session, tag: int, start: int, end: int) -> list[Facts]:
    """What is known of these chunks without reading them."""
    query = select(*_FACTS).where(_chunks.c.tag_id == tag, within(start, end))
    return [Facts(*row) for row in session.execute(query)]


def of_ids(session: Session, ids: Sequence[int]) -> Iterator[Found]:
    """These chunks, in any order."""
    for at in range(0, len(ids), IDS_AT_ONCE):
        yield from read_chunks(session, select(*CHUNK).where(_chunks.c.id.in_(ids[at : at + IDS_AT_ONCE])))


def of_connections(
    session: Session, connections: Collection[int], start: int, end: int, tags: Collection[int] | None
) -> Iterator[Found]:
    """Chunks with readings in a span, of some tags or of all, in order of arrival as far as it is known."""
    query = select(_chunks.c.id).where(_chunks.c.connection_id.in_(connections), within(start, end))
    if tags is not None:
        query = query.where(_chunks.c.tag_id.in_(tags))
    for one in _in_order(session, query.order_by(*ARRIVAL)):
        if one.reaches(start, end):
            yield one


def every(session: Session, connection: int | None) -> Iterator[Found]:
    """All chunks, of one connection or of all."""
    mine = () if connection is None else (_chunks.c.connection_id == connection,)
    yield from read_chunks(session, select(*CHUNK).where(*mine))


def newest_of(session: Session, tags: Collection[int], at: int | None = None) -> Iterator[Found]:
    """Per tag the chunks that may hold its newest reading, at or before a time (ns) if one is given.

    Those that end last, and those that begin by then and end later.
    """
    for tag in sorted(tags):
        mine = _chunks.c.tag_id == tag
        ended = mine if at is None else mine & (_chunks.c.last_time <= at)
        last = select(func.max(_chunks.c.last_time)).where(ended).scalar_subquery()
        wanted = ended & (_chunks.c.last_time == last)
        if at is not None:
            wanted |= mine & (_chunks.c.last_time > at) & (_chunks.c.first_time <= at)
        yield from read_chunks(session, select(*CHUNK).where(wanted).order_by(*ARRIVAL))


def last_times(session: Session, tags: Collection[int]) -> dict[int, int]:
    """Per tag that has chunks the newest time in them (ns)."""
    found = {}
    for tag in tags:
        last = session.scalar(select(func.max(_chunks.c.last_time)).where(_chunks.c.tag_id == tag))
        if last is not None:
            found[tag] = int(last)
    return found


def counts(session: Session) -> dict[int, int]:
    """Readings in chunks per connection id, counted chunk by chunk."""
    query = select(_chunks.c.connection_id, func.sum(_chunks.c.readings)).group_by(_chunks.c.connection_id)
    return {connection: int(readings) for connection, readings in session.execute(query)}


def compacted_since(session: Session, journal: str, epoch: int) -> dict[int, int]:
    """Readings of later epochs of a journal that were compacted, per connection id."""
    c = _compactions.c
    mine = (c.journal == journal) & (c.epoch > epoch)
    query = select(c.connection_id, func.sum(c.readings)).where(mine).group_by(c.connection_id)
    return {connection: int(readings) for connection, readings in session.execute(query)}


def received_until(session: Session, journal: str = "", epoch: int = 0) -> dict[int, int]:
    """When the newest batch that was compacted was received (ns), per connection id; of a journal up to an epoch."""
    c = _compactions.c
    mine = c.received_time > 0
    if journal:
        mine &= (c.journal == journal) & (c.epoch <= epoch)
    query = select(c.connection_id, func.max(c.received_time)).where(mine).group_by(c.connection_id)
    return {connection: int(at) for connection, at in session.execute(query)}


def compacted_numbers(session: Session, journal: str, epoch: int, first: int, last: int) -> dict[int, int]:
    """Readings of the batches of these numbers that were compacted, per connection id.

    Of what was compacted more than a week ago only whole ranges are known: what only touches is not counted.
    """
    c = _compactions.c
    mine = (c.journal == journal) & (c.epoch == epoch) & (c.last >= first) & (c.first <= last)
    found: dict[int, int] = {}
    for row in session.execute(select(_compactions).where(mine)).mappings():
        if first <= row["first"] and row["last"] <= last:
            readings = row["readings"]
        elif row["numbers"]:
            numbers, of_each = chunks.decode_whole(bytes(row["numbers"])), chunks.decode_whole(bytes(row["counts"]))
            readings = int(of_each[(numbers >= first) & (numbers <= last)].sum())
        else:
            readings = 0
        found[row["connection_id"]] = found.get(row["connection_id"], 0) + readings
    return found
