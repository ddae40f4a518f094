"""Compacts applied batches into chunks, and small chunks into larger ones; each in one transaction, or not at all."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sqlalchemy import delete, func, select

from app import chunks, times
from app.chunks import ChunkError
from app.compacting import FULL, Arrived, Kind, Made, by_tag, merged, rows_of
from app.db import add_to, insert_all, snapshot, table, writing
from app.history.queries import ARRIVAL, CHUNK, read_chunks
from app.history.tables import AxisRow, ChunkRow, CompactionRow
from app.ledger.tables import JournalStateRow, LedgerRow
from app.log import HISTORY_DAMAGED, get_logger
from app.places import NOWHERE
from app.readings.tables import BatchRow, WatermarkRow
from app.records import decode_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement, Engine, Row
    from sqlalchemy.orm import Session

    from app.history.queries import Found
    from app.series import Series

log = get_logger(__name__)

MOST_READINGS: Final = 1_000_000
"""Of one slice: some 30 MB in columns, and as much again while they are sorted."""
MOST_BATCHES: Final = 20_000
FETCH: Final = 200
TOGETHER: Final = 16
"""So many chunks of one tag and level are merged: each reading is written again once for each level."""
MOST_TAGS: Final = 200
"""Of one merge."""
IDS_AT_ONCE: Final = 500
IMPORTED: Final = "import"
"""The journal under which the ledger has what came from files."""
KEEP_NUMBERS_NS: Final = 7 * 86_400 * times.NANOS
"""For so long it is known of each batch that it was stored; then of the range alone."""

_batches, _chunks, _axes = table(BatchRow), table(ChunkRow), table(AxisRow)
_marks, _compactions = table(WatermarkRow), table(CompactionRow)
_KIND: Final = (_chunks.c.tag_id, _chunks.c.connection_id, _chunks.c.level)


class CompactedElsewhereError(Exception):
    """Another process compacted the same meanwhile. Nothing was done here: look again what there is to do."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one transaction did."""

    readings: int
    batches: int
    chunks: int


def compact(engine: Engine, most: int = MOST_READINGS) -> Slice:
    """The oldest batches that are at or below their watermark, about so many readings: chunks instead of batches.

    Nothing to do: a slice of no batches. Raises `CompactedElsewhereError`. A batch that cannot be read stays as it is.
    """
    taken, arrived = [], []
    for one in _taken(engine, most):
        if (readings := _arrived(one)) is not None:
            taken.append(one)
            arrived.append(readings)
    if not taken:
        return Slice(0, 0, 0)
    axes, rows = rows_of(by_tag(arrived))
    with writing(engine) as session:
        if _removed(session, taken) != len(taken):
            raise CompactedElsewhereError
        _add_chunks(session, axes, rows)
        insert_all(session, CompactionRow, list(_noted(taken)))
    return Slice(sum(one.readings for one in taken), len(taken), len(rows))


def _taken(engine: Engine, most: int) -> list[Row[*tuple[Any, ...]]]:
    """Batches to compact, in order of their numbers; what lies above a watermark is decided by the journal first."""
    same = (_marks.c.journal == _batches.c.journal) & (_marks.c.epoch == _batches.c.epoch)
    columns = (
        _batches.c.journal, _batches.c.epoch, _batches.c.number, _batches.c.connection_id, _batches.c.received_time,
        _batches.c.count.label("readings"), _batches.c.columns, _batches.c.gap_id,
    )  # fmt: skip
    query = (
        select(*columns)
        .join(_marks, same & (_batches.c.number <= _marks.c.number))
        .order_by(_batches.c.journal, _batches.c.epoch, _batches.c.number)
        .limit(MOST_BATCHES)
    )
    found: list[Row[*tuple[Any, ...]]] = []
    readings = 0
    with snapshot(engine) as session, session.execute(query, execution_options={"yield_per": FETCH}) as result:
        for row in result:
            found.append(row)
            readings += row.readings
            if readings >= most:
                break
    return found


def _arrived(row: Row[*tuple[Any, ...]]) -> Arrived | None:
    try:
        columns = decode_columns(row.columns)
    except ValueError as error:
        log.warning(HISTORY_DAMAGED, journal=row.journal, epoch=row.epoch, number=row.number, reason=str(error))
        return None
    return Arrived(row.connection_id, row.gap_id is not None, row.received_time, *columns)


