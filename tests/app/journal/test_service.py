"""What the database knows of a journal, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select

from app.db import make_engine, reading, upgrade, writing
from app.journal import Position, service
from app.journal.index import Held
from app.journal.service import Progress
from app.ledger.tables import JournalStateRow, LedgerRow
from app.readings.tables import AppliedRow, WatermarkRow


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database at the newest schema."""
    upgrade(database_url)
    made = make_engine(database_url)
    yield made
    made.dispose()


def _apply(engine: Engine, epoch: int, *numbers: int) -> None:
    with writing(engine) as session:
        session.add_all(AppliedRow(journal="j", epoch=epoch, number=number) for number in numbers)


def _applied(engine: Engine) -> list[int]:
    with reading(engine) as session:
        return list(session.scalars(select(AppliedRow.number).order_by(AppliedRow.number)))


def test_a_watermark_is_made_once_and_kept(engine: Engine) -> None:
    """Beginning an epoch again does not set it back."""
    service.begin_epochs(engine, "j", [1])
    _apply(engine, 1, 1)
    assert service.advance(engine, "j", 1, ()) == 1
    service.begin_epochs(engine, "j", [1, 2])
    assert service.progress(engine, "j", [1, 2]).watermarks == {1: 1, 2: 0}


def test_the_watermark_stops_at_the_first_record_that_is_not_applied(engine: Engine) -> None:
    """It rises over applied and never-sent numbers alike, and what lies above it stays known."""
    service.begin_epochs(engine, "j", [1])
    _apply(engine, 1, 1, 2, 4, 6)
    assert service.advance(engine, "j", 1, {3}) == 4
    assert _applied(engine) == [6]
    assert service.progress(engine, "j", [1]) == Progress({1: 4}, {1: {6}})
    _apply(engine, 1, 5)
    assert service.advance(engine, "j", 1, ()) == 6
    assert _applied(engine) == []


def test_epochs_and_journals_are_apart(engine: Engine) -> None:
    """A number means nothing without its epoch and its journal."""
    service.begin_epochs(engine, "j", [1, 2])
    service.begin_epochs(engine, "other", [1])
    _apply(engine, 2, 1)
    assert service.advance(engine, "j", 1, ()) == 0
    assert service.advance(engine, "j", 2, ()) == 1
    assert service.progress(engine, "other", [1]) == Progress({1: 0}, {})


def test_an_epoch_without_a_watermark_gets_one(engine: Engine) -> None:
    """Advancing makes the row that was missing."""
    _apply(engine, 3, 1)
    assert service.advance(engine, "j", 3, ()) == 1
    with reading(engine) as session:
        assert session.scalar(select(WatermarkRow.number).where(WatermarkRow.epoch == 3)) == 1


def test_the_account_is_taken_against_one_state_of_the_database(engine: Engine) -> None:
    """Ledger, applied ids and the scan are written down together; ticks belong to no connection."""
    service.begin_epochs(engine, "j", [1])
    _apply(engine, 1, 1)
    fates = {"stored": 10, "refused": 2, "dropped": 3, "lost_by_peer": 4}
    with writing(engine) as session:
        session.add_all(
            LedgerRow(journal="j", connection_id=7, fate=fate, reason=reason, readings=readings, batches=1)
            for fate, readings in fates.items()
            for reason in ("a", "b")
        )
    seen: list[Progress] = []

    def scan(progress: Progress) -> Held:
        seen.append(progress)
        return Held(Position(1, 9), {7: 40, 0: 0, 8: 5}, {7: 10, 8: 5}, {}, 4, 2, 1000)

    for _ in range(2):
        assert service.account(engine, "j", [1], scan).records == 4
    assert seen[0] == Progress({1: 0}, {1: {1}})
    with reading(engine) as session:
        rows = {row.connection_id: row for row in session.scalars(select(JournalStateRow))}
        assert set(rows) == {7, 8}
        one = rows[7]
        assert (one.read, one.stored, one.refused, one.dropped, one.held) == (40, 20, 4, 6, 10)
        assert (one.lost_by_peer, one.head, one.segments, one.bytes) == (8, 9, 2, 1000)
        assert (rows[8].read, rows[8].stored, rows[8].held) == (5, 0, 5)
