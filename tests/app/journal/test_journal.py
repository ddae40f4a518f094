"""The journal in one process: order, numbers, groups, release, and what a scan counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from app.journal import Journal, JournalBusyError, JournalError, Position
from app.journal.frames import DamagedError
from app.records import Record, RefusalRecord, tick

Open = Callable[..., Journal]


def _record(connection: int = 1, count: int = 1, payload: bytes = b"x", refused: int = 0) -> Record:
    refusals = (RefusalRecord("a", "wrong_type", "", b"", refused),) if refused else ()
    return Record(connection, 1, 10, 10, count, 10, 10, 0, refusals, payload)


async def test_records_come_back_in_the_order_they_were_appended(opened: Open) -> None:
    """Numbers run 1, 2, 3… and each record reads back as it was written."""
    journal = opened()
    records = [_record(payload=bytes([i])) for i in range(10)]
    positions = [await journal.append(one) for one in records]
    assert positions == [Position(1, i + 1) for i in range(10)]
    entries = journal.read_after(Position(1, 0))
    assert [one.record for one in entries] == records
    assert [one.position for one in journal.read_after(Position(1, 7))] == positions[7:]
    assert journal.read_after(Position(1, 10)) == []


async def test_reading_stops_at_the_number_and_size_asked_for(opened: Open) -> None:
    """A reader takes what it can hold."""
    journal = opened()
    await asyncio.gather(*(journal.append(_record(payload=bytes(1000))) for _ in range(10)))
    assert len(journal.read_after(Position(1, 0), records=3)) == 3
    assert len(journal.read_after(Position(1, 0), size=2500)) == 3
    assert len(journal.read_after(Position(1, 0), size=1)) == 1


async def test_appends_that_come_together_share_one_fsync(opened: Open) -> None:
    """Records that arrive within the commit interval are durable at once, each under its own number."""
    journal = opened(commit_interval_s=0.05)
    await journal.append(_record())
    positions = await asyncio.gather(*(journal.append(_record()) for _ in range(50)))
    assert sorted(positions) == [Position(1, i + 2) for i in range(50)]
    assert journal.head == Position(1, 51)


async def test_each_opening_begins_an_epoch_and_keeps_the_identity(opened: Open) -> None:
    """Numbers begin anew in a new epoch, never again in an old one; counts and records go on."""
    first = opened()
    await first.append(_record(1, 5))
    await first.append(_record(2, 7))
    first.close()
    second = opened()
    assert (second.id, second.epoch) == (first.id, 2)
    assert await second.append(_record(1, 3)) == Position(2, 1)
    entries = second.read_after(Position(1, 0))
    assert [one.position for one in entries] == [Position(1, 1), Position(1, 2), Position(2, 1)]
    assert second.held({}, {}).read == {1: 8, 2: 7}
    assert second.epochs() == [(1, 1, 2), (2, 1, 1)]
    assert second.first == Position(1, 0)


async def test_two_folders_are_never_the_same_journal(opened: Open, tmp_path: Path) -> None:
    """A folder that was wiped comes back under another identity, so that old batch ids mean nothing to it."""
    assert opened(tmp_path / "a").id != opened(tmp_path / "b").id


async def test_one_process_holds_a_journal(opened: Open, folder: Path) -> None:
    """A second opening is refused, and works once the first has let go."""
    first = opened()
    with pytest.raises(JournalBusyError, match="another process holds"):
        opened()
    first.close()
    assert opened(folder).epoch == 2


async def test_a_lost_identity_is_refused(opened: Open, folder: Path) -> None:
    """Without the epoch file numbers could be handed out twice: the journal says so and does not open."""
    journal = opened()
    await journal.append(_record())
    journal.close()
    identity = (folder / "epoch").read_bytes()
    (folder / "epoch").unlink()
    with pytest.raises(JournalError, match="is gone but segments are there"):
        opened()
    (folder / "epoch").write_bytes(b"{")
    with pytest.raises(JournalError, match="is damaged"):
        opened()
    (folder / "epoch").write_bytes(identity)
    assert opened().epoch == 2


async def test_an_epoch_is_never_older_than_the_segments(opened: Open, folder: Path) -> None:
    """A restored epoch file does not bring numbers back that were handed out after it was saved."""
    journal = opened()
    saved = (folder / "epoch").read_bytes()
    journal.close()
    journal = opened()
    await journal.append(_record())
    journal.close()
    (folder / "epoch").write_bytes(saved)
    assert opened().epoch == 3


async def test_nothing_is_accepted_after_closing(opened: Open) -> None:
    """A closed journal says so, and closing twice is no fault."""
    journal = opened()
    journal.close()
    journal.close()
    assert journal.state.state == "closed"
    with pytest.raises(JournalError, match="closed"):
        await journal.append(_record())


async def test_held_is_counted_record_by_record(opened: Open) -> None:
    """Held readings are those of records neither below the watermark nor applied above it, refusals included."""
    journal = opened()
    for count in (1, 2, 4, 8, 16):
        await journal.append(_record(1, count))
    await journal.append(_record(2, 0, b"", refused=3))
    await journal.append(tick(5))
    held = journal.held({1: 2}, {1: {4}})
    assert held.read == {1: 31, 2: 3, 0: 0}
    assert (held.readings[1], held.readings[2]) == (4 + 16, 3)
    assert held.records == 4
    assert held.head == Position(1, 7)
    everything = journal.held({1: 7}, {})
    assert (everything.records, dict(everything.readings)) == (0, {})


async def test_a_switch_has_its_place_in_the_order(opened: Open) -> None:
    """Which pipeline versions are in force is journaled among the records."""
    journal = opened()
    await journal.append(_record())
    await journal.switch([3, 5])
    entries = journal.read_after(Position(1, 0))
    assert (entries[1].versions, entries[1].record) == ((3, 5), None)
    assert journal.held({}, {}).records == 1


async def test_released_segments_leave_the_disk_and_the_counts_stay(opened: Open, folder: Path) -> None:
    """Whole segments up to a position are deleted; running counts outlive them, over a restart too."""
    journal = opened(budget=16 * 2**20)
    for _ in range(5):
        await journal.append(_record(1, 10, bytes(600_000)))
    assert journal.state.segments == 3
    assert journal.release(Position(1, 3)) == 1
    assert journal.first == Position(1, 2)
    assert len(list(folder.glob("*.hrj"))) == 2
    assert journal.release(Position(1, 5)) == 1
    assert journal.state.segments == 1
    assert journal.release(Position(1, 5)) == 0
    journal.close()
    again = opened(budget=16 * 2**20)
    assert again.held({}, {}).read == {1: 50}
    assert again.read_after(again.first)[0].position == Position(1, 5)


async def test_a_reader_waits_for_the_next_record(opened: Open) -> None:
    """Waiting ends with the record, not with time."""
    journal = opened()
    waiting = asyncio.create_task(journal.grown_beyond(Position(1, 0)))
    await asyncio.sleep(0)
    assert not waiting.done()
    await journal.append(_record())
    await asyncio.wait_for(waiting, 5)
    await asyncio.wait_for(journal.grown_beyond(Position(1, 0)), 5)


async def test_a_cancelled_append_is_written_all_the_same(opened: Open) -> None:
    """Whoever stops waiting changes nothing for the others: the number is taken and stays in order."""
    journal = opened(commit_interval_s=0.2)
    await journal.append(_record())
    cancelled = asyncio.create_task(journal.append(_record(payload=b"cancelled")))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await journal.append(_record()) == Position(1, 3)
    record = journal.read_after(Position(1, 1))[0].record
    assert record is not None
    assert record.columns == b"cancelled"


async def test_bytes_that_changed_on_disk_are_never_handed_out(opened: Open, folder: Path) -> None:
    """A record that reads back otherwise than it was written raises, and is not taken for a batch."""
    journal = opened()
    await journal.append(_record(payload=b"abcdefgh" * 100))
    path = next(folder.glob("*.hrj"))
    path.write_bytes(path.read_bytes().replace(b"abcdefgh" * 100, b"abcdefgi" * 100))
    with pytest.raises(DamagedError):
        journal.read_after(Position(1, 0))