def _removed(session: Session, taken: Sequence[Row[*tuple[Any, ...]]]) -> int:
    """Take the batches out; returns how many were there. Who does the same waits here, and then finds none."""
    numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
    for one in taken:
        numbers[one.journal, one.epoch].append(one.number)
    gone = 0
    for (journal, epoch), some in numbers.items():
        mine = (_batches.c.journal == journal) & (_batches.c.epoch == epoch)
        for at in range(0, len(some), IDS_AT_ONCE):
            these = delete(_batches).where(mine, _batches.c.number.in_(some[at : at + IDS_AT_ONCE]))
            gone += session.connection().execute(these).rowcount
    return gone


def _noted(taken: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, int, int], list[Row[*tuple[Any, ...]]]] = defaultdict(list)
    for one in taken:
        groups[one.journal, one.epoch, one.connection_id].append(one)
    for (journal, epoch, connection), some in groups.items():
        yield {
            "journal": journal,
            "epoch": epoch,
            "connection_id": connection,
            "first": some[0].number,
            "last": some[-1].number,
            "readings": sum(one.readings for one in some),
            "received_time": max((one.received_time for one in some if one.gap_id is None), default=0),
            "numbers": chunks.encode_whole(np.array([one.number for one in some], dtype=np.int64)),
            "counts": chunks.encode_whole(np.array([one.readings for one in some], dtype=np.int64)),
        }


def _add_chunks(session: Session, axes: dict[str, bytes], rows: Sequence[dict[str, Any]]) -> None:
    digests, there = list(axes), set[str]()
    for at in range(0, len(digests), IDS_AT_ONCE):
        some = digests[at : at + IDS_AT_ONCE]
        there |= set(session.scalars(select(_axes.c.digest).where(_axes.c.digest.in_(some))))
    insert_all(session, AxisRow, [{"digest": one, "block": axes[one]} for one in digests if one not in there])
    insert_all(session, ChunkRow, rows)


def bring_in(engine: Engine, arrived: Arrived) -> None:
    """Readings of a file, into chunks at once; in the ledger they are read and stored by a journal of their own."""
    axes, rows = rows_of(by_tag([arrived]))
    count = len(arrived.tags)
    mine = {"journal": IMPORTED, "connection_id": arrived.connection}
    with writing(engine) as session:
        _add_chunks(session, axes, rows)
        key = {**mine, "place_id": NOWHERE, "fate": "stored", "reason": ""}
        add_to(session, LedgerRow, key, {"readings": count, "batches": 1})
        account = session.get(JournalStateRow, (IMPORTED, arrived.connection), with_for_update=True)
        if account is None:
            nothing = dict.fromkeys(("epoch", "head", "watermark", "held", "refused", "dropped", "lost_by_peer"), 0)
            account = JournalStateRow(**mine, **nothing, read=0, stored=0, segments=0, bytes=0, at=0)
            session.add(account)
        account.read, account.stored, account.at = account.read + count, account.stored + count, times.now()


def merge(engine: Engine, together: int = TOGETHER, most: int = MOST_READINGS) -> Slice:
    """One chunk instead of many small ones, for the tags that have them. Nothing to do: a slice of no chunks.

    Raises `CompactedElsewhereError`. Chunks of which one cannot be read stay as they are.
    """
    old, made = list[tuple[int, str | None]](), list[Made]()
    readings = 0
    with snapshot(engine) as session:
        for kind, level in _small(session, together):
            found = _readable(session, kind, level)
            if not found:
                continue
            old += [(one.id, one.axis) for one, _ in found]
            newest = max(one.received_time for one, _ in found)
            made += merged(kind, [series for _, series in found], newest, level)
            readings += sum(one.readings for one, _ in found)
            if readings >= most:
                break
    axes, rows = rows_of(made)
    with writing(engine) as session:
        if old:
            replace(session, old, axes, rows)
    return Slice(sum(row["readings"] for row in rows), 0, len(old))


