"""Dropping the oldest: what remains is durable at once, counts once, and holds nothing up."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from app.db import make_engine, reading, upgrade
from app.journal import Journal, Position, service
from app.ledger.tables import GapRow, JournalStateRow, LedgerRow
from app.records import FillRecord, tick
from tests.app.journal.dropping import BASE, SECOND, applied, record
from tests.waiting import wait_for

Open = Callable[..., Journal]
MB = 2**20


async def _fill(journal: Journal, records: int, first: int = 1) -> None:
    """Records of two connections in turn; the second one has three readings in each."""
    for number in range(first, first + records):
        await journal.append(record(1 + number % 2, number, readings=1 + 2 * (number % 2)))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database at the newest schema."""
    upgrade(database_url)
    made = make_engine(database_url)
    yield made
    made.dispose()


def _ledger(engine: Engine) -> dict[tuple[int, str, str], int]:
    with reading(engine) as session:
        return {(one.connection_id, one.fate, one.reason): one.readings for one in session.scalars(select(LedgerRow))}


def _decide(engine: Engine, journal: Journal) -> None:
    """Everything that was dropped, as the dispatcher does."""
    for stub in journal.dropped():
        assert journal.seal(stub) is stub
        assert service.claim(engine, journal.id, stub) is not None


async def test_room_is_made_and_what_remains_takes_the_place(opened: Open, folder: Path) -> None:
    """A segment's readings are counted, its file is gone, and what is read back says what is missing."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    before = journal.state.bytes
    made = await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    assert made is not None
    assert (made.first, made.rows, made.reason) == (1, b"", "journal_full")
    assert journal.state.bytes < before - MB // 2
    assert journal.state.bytes == sum(one.stat().st_size for one in [*folder.glob("*.hrj"), *folder.glob("*.drop")])
    (entry, *others) = journal.read_after(journal.first)
    assert entry.position == Position(1, made.last)
    assert entry.remains == made
    assert [one.position.number for one in others][:2] == [made.last + 1, made.last + 2]
    assert {part.connection: part.counts.records for part in made.parts} == {1: made.last // 2, 2: -(-made.last // 2)}
    assert [(part.since, part.until) for part in made.parts][1] == (BASE + SECOND, BASE + made.last * SECOND)
    assert journal.dropped_readings == sum(part.counts.readings for part in made.parts)


async def test_what_is_dropped_next_grows_together(opened: Open, folder: Path) -> None:
    """A long outage leaves one small file, not one for each segment; asked about, it grows no more."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 60)
    for _ in range(3):
        await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    (one,) = journal.dropped()
    assert (one.first, len(list(folder.glob("*.drop")))) == (1, 1)
    assert journal.seal(one) is one
    await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    first, second = journal.dropped()
    assert first.last + 1 == second.first
    assert journal.held({}, {}).readings == journal.held({}, {}).read


