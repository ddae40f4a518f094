"""Dropping by priority: readings go from inside segments, the lowest first, and each record keeps its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from app.db import make_engine, reading, upgrade, writing
from app.journal import Entry, Journal, Position, service
from app.journal.room import nothing_kept
from app.ledger.service import accounts
from app.ledger.tables import GapRow
from app.records import FillRecord, RefusalRecord
from app.sources.tables import ConnectionRow
from tests.app.journal.dropping import BASE, SECOND, applied, record

Open = Callable[..., Journal]
MB = 2**20
START = Position(0, 0)
LOW, HIGH = 1, 2


async def _fill(journal: Journal, records: int) -> None:
    """Records of two connections in turn, three readings in each."""
    for number in range(1, records + 1):
        await journal.append(record(LOW if number % 2 else HIGH, number, readings=3))


def _thin(journal: Journal, beyond: Position = START) -> int | None:
    return journal.thin(beyond, "journal_full", lambda connection: connection)


def _entries(journal: Journal, after: Position = START) -> list[Entry]:
    return journal.read_after(after, records=1000, size=2**30)


async def test_the_lowest_goes_first_and_every_record_keeps_its_place(opened: Open, folder: Path) -> None:
    """The readings of one connection leave the oldest segment; numbers, the other one and the sums stay."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    before, bytes_ = _entries(journal), journal.state.bytes
    assert await asyncio.to_thread(_thin, journal) == journal.dropped_readings > 0
    assert journal.state.bytes < bytes_ - MB // 4
    assert journal.state.bytes == sum(one.stat().st_size for one in folder.glob("*.hrj"))
    after = _entries(journal)
    assert [one.position for one in after] == [one.position for one in before]
    gone = [one.record for one in after if one.record and one.record.dropped]
    assert {one.connection for one in gone} == {LOW}
    assert 3 * len(gone) == journal.dropped_readings
    assert [one for one in after if one.record and not one.record.dropped] == [
        one
        for one in before
        if one.record
        and one.record not in gone
        and one.record.received_time not in {each.received_time for each in gone}
    ]
    assert journal.held({}, {}).readings == journal.held({}, {}).read == {LOW: 60, HIGH: 60}
    # One after the other they cover the time without a hole.
    spans = [(one.dropped.since, one.alive) for one in gone if one.dropped]
    assert all(since <= until for (_, until), (since, _) in pairwise(spans))
    await asyncio.to_thread(journal.close)
    again = opened(budget=16 * MB)
    assert [one for one in _entries(again) if one.record] == [one for one in after if one.record]
    assert again.held({}, {}).read == {LOW: 60, HIGH: 60}
    assert again.damaged == {}


async def test_each_lowest_segment_then_nothing_is_lower(opened: Open) -> None:
    """Segment after segment; once only one rank is left, dropping whole segments is as good."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    sums = []
    while (went := await asyncio.to_thread(_thin, journal)) is not None:
        sums.append(went)
    gone = [one.position for one in _entries(journal) if one.record and one.record.dropped]
    assert gone == sorted(gone)
    assert len(sums) > 2
    assert sum(sums) == 3 * len(gone)
    # Never the segment that is written to, nor what may be on its way.
    assert journal.head not in gone
    assert await asyncio.to_thread(journal.drop, START, "journal_full") is not None


async def test_what_may_be_on_its_way_stays(opened: Open) -> None:
    """Segments that begin at or before the last record that was read to be sent are left alone."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 30)
    beyond = Position(1, 12)
    while await asyncio.to_thread(_thin, journal, beyond) is not None:
        pass
    assert all(one.position > beyond for one in _entries(journal) if one.record and one.record.dropped)


