"""Damage to the disk: whatever it took of a journal is known by number and connection, and counts once as dropped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from app.db import make_engine, reading, upgrade
from app.journal import Journal, Position, service
from app.journal.damage import BEYOND, DAMAGED
from app.journal.frames import Kind, Meta, frame, record_payload, totals_payload
from app.journal.index import Index, load
from app.ledger.tables import GapRow, JournalStateRow, LedgerRow
from app.records import RefusalRecord, tick
from tests.app.journal.dropping import BASE, SECOND, applied, record

Open = Callable[..., Journal]
GOOD = 7
"""Numbers at the end of every epoch that are left alone: what is torn there was never promised."""


class Disk:
    """Segments of two epochs with records of three connections, byte for byte as a journal writes them."""

    def __init__(self, folder: Path, sizes: list[int]) -> None:
        """`sizes`: records of each segment; every second one begins an epoch."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.readings: dict[Position, tuple[int, int]] = {}
        self.frames: list[tuple[Path, int, bytes, Position | None]] = []
        totals: dict[int, int] = {}
        epoch = number = 0
        for serial, size in enumerate(sizes):
            if serial % 2 == 0:
                epoch, number = epoch + 1, 0
            path = folder / f"{epoch:08d}-{serial % 2 + 1:08d}.hrj"
            head = frame(Meta(Kind.TOTALS, Position(epoch, number), 0, 0, 0), totals_payload(totals))
            content = head
            spots: list[tuple[int, bytes, Position | None]] = [(0, head, None)]
            for _ in range(size + (GOOD if serial % 2 or serial == len(sizes) - 1 else 0)):
                number += 1
                connection, count = number % 4, (number % 4) * (1 + number % 3)
                totals[connection] = totals.get(connection, 0) + count
                at = Position(epoch, number)
                meta = Meta(Kind.RECORD, at, connection, totals[connection], count)
                one = record(connection, number + 1000 * epoch, readings=count, size=8) if connection else tick(BASE)
                data = frame(meta, record_payload(one))
                self.readings[at] = (connection, count)
                spots.append((len(content), data, at))
                content += data
            path.write_bytes(content)
            self.frames += [(path, offset, data, at) for offset, data, at in spots]
        self.totals = {key: total for key, total in totals.items() if key}

    def spoil(self, which: int) -> None:
        """Change one byte in the middle of a frame."""
        path, offset, data, _ = self.frames[which]
        with path.open("r+b") as file:
            file.seek(offset + len(data) // 2)
            file.write(bytes([data[len(data) // 2] ^ 0xFF]))


def _read(index: Index) -> tuple[set[Position], set[Position], Counter[int]]:
    """Positions that are read back, positions that are told to be gone, and readings told with these."""
    there, gone, missing = set(), set(), Counter[int]()
    at = Position(0, 0)
    while entries := index.read_after(at, 1000, 2**30):
        for entry in entries:
            if entry.remains is not None:
                gone |= {Position(entry.position.epoch, n) for n in range(entry.remains.first, entry.remains.last + 1)}
                missing.update({part.connection: part.counts.readings for part in entry.remains.parts})
            else:
                assert entry.record is not None
                there.add(entry.position)
        at = entries[-1].position
    return there, gone, missing


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_every_number_is_read_or_told_to_be_gone(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    """Spoil any frames, heads of files too: no number is skipped without a word, and no reading."""
    disk = Disk(tmp_path_factory.mktemp("disk"), sizes)
    ends = {epoch: max(one.number for one in disk.readings if one.epoch == epoch) for epoch, _ in disk.readings}
    may = [i for i, (*_, at) in enumerate(disk.frames) if i and (at is None or at.number <= ends[at.epoch] - GOOD)]
    for which in data.draw(st.sets(st.sampled_from(may), max_size=8)):
        disk.spoil(which)
    index = load(disk.folder)
    there, gone, missing = _read(index)
    assert there | gone == set(disk.readings)
    assert not there & gone
    lost = Counter[int]()
    for at in gone:
        connection, count = disk.readings[at]
        if connection:
            lost[connection] += count
    assert +missing == +lost == Counter(index.damaged)
    held = index.held({}, {})
    assert held.read == index.totals
    assert {k: n for k, n in held.readings.items() if n} == {k: n for k, n in disk.totals.items() if n}


def test_the_head_of_the_oldest_file_costs_nothing(tmp_path: Path) -> None:
    """What was counted before it is carried on by the records; nothing is called lost."""
    disk = Disk(tmp_path, [9, 9])
    released = disk.frames[0][0]
    head = next(i for i, (path, *_) in enumerate(disk.frames) if path != released)
    disk.spoil(head)
    released.unlink()
    index = load(tmp_path)
    there, gone, _ = _read(index)
    assert (there, gone, index.damaged) == ({at for at in disk.readings if at.number > 9}, set(), {})
    assert {k: n for k, n in index.totals.items() if k} == disk.totals


def test_an_end_that_is_gone_is_told_by_the_next_epoch(tmp_path: Path) -> None:
    """A file that lost its last records after the next epoch had begun: readings are known, the numbers given up."""
    disk = Disk(tmp_path, [9, 9, 9])
    path = tmp_path / "00000001-00000002.hrj"
    last = max(at for at in disk.readings if at.epoch == 1)
    first = last._replace(number=last.number - 4)
    cut = next(offset for one, offset, _, at in disk.frames if one == path and at == first)
    with path.open("r+b") as file:
        file.truncate(cut)
    index = load(tmp_path)
    (stub,) = index.stubs()
    assert (stub.epoch, stub.first, stub.last) == (1, last.number - 4, last.number - 5 + BEYOND)
    lost = Counter[int]()
    for number in range(last.number - 4, last.number + 1):
        connection, count = disk.readings[Position(1, number)]
        lost[connection] += count
    told = {part.connection: part.counts.readings for part in stub.remains.parts}
    assert told == {key: n for key, n in lost.items() if key}


def test_a_hole_says_from_when_to_when(tmp_path: Path) -> None:
    """From the last sign of life of a connection before it to the first record behind it."""
    disk = Disk(tmp_path, [13])
    for which in (6, 7, 8):
        disk.spoil(which)
    (stub,) = load(tmp_path).stubs()
    assert (stub.first, stub.last, stub.remains.reason) == (6, 8, DAMAGED)
    at = {part.connection: (part.since - BASE, part.until - BASE) for part in stub.remains.parts}
    assert at == {key: (since * SECOND, 1009 * SECOND) for key, since in {1: 1005, 2: 1002, 3: 1003}.items()}


def test_one_record_that_is_gone_touches_its_connection_alone(tmp_path: Path) -> None:
    """A single record with readings has one connection, and the running counts say which."""
    disk = Disk(tmp_path, [13])
    disk.spoil(6)
    (stub,) = load(tmp_path).stubs()
    connection, count = disk.readings[Position(1, 6)]
    assert [(part.connection, part.counts.readings) for part in stub.remains.parts] == [(connection, count)]


def test_a_file_stays_until_its_last_part_is_needed_no_more(tmp_path: Path) -> None:
    """A file that damage has parted is released as one."""
    disk = Disk(tmp_path, [20, 3])
    disk.spoil(10)
    index = load(tmp_path)
    path, size = disk.frames[0][0], index.bytes()
    assert size == sum(one.stat().st_size for one in tmp_path.glob("*.hrj"))
    assert index.release(Position(1, 15)) == set()
    assert index.release(Position(1, 20)) == {path}
    assert index.bytes() == size - path.stat().st_size


def test_a_file_that_damage_has_parted_is_not_dropped(tmp_path: Path) -> None:
    """What would be left of it would count the part that stays twice."""
    disk = Disk(tmp_path, [20, 20])
    disk.spoil(10)
    assert next(load(tmp_path).droppable(Position(0, 0)), None) is None


@pytest.mark.parametrize(("counts_s", "known"), [(0.0, {2: 5}), (3600.0, {})])
async def test_a_connection_that_fell_silent_is_counted_too(
    tmp_path: Path, counts_s: float, known: dict[int, int]
) -> None:
    """Running counts between records know of a connection that sent nothing since; without them nobody does."""
    folder = tmp_path / "journal"
    journal = Journal(folder, "test", commit_interval_s=0, budget=16 * 2**20, counts_s=counts_s)
    for connection in (1, 2, 1, 1, 1):
        await journal.append(record(connection, 1, readings=5, size=50))
    size = journal.state.bytes
    await asyncio.to_thread(journal.close)
    (path,) = folder.glob("*.hrj")
    content = path.read_bytes()
    assert size == len(content)
    at = content.index(record_payload(record(2, 1, readings=5, size=50)))
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    index = load(folder)
    assert index.damaged == known
    assert [one.first for one in index.stubs()] == [2]
    assert len(_read(index)[0]) == 4


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database at the newest schema."""
    upgrade(database_url)
    made = make_engine(database_url)
    yield made
    made.dispose()


async def _five(journal: Journal) -> None:
    """Two records of one connection, two of another, one of each; one that damage takes has a reading refused."""
    no = (RefusalRecord("ns=2;i=1", "wrong_type", "", b"", 1),)
    for number, (connection, refused) in enumerate([(1, ()), (1, ()), (2, ()), (2, no), (1, no), (2, ())], 1):
        await journal.append(msgspec.structs.replace(record(connection, number, readings=3, size=50), refused=refused))


@pytest.mark.parametrize("there", [set(), {3}, {2, 3}, {2, 4}, {2, 3, 4}])
async def test_what_the_database_has_is_not_counted_as_dropped(
    opened: Open, engine: Engine, folder: Path, there: set[int]
) -> None:
    """Records 2 to 4 are gone, some of them applied before: the others are dropped, with a gap, once."""
    first = opened()
    service.begin_epochs(engine, first.id, [1])
    await _five(first)
    entries = first.read_after(Position(1, 0))
    first.close()
    (path,) = folder.glob("*.hrj")
    content = path.read_bytes()
    for entry in entries[1:4]:
        at = content.index(record_payload(entry.record)) if entry.record else 0
        content = content[: at + 3] + bytes([content[at + 3] ^ 1]) + content[at + 4 :]
    path.write_bytes(content)
    journal = opened()
    service.begin_epochs(engine, journal.id, [1, 2])
    for number in {1, *there}:
        brought = entries[number - 1]
        assert brought.record is not None
        assert applied(engine, journal, brought.position, brought.record)
    service.advance(engine, journal.id, 1, ())
    (stub,) = journal.dropped()
    for _ in range(2):
        assert service.claim(engine, journal.id, stub) is not None
    dropped: Counter[int] = Counter()
    for number in {2, 3, 4} - there:
        one = entries[number - 1].record
        assert one is not None
        dropped[one.connection] += one.readings()
    over = 1 if there == {2, 4} else 0
    with reading(engine) as session:
        dropped_now = select(LedgerRow).where(LedgerRow.fate == "dropped", LedgerRow.reason == DAMAGED)
        rows = {one.connection_id: one.readings for one in session.scalars(dropped_now)}
        gaps = {one.connection_id for one in session.scalars(select(GapRow).where(GapRow.cause == DAMAGED))}
    dropped[2] += over
    expected = {key: n for key, n in dropped.items() if n}
    assert rows == expected
    assert gaps == set(expected)
    for entry in entries[4:]:
        assert entry.record is not None
        assert applied(engine, journal, entry.position, entry.record)
    service.account(engine, journal.id, [1, 2], lambda seen: journal.held(seen.watermarks, seen.applied))
    with reading(engine) as session:
        for row in session.scalars(select(JournalStateRow)):
            extra = over if row.connection_id == 2 else 0
            assert row.read + extra == row.stored + row.refused + row.dropped + row.held