async def test_what_may_be_on_its_way_is_not_dropped(opened: Open) -> None:
    """Only whole segments behind the last record that was read to be sent, and never the one that is written."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 20)
    made = await asyncio.to_thread(journal.drop, Position(1, 3), "journal_full")
    assert made is not None
    assert made.first > 3
    while await asyncio.to_thread(journal.drop, Position(1, 3), "journal_full"):
        pass
    assert [one.record for one in journal.read_after(Position(1, 0))[:3] if one.record]
    assert journal.read_after(journal.head._replace(number=journal.head.number - 1))[0].record is not None


async def test_a_switch_that_is_dropped_is_not_forgotten(opened: Open) -> None:
    """Which versions are in force after the records is part of what remains."""
    journal = opened(budget=16 * MB)
    await journal.switch([4, 2])
    await journal.append(tick(BASE))
    await _fill(journal, 20)
    made = await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    assert made is not None
    assert made.versions == (4, 2)


async def test_the_budget_lets_the_field_in_again(opened: Open) -> None:
    """A journal that stands still for want of room goes on as soon as something is dropped."""
    journal = opened(budget=16 * MB)
    waiting = asyncio.create_task(_fill(journal, 200))
    await wait_for(lambda: journal.state.state == "stopped")
    assert journal.crowded
    while not waiting.done():
        if journal.crowded:
            await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
        await asyncio.sleep(0)
    assert journal.head == Position(1, 200)
    held = journal.held({}, {})
    assert held.read == {1: 100, 2: 300} == held.readings


@pytest.mark.parametrize("left", ["segment", "unwritten", "damaged", "earlier"])
async def test_a_kill_between_two_steps_drops_all_or_nothing(opened: Open, folder: Path, left: str) -> None:
    """Whatever a kill leaves behind, the next process counts each record once."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    files = {path: path.read_bytes() for path in folder.glob("*.hrj")}
    await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    first = {path: path.read_bytes() for path in folder.glob("*.drop")}
    ((path, content),) = first.items()
    if left == "earlier":
        await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    await asyncio.to_thread(journal.close)
    gone = [one for one in files if not one.exists()]
    for one in gone:
        one.write_bytes(files[one])
    if left == "unwritten":
        path.rename(path.with_suffix(".drop.tmp"))
    if left == "damaged":
        path.write_bytes(content[:-1])
    if left == "earlier":
        path.write_bytes(content)
    again = opened(budget=16 * MB)
    kept = left in {"unwritten", "damaged"}
    assert [one.exists() for one in gone] == [kept] * len(gone)
    assert len(again.dropped()) == (0 if kept else 1)
    assert not list(folder.glob("*.tmp"))
    held = again.held({}, {})
    assert held.read == held.readings == {1: 20, 2: 60}
    assert again.damaged == {}
    numbers = [one.position.number for one in again.read_after(again.first, records=100, size=2**30)]
    assert numbers[-1] == 40
    assert numbers == sorted(numbers)


async def test_a_disk_that_takes_nothing_drops_nothing(opened: Open, folder: Path) -> None:
    """Where what remains cannot be written, the records stay as they were."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    (folder / f"{min(folder.glob('*.hrj')).stem}.drop.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    assert journal.dropped() == []
    assert journal.dropped_readings == 0
    assert len([one for one in journal.read_after(Position(1, 0), records=100, size=2**30) if one.record]) == 40


async def test_how_old_the_oldest_is(opened: Open) -> None:
    """By the newest record of the oldest segment that could be dropped; the one that is written has no say."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 3)
    assert journal.age_ns(Position(1, 0), BASE + 100 * SECOND) == 0
    await _fill(journal, 20, first=4)
    made = await asyncio.to_thread(journal.drop, Position(1, 0), "journal_age")
    assert made is not None
    second = journal.read_after(Position(1, made.last), records=1)[0].record
    assert second is not None
    age = journal.age_ns(Position(1, 0), BASE + 100 * SECOND)
    assert 0 < age < BASE + 100 * SECOND - second.received_time


async def test_a_segment_ends_with_its_time(folder: Path) -> None:
    """Where age is bounded a quiet plant's readings do not stay in one segment for ever."""
    journal = Journal(folder, "test", commit_interval_s=0, budget=16 * MB, segment_s=0)
    for number in range(3):
        await journal.append(record(1, number, size=10))
    await asyncio.to_thread(journal.close)
    assert len(list(folder.glob("*.hrj"))) == 3


async def test_what_was_dropped_is_counted_once(opened: Open, engine: Engine) -> None:
    """The database counts it with a gap; asked again it counts nothing, and a late worker stores nothing."""
    journal = opened(budget=16 * MB)
    service.begin_epochs(engine, journal.id, [1])
    await _fill(journal, 40)
    late = journal.read_after(Position(1, 0), records=1)[0]
    made = await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    assert made is not None
    counts = {part.connection: part.counts.readings for part in made.parts}
    _decide(engine, journal)
    _decide(engine, journal)
    assert late.record is not None
    assert not applied(engine, journal, late.position, late.record)
    assert _ledger(engine) == {(one, "dropped", "journal_full"): n for one, n in counts.items()}
    after = journal.read_after(Position(1, made.last), records=1)[0]
    assert after.record is not None
    assert applied(engine, journal, after.position, after.record)
    assert service.advance(engine, journal.id, 1, ()) == made.last + 1
    _decide(engine, journal)
    assert service.progress(engine, journal.id, [1]).watermarks == {1: made.last + 1}
    with reading(engine) as session:
        gaps = [(one.connection_id, one.since, one.until, one.cause) for one in session.scalars(select(GapRow))]
    assert gaps == [(part.connection, part.since, part.until, "journal_full") for part in made.parts]
    held = service.account(engine, journal.id, [1], lambda seen: journal.held(seen.watermarks, seen.applied))
    assert held.records == 40 - made.last - 1
    with reading(engine) as session:
        for one in session.scalars(select(JournalStateRow)):
            assert one.read == one.stored + one.refused + one.dropped + one.held