async def test_only_what_waits_is_dropped_where_the_newest_went_first(opened: Open) -> None:
    """Of a backlog that others overtook: nothing at or before its place, and nothing that went before it."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 60)
    beyond, until = Position(1, 12), Position(1, 40)
    assert journal.waiting(beyond) == 48
    while await asyncio.to_thread(journal.thin, beyond, "journal_full", lambda key: key, nothing_kept, until):
        pass
    gone = [one.position for one in _entries(journal) if one.record and one.record.dropped]
    assert gone
    assert all(beyond < one <= until for one in gone)
    dropped = []
    while made := await asyncio.to_thread(journal.drop, beyond, "journal_full", nothing_kept, until):
        dropped.append((made.first, made.last))
    assert dropped
    assert all(12 < first <= last <= 40 for first, last in dropped)
    assert journal.waiting(beyond) == 48


async def test_what_is_no_reading_stays(opened: Open) -> None:
    """Refusals, what the peer lost, and what was read from a history are no readings to drop."""
    journal = opened(budget=16 * MB)
    refused = (RefusalRecord("x", "wrong_type", "", b"", 2),)
    odd = msgspec.structs.replace(record(LOW, 1), refused=refused, lost=4)
    await journal.append(odd)
    await journal.append(record(LOW, 2, fill=FillRecord(1)))
    await _fill(journal, 30)
    await asyncio.to_thread(_thin, journal)
    first, fill = (one.record for one in _entries(journal)[:2])
    assert first is not None
    assert (first.refused, first.lost, first.count, first.readings()) == (refused, 4, 0, 3)
    assert fill is not None
    assert (fill.dropped, fill.count) == (None, 1)


@pytest.mark.parametrize("left", ["unfinished", "old"])
async def test_a_kill_in_the_middle_drops_all_or_nothing(opened: Open, folder: Path, left: str) -> None:
    """A half-written file is nothing; where the old one came back, its readings are there again and counted once."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    (oldest, *_) = sorted(folder.glob("*.hrj"))
    content = oldest.read_bytes()
    await asyncio.to_thread(_thin, journal)
    await asyncio.to_thread(journal.close)
    if left == "unfinished":
        oldest.with_suffix(".thin").write_bytes(oldest.read_bytes()[:-7])
    oldest.write_bytes(content)
    again = opened(budget=16 * MB)
    assert not list(folder.glob("*.thin"))
    assert not [one for one in _entries(again) if one.record and one.record.dropped]
    assert again.held({}, {}).readings == {LOW: 60, HIGH: 60}
    assert again.damaged == {}


async def test_a_disk_that_takes_nothing_leaves_it_as_it_was(opened: Open, folder: Path) -> None:
    """The copy that cannot be written is gone, the segment is whole."""
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    (oldest, *_) = sorted(folder.glob("*.hrj"))
    oldest.with_suffix(".thin").mkdir()
    before = _entries(journal)
    with pytest.raises(OSError, match="directory"):
        await asyncio.to_thread(_thin, journal)
    oldest.with_suffix(".thin").rmdir()
    assert _entries(journal) == before
    assert journal.dropped_readings == 0


async def test_a_worker_counts_what_went_and_tells_the_gap(opened: Open, database_url: str) -> None:
    """Whoever is first decides: the record as it was, from an earlier process, or without its readings; once."""
    upgrade(database_url)
    engine = make_engine(database_url)
    journal = opened(budget=16 * MB)
    await _fill(journal, 40)
    before = {one.position: one.record for one in _entries(journal)}
    await asyncio.to_thread(_thin, journal)
    service.begin_epochs(engine, journal.id, [journal.epoch])
    with writing(engine) as session:
        session.add_all(ConnectionRow(name=str(key), connector="opcua", options={}) for key in (LOW, HIGH))
    after = [(one.position, one.record) for one in _entries(journal) if one.record]
    early = next(position for position, one in after if one.dropped)
    original = before[early]
    assert original is not None
    assert applied(engine, journal, early, original)
    for _ in range(2):
        for position, one in after:
            assert one is not None
            applied(engine, journal, position, one)
    service.account(engine, journal.id, [1], lambda seen: journal.held(seen.watermarks, seen.applied))
    low, high = accounts(engine)
    assert (low.name, low.balanced, low.held, high.balanced) == ("1", True, 0, True)
    assert low.dropped == low.reasons["dropped", "journal_full"] == journal.dropped_readings - 3
    assert (high.dropped, high.stored) == (0, 60)
    with reading(engine) as session:
        ((connection, since, until, cause),) = session.execute(
            select(GapRow.connection_id, GapRow.since, GapRow.until, GapRow.cause)
        ).all()
    engine.dispose()
    times = [one.received_time for position, one in after if one and one.dropped and position != early]
    assert (connection, cause) == (LOW, "journal_full")
    assert BASE < since <= min(times) < max(times) == until <= BASE + 40 * SECOND