def _readable(session: Session, kind: Kind, level: int) -> list[tuple[Found, Series]]:
    """Chunks to merge, in order of arrival; none when one of them cannot be read."""
    try:
        query = select(*CHUNK).where(_of(kind, level)).order_by(*ARRIVAL)
        return [(one, one.series()) for one in read_chunks(session, query)]
    except ChunkError as error:
        log.warning(HISTORY_DAMAGED, tag=kind.tag, level=level, reason=str(error))
        return []


def _small(session: Session, together: int) -> list[tuple[Kind, int]]:
    """Kinds and levels with enough chunks; those of one connection side by side, since they share axes."""
    query = (
        select(*_KIND)
        .where(_chunks.c.level < FULL)
        .group_by(*_KIND)
        .having(func.count() >= together)
        .order_by(_chunks.c.connection_id, _chunks.c.level, _chunks.c.tag_id)
        .limit(MOST_TAGS)
    )
    return [(Kind(*row[:-1]), row[-1]) for row in session.execute(query)]


def _of(kind: Kind, level: int) -> ColumnElement[bool]:
    return (_chunks.c.level == level) & (_chunks.c.tag_id == kind.tag) & (_chunks.c.connection_id == kind.connection)


def replace(
    session: Session, old: Sequence[tuple[int, str | None]], axes: dict[str, bytes], rows: Sequence[dict[str, Any]]
) -> None:
    """Put other chunks in the place of these (id and axis). `CompactedElsewhereError` when any of them is gone."""
    if _delete(session, [key for key, _ in old]) != len(old):
        raise CompactedElsewhereError
    _add_chunks(session, axes, rows)
    _drop_axes(session, {axis for _, axis in old if axis is not None})


def take_out(session: Session, ids: Sequence[int]) -> None:
    """Remove these chunks, and axes that no other needs."""
    axes = set[str]()
    for at in range(0, len(ids), IDS_AT_ONCE):
        some = ids[at : at + IDS_AT_ONCE]
        mine = _chunks.c.id.in_(some) & _chunks.c.axis.is_not(None)
        axes |= {axis for axis in session.scalars(select(_chunks.c.axis).where(mine)) if axis is not None}
    _delete(session, ids)
    _drop_axes(session, axes)


def _delete(session: Session, ids: Sequence[int]) -> int:
    gone = 0
    for at in range(0, len(ids), IDS_AT_ONCE):
        these = _chunks.c.id.in_(ids[at : at + IDS_AT_ONCE])
        gone += session.connection().execute(delete(_chunks).where(these)).rowcount
    return gone


def _drop_axes(session: Session, digests: set[str]) -> None:
    """Those of these that no chunk refers to any more."""
    all_of_them = sorted(digests)
    for at in range(0, len(all_of_them), IDS_AT_ONCE):
        some = all_of_them[at : at + IDS_AT_ONCE]
        used = select(_chunks.c.id).where(_chunks.c.axis == _axes.c.digest).exists()
        session.connection().execute(delete(_axes).where(_axes.c.digest.in_(some), ~used))


def fold(engine: Engine, now: int) -> int:
    """Put the notes on batches compacted long ago together, a row per epoch and connection; returns how many went."""
    key = (_compactions.c.journal, _compactions.c.epoch, _compactions.c.connection_id)
    with writing(engine) as session:
        # A note is as old as what it tells of; those of filled gaps alone say nothing of their age and stay.
        old = _compactions.c.received_time.between(1, now - KEEP_NUMBERS_NS)
        c = _compactions.c
        summed = (
            select(*key, func.min(c.first).label("first"), func.max(c.last).label("last"),
                   func.sum(c.readings).label("readings"), func.max(c.received_time).label("received_time"))
            .where(old).group_by(*key).having(func.count() > 1)
        )  # fmt: skip
        rows = [dict(one) for one in session.execute(summed).mappings()]
        gone = 0
        for row in rows:
            mine = (c.journal == row["journal"]) & (c.epoch == row["epoch"])
            these = delete(_compactions).where(mine, c.connection_id == row["connection_id"], old)
            gone += session.connection().execute(these).rowcount
        insert_all(session, CompactionRow, [{**row, "readings": int(row["readings"]), "numbers": b"", "counts": b""}
                                            for row in rows])  # fmt: skip
    return gone - len(rows)
