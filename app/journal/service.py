"""What the database knows of a journal: which records are applied, and what a scan of the journal found."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from sqlalchemy import Table, bindparam, delete, func, literal, select, union_all
from sqlalchemy.exc import SQLAlchemyError

from app import times
from app.db import add_to, snapshot, table, writing
from app.history import queries as compacted
from app.journal import damage
from app.journal.frames import Position
from app.journal.remains import BEFORE_NS, Counts, Part
from app.ledger.service import lengthen_gap
from app.ledger.tables import HeldRow, JournalStateRow, LedgerRow, PlaceRow
from app.places import NOWHERE
from app.readings.tables import AppliedRow, BatchRow, WatermarkRow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from sqlalchemy import Connection, Engine, Select
    from sqlalchemy.orm import Session

    from app.journal.index import Held
    from app.journal.remains import Stub

DatabaseError: Final = SQLAlchemyError
"""What every function here raises when the database does not answer: nothing is lost, wait and try again."""


def _numbers(rows: Table, *, is_mark: bool) -> Select[tuple[int, int, int]]:
    which = (rows.c.journal == bindparam("of")) & (rows.c.epoch >= bindparam("since"))
    return select(rows.c.epoch, rows.c.number, literal(int(is_mark)).label("is_mark")).where(which)


# One statement sees one state of the database; it is asked many times a second.
_PROGRESS: Final = union_all(_numbers(table(WatermarkRow), is_mark=True), _numbers(table(AppliedRow), is_mark=False))


@dataclass(frozen=True, slots=True)
class Progress:
    """What is applied, per epoch, as one transaction saw it."""

    watermarks: Mapping[int, int]
    """Everything at or below is applied."""
    applied: Mapping[int, Collection[int]]
    """Numbers above the watermark that are applied too."""


@dataclass(frozen=True, slots=True)
class Account:
    """The ledger of one connection."""

    stored: int = 0
    refused: int = 0
    dropped: int = 0
    lost_by_peer: int = 0


FATES: Final = tuple(one.name for one in fields(Account))
"""Of readings; the ledger counts events beside them."""


def begin_epochs(engine: Engine, journal: str, epochs: Collection[int]) -> None:
    """Make a watermark of 0 for each of these epochs that has none: workers lock that row."""
    with writing(engine) as session:
        query = select(WatermarkRow.epoch).where(WatermarkRow.journal == journal, WatermarkRow.epoch.in_(epochs))
        known = set(session.scalars(query))
        session.add_all(WatermarkRow(journal=journal, epoch=epoch, number=0) for epoch in set(epochs) - known)


def progress(engine: Engine, journal: str, epochs: Collection[int]) -> Progress:
    """What is applied of these epochs."""
    with engine.connect() as connection:
        return _progress(connection, journal, epochs)


def _progress(connection: Connection, journal: str, epochs: Collection[int]) -> Progress:
    watermarks: dict[int, int] = {}
    applied: dict[int, set[int]] = {}
    for row in connection.execute(_PROGRESS, {"of": journal, "since": min(epochs)}):
        if row.is_mark:
            watermarks[row.epoch] = row.number
        else:
            applied.setdefault(row.epoch, set()).add(row.number)
    return Progress(watermarks, applied)


def advance(engine: Engine, journal: str, epoch: int, skipped: Collection[int]) -> int:
    """Raise the watermark over applied numbers and those that were never sent; returns it."""
    with writing(engine) as session:
        row = session.scalar(
            select(WatermarkRow).where(WatermarkRow.journal == journal, WatermarkRow.epoch == epoch).with_for_update(),
        )
        if row is None:
            row = WatermarkRow(journal=journal, epoch=epoch, number=0)
            session.add(row)
        mine = (AppliedRow.journal == journal) & (AppliedRow.epoch == epoch)
        done = {*session.scalars(select(AppliedRow.number).where(mine)), *skipped}
        while row.number + 1 in done:
            row.number += 1
        session.execute(delete(AppliedRow).where(mine, AppliedRow.number <= row.number))
        return row.number


def claim(engine: Engine, journal: str, stub: Stub) -> Mapping[int, Counts] | None:
    """Count what was dropped and is not applied, once: from here on it cannot be applied any more.

    Per connection, what this call counted; empty when it was decided before. None, and nothing is done, while
    something before it is not applied. The row of the watermark is the door: a worker that applies a record holds it
    shared, whoever raises it holds it alone.
    """
    with writing(engine) as session:
        row = session.scalar(
            select(WatermarkRow)
            .where(WatermarkRow.journal == journal, WatermarkRow.epoch == stub.epoch)
            .with_for_update()
        )
        if row is None or row.number < stub.first - 1:
            return None
        if row.number >= stub.last:
            return {}
        mine = (AppliedRow.journal == journal) & (AppliedRow.epoch == stub.epoch) & (AppliedRow.number <= stub.last)
        applied = set(session.scalars(select(AppliedRow.number).where(mine)))
        found, places = stub.undecided(row.number, applied), stub.undecided_places(row.number, applied)
        if stub.path is None:
            found = _not_stored(session, journal, stub, found)
        row.number = stub.last
        session.execute(delete(AppliedRow).where(mine))
        for part in stub.remains.parts:
            if found.get(part.connection, _NONE)[0] and part.counts.readings and part.since <= part.until:
                lengthen_gap(session, part.connection, (part.since, part.until), stub.remains.reason)
        placed = _by_connection(session, places)
        for connection, counts in sorted(found.items()):
            _count(session, journal, connection, counts, stub.remains.reason, placed.get(connection, {}))
        return found


def _by_connection(session: Session, places: Mapping[int, int]) -> dict[int, dict[int, int]]:
    """Readings by connection and place."""
    found: dict[int, dict[int, int]] = {}
    if places:
        query = select(PlaceRow.id, PlaceRow.connection_id).where(PlaceRow.id.in_(places)).order_by(PlaceRow.id)
        for place, connection in session.execute(query):
            found.setdefault(connection, {})[place] = places[place]
    return found


_NONE: Final = (0,)


def absent(engine: Engine, journal: str, mark: int, begins: Position, before: Mapping[int, int], at: int) -> Stub:
    """What lies between the watermark of an epoch and where it begins on disk: neither applied nor there any more.

    Files were removed, or the database is an older one. `before`: running counts where it begins on disk; per
    connection what of these the ledger does not have is gone, in a gap from its last batch to `at` (ns).
    """
    rows, batches = table(LedgerRow), table(BatchRow)
    later = (batches.c.epoch > begins.epoch) | ((batches.c.epoch == begins.epoch) & (batches.c.number >= begins.number))
    of_ledger = select(rows.c.connection_id, func.sum(rows.c.readings)).where(
        rows.c.journal == journal, rows.c.fate.in_(("stored", "refused", "dropped"))
    )
    mine = batches.c.journal == journal
    of_later = select(batches.c.connection_id, func.sum(batches.c.count)).where(mine, later)
    newest = select(batches.c.connection_id, func.max(batches.c.received_time)).where(mine, ~later)
    with snapshot(engine) as session:
        known, beyond, since = (
            {key: int(number) for key, number in session.execute(one.group_by(one.selected_columns[0]))}
            for one in (of_ledger, of_later, newest)
        )
        # What is compacted lies at or below the watermark of its epoch: of this epoch, before where it begins on disk.
        for key, readings in compacted.compacted_since(session, journal, begins.epoch).items():
            beyond[key] = beyond.get(key, 0) + readings
        for key, received in compacted.received_until(session, journal, begins.epoch).items():
            since[key] = max(since.get(key, 0), received)
    parts = []
    for key, total in sorted(before.items()):
        gone = total - known.get(key, 0) + beyond.get(key, 0)
        if key and gone > 0:
            began = since.get(key, at - BEFORE_NS)
            parts.append(Part(key, filling=False, since=began, until=at, counts=Counts(gone, 1)))
    return damage.absent(begins.epoch, (mark + 1, begins.number - 1), before, parts)


def _not_stored(session: Session, journal: str, stub: Stub, found: Mapping[int, Counts]) -> dict[int, Counts]:
    """Without what the history has of these numbers: of damaged records only the sum is known, and some were stored.

    What was refused of those counts as refused and as dropped: a loss is rather overstated than kept quiet.
    """
    mine = (BatchRow.journal == journal) & (BatchRow.epoch == stub.epoch)
    here = mine & BatchRow.number.between(stub.first, stub.last)
    query = select(BatchRow.connection_id, func.sum(BatchRow.count)).where(here).group_by(BatchRow.connection_id)
    stored = compacted.compacted_numbers(session, journal, stub.epoch, stub.first, stub.last)
    for connection, readings in session.execute(query):
        stored[connection] = stored.get(connection, 0) + int(readings)
    left = {key: one._replace(readings=max(0, one.readings - stored.get(key, 0))) for key, one in found.items()}
    return {key: one._replace(records=one.records if one.readings else 0) for key, one in left.items()}


def _count(
    session: Session, journal: str, connection: int, counts: Counts, reason: str, places: Mapping[int, int]
) -> None:
    rest = {NOWHERE: counts.readings - sum(places.values())}
    fates = (
        *(("dropped", reason, place, number) for place, number in (rest | dict(places)).items()),
        ("event", "dropped", NOWHERE, counts.events),
        ("lost_by_peer", "", NOWHERE, counts.by_peer),
    )
    for fate, why, place, number in fates:
        if number:
            key = {"journal": journal, "connection_id": connection, "place_id": place, "fate": fate, "reason": why}
            add_to(session, LedgerRow, key, {"readings": number, "batches": counts.records})


def account(engine: Engine, journal: str, epochs: Collection[int], scan: Callable[[Progress], Held]) -> Held:
    """Scan the journal against one state of the database, and write down what both say; returns the scan.

    The database is looked at first: what is applied in it lies at or below any head read afterwards.
    """
    with snapshot(engine) as session:
        seen = _progress(session.connection(), journal, epochs)
        ledger = dict(_accounts(session, journal))
        held = scan(seen)
    with writing(engine) as session:
        for row in _rows(journal, seen, ledger, held):
            session.merge(row)
        session.execute(delete(HeldRow).where(HeldRow.journal == journal))
        session.add_all(HeldRow(journal=journal, place_id=place, held=some) for place, some in held.places.items())
    return held


def _accounts(session: Session, journal: str) -> Iterator[tuple[int, Account]]:
    query = (
        select(LedgerRow.connection_id, LedgerRow.fate, func.sum(LedgerRow.readings))
        .where(LedgerRow.journal == journal, LedgerRow.fate.in_(FATES))
        .group_by(LedgerRow.connection_id, LedgerRow.fate)
    )
    found: dict[int, dict[str, int]] = {}
    for connection, fate, readings in session.execute(query):
        found.setdefault(connection, {})[fate] = int(readings)
    for connection, fates in found.items():
        yield connection, Account(**fates)


def _rows(
    journal: str,
    seen: Progress,
    ledger: Mapping[int, Account],
    held: Held,
) -> Iterator[JournalStateRow]:
    now = times.now()
    for connection, read in held.read.items():
        if connection == 0:
            continue
        fate = ledger.get(connection, Account())
        yield JournalStateRow(
            journal=journal,
            connection_id=connection,
            epoch=held.head.epoch,
            head=held.head.number,
            watermark=seen.watermarks.get(held.head.epoch, 0),
            read=read,
            held=held.readings.get(connection, 0),
            stored=fate.stored,
            refused=fate.refused,
            dropped=fate.dropped,
            lost_by_peer=fate.lost_by_peer,
            segments=held.segments,
            bytes=held.bytes,
            at=now,
        )


__all__ = ["DatabaseError", "Progress", "account", "advance", "begin_epochs", "claim", "progress"]
