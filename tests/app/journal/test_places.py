"""What a journal holds of each place in the plant."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from app.db import make_engine, reading, upgrade, writing
from app.journal import Journal, Position, service
from app.ledger.tables import HeldRow, LedgerRow, PlaceRow
from tests.app.journal.dropping import applied, record

Open = Callable[..., Journal]
MB = 2**20


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database with two places of one connection, and one of another."""
    upgrade(database_url)
    made = make_engine(database_url)
    with writing(made) as session:
        session.add_all(PlaceRow(id=key, connection_id=one, path=str(key)) for key, one in ((5, 1), (6, 1), (7, 2)))
    yield made
    made.dispose()


async def fill(journal: Journal, first: int, records: int, size: int = 100) -> None:
    """Each of three readings, one at place 5 or 6 in turn, one at 6, one at none."""
    for number in range(first, first + records):
        places = ((5, 1), (6, 1)) if number % 2 else ((6, 2),)
        await journal.append(record(1, number, readings=3, size=size, places=places))


def ledger(engine: Engine) -> dict[tuple[int, str], int]:
    """By place and fate."""
    with reading(engine) as session:
        return {(one.place_id, one.fate): one.readings for one in session.scalars(select(LedgerRow))}


async def test_held_is_counted_by_place(opened: Open) -> None:
    """Of records that are not applied, whether below a watermark or above it, and the same once it is opened anew."""
    journal = opened()
    await fill(journal, 1, 10)
    assert journal.held({}, {}).places == {5: 5, 6: 15}
    assert journal.held({1: 3}, {1: {7, 8}}).places == {5: 2, 6: 8}
    assert journal.held({1: 10}, {}).places == {}
    journal.close()
    again = opened()
    assert again.held({}, {}).places == {5: 5, 6: 15}
    assert again.held({1: 3}, {1: {7, 8}}).places == {5: 2, 6: 8}


async def test_what_a_torn_end_takes_is_not_held(opened: Open, folder: Path) -> None:
    """Records that are cut off are forgotten at their places too."""
    journal = opened()
    await fill(journal, 1, 4)
    journal.close()
    (file,) = folder.glob("*.hrj")
    with file.open("r+b") as content:
        content.truncate(file.stat().st_size - 10)
    assert opened().held({}, {}).places == {5: 2, 6: 4}


async def test_a_group_that_was_written_again_elsewhere_is_held_once(folder: Path) -> None:
    """After a failed fsync the same records lie in two files; what lies in the first one does not count."""
    failing = iter((False, False, False, True))

    def sync(fd: int) -> None:
        if next(failing, False):
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(fd)

    journal = Journal(folder, "test", commit_interval_s=0, budget=64 * MB, sync=sync)
    await fill(journal, 1, 6)
    journal.close()
    assert len(list(folder.glob("*.hrj"))) == 2
    again = Journal(folder, "test", commit_interval_s=0, budget=64 * MB)
    assert again.held({}, {}).places == {5: 3, 6: 9}
    again.close()


async def test_what_damage_takes_is_of_no_place(opened: Open, folder: Path, engine: Engine) -> None:
    """How much is missing is known by connection alone; what is left is where it was."""
    journal = opened()
    await fill(journal, 1, 6)
    journal.close()
    (file,) = folder.glob("*.hrj")
    data = bytearray(file.read_bytes())
    third = [at for at in range(len(data)) if data.startswith(b"HRJ1", at)][3]
    data[third + 60] ^= 0xFF
    file.write_bytes(data)
    journal = opened()
    held = journal.held({}, {})
    assert (held.readings, held.places) == ({1: 18}, {5: 2, 6: 8})
    service.begin_epochs(engine, journal.id, [1, 2])
    for entry in journal.read_after(Position(1, 0), records=2):
        assert entry.record is not None
        assert applied(engine, journal, entry.position, entry.record)
    service.advance(engine, journal.id, 1, ())
    (stub,) = journal.dropped()
    assert service.claim(engine, journal.id, stub) == {1: (3, 1, 0, 0)}
    assert ledger(engine) == {(0, "stored"): 2, (5, "stored"): 1, (6, "stored"): 3, (0, "dropped"): 3}


@pytest.mark.parametrize("earlier", [False, True])
async def test_what_is_dropped_is_counted_by_place(opened: Open, engine: Engine, *, earlier: bool) -> None:
    """Once, in the ledger; of records that an earlier process may have sent, what is not applied."""
    journal = opened(budget=16 * MB)
    await fill(journal, 1, 40, 120_000)
    if earlier:
        journal.close()
        journal = opened(budget=16 * MB)
    service.begin_epochs(engine, journal.id, [1, 2])
    if earlier:
        (second,) = journal.read_after(Position(1, 1), records=1)
        assert second.record is not None
        assert applied(engine, journal, second.position, second.record)
    for _ in range(2):
        assert await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    scanned = service.account(engine, journal.id, [1, 2], lambda seen: journal.held(seen.watermarks, seen.applied))
    stored = 1 if earlier else 0
    assert scanned.places == {5: 20, 6: 60 - 2 * stored}
    with reading(engine) as session:
        assert {row.place_id: row.held for row in session.scalars(select(HeldRow))} == scanned.places
    for stub in journal.dropped():
        journal.seal(stub)
        assert service.claim(engine, journal.id, stub)
    last = journal.dropped()[-1].last
    dropped = {key: number for (key, fate), number in ledger(engine).items() if fate == "dropped"}
    assert dropped == {0: last - stored, 5: -(-last // 2), 6: last // 2 * 2 + -(-last // 2) - 2 * stored}
    assert journal.held({1: last}, {}).places == {5: 20 - dropped[5], 6: 60 - dropped[6] - 2 * stored}


async def test_what_is_thinned_keeps_its_place(opened: Open, engine: Engine) -> None:
    """Readings that are dropped from inside a segment are counted where they were read."""
    journal = opened(budget=16 * MB)
    for number in range(1, 40):
        connection = 1 + number % 2
        await journal.append(record(connection, number, places=((5 + 2 * (connection - 1), 1),), size=120_000))
    assert await asyncio.to_thread(journal.thin, Position(1, 0), "journal_full", lambda connection: connection)
    service.begin_epochs(engine, journal.id, [1])
    assert journal.held({}, {}).places == {5: 19, 7: 20}
    for entry in journal.read_after(Position(1, 0), records=1000, size=2**40):
        assert entry.record is not None
        applied(engine, journal, entry.position, entry.record)
    found = ledger(engine)
    assert found.pop((5, "dropped")) > 0
    assert found == {(5, "stored"): 19 - ledger(engine)[5, "dropped"], (7, "stored"): 20}