async def test_nothing_is_decided_before_its_turn(opened: Open, engine: Engine) -> None:
    """A hole in the watermark would never close: what lies before is applied first."""
    journal = opened(budget=16 * MB)
    service.begin_epochs(engine, journal.id, [1])
    await _fill(journal, 40)
    await asyncio.to_thread(journal.drop, Position(1, 1), "journal_full")
    (stub,) = journal.dropped()
    assert service.claim(engine, journal.id, stub) is None
    assert _ledger(engine) == {}
    for number in range(1, stub.first):
        found = journal.read_after(Position(1, number - 1), records=1)[0].record
        assert found is not None
        assert applied(engine, journal, Position(1, number), found)
    service.advance(engine, journal.id, 1, ())
    _decide(engine, journal)
    assert service.progress(engine, journal.id, [1]).watermarks == {1: stub.last}


async def test_a_record_of_an_earlier_process_is_stored_or_dropped(opened: Open, engine: Engine) -> None:
    """What its workers apply before the database decides is stored, what they bring later is dropped; never both."""
    first = opened(budget=16 * MB)
    await _fill(first, 40)
    entries = first.read_after(Position(1, 0), records=40, size=2**30)
    await asyncio.to_thread(first.close)
    journal = opened(budget=16 * MB)
    service.begin_epochs(engine, journal.id, [1, 2])
    made = await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
    assert made is not None
    assert made.rows
    early, late = entries[1], entries[2]
    assert early.record is not None
    assert late.record is not None
    assert applied(engine, journal, early.position, early.record)
    await asyncio.to_thread(journal.close)
    again = opened(budget=16 * MB)
    _decide(engine, again)
    assert not applied(engine, again, late.position, late.record)
    ledger = _ledger(engine)
    whole = {part.connection: part.counts.readings for part in made.parts}
    assert ledger[early.record.connection, "stored", ""] == early.record.count
    assert ledger[early.record.connection, "dropped", "journal_full"] == whole.pop(1) - early.record.count
    assert ledger[2, "dropped", "journal_full"] == whole[2]


async def test_what_follows_lengthens_the_gap(opened: Open, engine: Engine) -> None:
    """Segments that were dropped one after the other are one gap; readings of a history are one of their own."""
    journal = opened(budget=16 * MB)
    service.begin_epochs(engine, journal.id, [1])
    await journal.append(record(1, 1, size=10, fill=FillRecord(5)))
    await _fill(journal, 40, first=100)
    last: dict[int, int] = {}
    for _ in range(2):
        made = await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
        assert made is not None
        last |= {part.connection: part.until for part in made.parts}
        _decide(engine, journal)
    with reading(engine) as session:
        gaps = {(one.connection_id, one.since, one.until) for one in session.scalars(select(GapRow))}
    first = {1: 100, 2: 101}
    assert gaps == {(1, BASE + SECOND, BASE + SECOND)} | {
        (one, BASE + first[one] * SECOND, last[one]) for one in (1, 2)
    }


async def test_a_full_disk_makes_room_by_dropping(opened: Open, tmp_path: Path) -> None:
    """A file system that is full before the budget is: what is dropped lets the journal go on, nothing else is lost."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(small)]
    if (await asyncio.to_thread(subprocess.run, mount, check=False, capture_output=True)).returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        journal = opened(small / "journal", budget=16 * MB)
        waiting = asyncio.create_task(_fill(journal, 60))
        await wait_for(lambda: journal.state.state == "stopped")
        assert "make room" in journal.state.reason
        assert journal.crowded
        while not waiting.done():
            if journal.crowded:
                await asyncio.to_thread(journal.drop, Position(1, 0), "journal_full")
            await asyncio.sleep(0)
        assert journal.state.state == "running"
        assert journal.held({}, {}).readings == journal.held({}, {}).read == {1: 30, 2: 90}
        journal.close()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(small)], check=True)
