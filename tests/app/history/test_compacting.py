"""Compacted or not, the history answers the same; and whatever happens meanwhile, each reading is in it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import event, func, select, update

from app.compacting import FULL, MOST
from app.db import make_engine, reading, writing
from app.history import queries
from app.history.service import CompactedElsewhereError, compact, fold, merge
from app.history.tables import AxisRow, ChunkRow, CompactionRow
from app.journal.damage import absent
from app.journal.frames import Position
from app.journal.remains import Counts, Part
from app.journal.service import absent as absent_numbers
from app.journal.service import advance, claim
from app.readings import service as readings
from app.readings.tables import BatchRow
from connectors import NO_TIME
from tests.app.history.past import TAGS
from tests.app.works import SECOND, START

if TYPE_CHECKING:
    from app.db import Base
    from tests.app.history.past import Past

DAY = 86_400 * SECOND
ALL = START - 1000 * SECOND, START + DAY


def rows(past: Past, of: type[Base]) -> int:
    """How many rows a table has."""
    with reading(past.works.engine) as session:
        return session.scalar(select(func.count()).select_from(of)) or 0


def same(past: Past) -> None:
    """Whole, in part, and page by page, the history answers what arrived."""
    middle = START + 30 * SECOND
    for tag in TAGS:
        assert past.read(tag, *ALL) == past.expected(tag, *ALL)
        assert past.read(tag, middle, middle + 20 * SECOND) == past.expected(tag, middle, middle + 20 * SECOND)
        assert past.read(tag, ALL[0], ALL[1], 7) == past.expected(tag, *ALL)[:7]
        found = readings.series(past.works.engine, tag, *ALL)
        assert [found.value(row) for row in range(len(found))] == [one[1] for one in past.expected(tag, *ALL)]


@pytest.mark.parametrize("seed", range(3))
def test_it_answers_the_same_before_while_and_after(past: Past, seed: int) -> None:
    """Batches, batches and chunks, chunks and merged chunks; with late, repeated, odd and filled readings in all."""
    past.random(seed, 60)
    same(past)
    past.applied()
    assert compact(past.works.engine, most=100).batches
    same(past)
    while compact(past.works.engine, most=50).batches:
        pass
    assert rows(past, BatchRow) == 0
    same(past)
    past.random(seed + 10, 20)
    same(past)
    while merge(past.works.engine, together=3).chunks:
        same(past)
    assert rows(past, ChunkRow) < 20
    assert readings.counts(past.works.engine) == {1: len(past.arrived)}


def test_what_is_not_decided_stays_a_batch(past: Past) -> None:
    """The journal decides first; a hole below holds up what lies above it and nothing else."""
    past.store([(1, 0, 1.0, 0)], 0)
    past.works.number += 1
    past.store([(1, SECOND, 2.0, 0)], SECOND)
    assert compact(past.works.engine).batches == 0
    past.applied()
    assert compact(past.works.engine).batches == 1
    assert rows(past, BatchRow) == 1
    same(past)


def test_two_at_once_do_it_once(past: Past) -> None:
    """The second finds the batches gone, does nothing, and says so."""
    past.random(1, 20)
    past.applied()
    second, begun = make_engine(past.works.url), list[object]()

    def first_of_all(connection: object) -> None:
        begun.append(connection)
        if len(begun) == 2:
            assert compact(past.works.engine).batches == 20

    event.listen(second, "engine_connect", first_of_all)
    with pytest.raises(CompactedElsewhereError):
        compact(second)
    second.dispose()
    assert rows(past, CompactionRow) == 1
    same(past)


def test_a_spoilt_batch_stays_and_the_others_go(past: Past) -> None:
    """One that the disk gives back wrong holds nothing up."""
    past.random(2, 5)
    past.applied()
    with writing(past.works.engine) as session:
        session.execute(update(BatchRow).where(BatchRow.number == 2).values(columns=b"spoilt"))
    assert compact(past.works.engine).batches == 4
    assert compact(past.works.engine).batches == 0
    assert rows(past, BatchRow) == 1


def test_a_spoilt_chunk_is_not_merged_away(past: Past) -> None:
    """It stays with those of its tag; another tag's are merged."""
    for number in range(4):
        past.store([(1, number * SECOND, 1.0, 0), (3, number * SECOND + 1, 2.0, 0)], number * SECOND)
        past.applied()
        compact(past.works.engine)
    with writing(past.works.engine) as session:
        session.execute(update(ChunkRow).where(ChunkRow.tag_id == 1, ChunkRow.id <= 2).values(block=b"spoilt"))
    assert merge(past.works.engine, together=4).chunks == 4
    with reading(past.works.engine) as session:
        of_each = session.execute(select(ChunkRow.tag_id, func.count()).group_by(ChunkRow.tag_id)).all()
    assert {tuple(one) for one in of_each} == {(1, 4), (3, 1)}
    assert past.read(3, *ALL) == past.expected(3, *ALL)


def test_times_that_tags_share_are_stored_once_and_leave_with_the_last_of_them(past: Past) -> None:
    """A scan stamps its tags alike; when two axes become one, the two go."""
    for number in range(2):
        at = number * 10 * SECOND
        past.store([(tag, at + step * SECOND, 1.0, 0) for step in range(5) for tag in TAGS], at)
        past.applied()
        compact(past.works.engine)
    assert (rows(past, ChunkRow), rows(past, AxisRow)) == (4, 2)
    assert merge(past.works.engine, together=2).chunks == 4
    assert (rows(past, ChunkRow), rows(past, AxisRow)) == (2, 1)
    same(past)


def test_a_chunk_is_full_at_half_of_what_it_may_hold(past: Past) -> None:
    """Many readings become few chunks of nearly equal size, which are left alone."""
    count = 2 * MOST + 2
    past.store([(1, step * SECOND // 100, float(step), 0) for step in range(count)], DAY)
    past.applied()
    compact(past.works.engine)
    with reading(past.works.engine) as session:
        found = session.execute(select(ChunkRow.readings, ChunkRow.level)).all()
    assert sum(one.readings for one in found) == count
    assert all(MOST // 2 <= one.readings <= MOST and one.level == FULL for one in found)
    assert merge(past.works.engine, together=1).chunks == 0


def test_a_clock_that_began_at_1970_gets_a_chunk_of_its_own(past: Past) -> None:
    """Else the chunk would cover fifty years, and every question would have to read it."""
    past.store([(1, -START + 5, 1.0, 0), (1, 0, 2.0, 0), (1, SECOND, 3.0, 0)], SECOND)
    past.applied()
    compact(past.works.engine)
    with reading(past.works.engine) as session:
        assert sorted(session.scalars(select(ChunkRow.readings))) == [1, 2]
    assert past.read(1, 0, START + DAY) == past.expected(1, 0, START + DAY)


def test_the_newest_of_each_tag_is_found_wherever_it_lies(past: Past) -> None:
    """In a chunk, in a batch, and in a chunk although a late batch came after it."""
    past.store([(1, 10 * SECOND, 1.0, 0), (3, 10 * SECOND, 2.0, 0)], 10 * SECOND)
    past.store([(1, NO_TIME, "newest", 0)], 12 * SECOND)
    past.applied()
    compact(past.works.engine)
    past.store([(3, 5 * SECOND, 9.0, 0)], 13 * SECOND)
    found = readings.latest(past.works.engine, TAGS)
    assert {tag: one.value for tag, one in found.items()} == {1: "newest", 3: 2.0}
    past.store([(3, 11 * SECOND, 4.0, 0)], 14 * SECOND)
    assert readings.latest(past.works.engine, [3])[3].value == 4.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("points", [1, 7, 500])
def test_a_trend_is_that_of_the_readings(past: Past, seed: int, points: int) -> None:
    """Least, greatest and mean of each part, out of chunks read and chunks not read, and out of batches."""
    past.random(seed, 40)
    past.applied()
    while compact(past.works.engine, most=40).batches:
        pass
    past.random(seed + 5, 10)
    start, end = START + 3 * SECOND + 1, START + 47 * SECOND
    found = readings.trend(past.works.engine, 1, start, end, points)
    edges = [start + (end - start) * at // points for at in range(points + 1)]
    for at in range(points):
        values = [
            value for tag, time, value, status, _ in past.arrived
            if tag == 1 and edges[at] <= time < edges[at + 1] and isinstance(value, float) and status >> 30 < 2
        ]  # fmt: skip
        assert int(found.start[at]) == edges[at]
        assert int(found.count[at]) == len(values)
        expected = [min(values), max(values), sum(values) / len(values)] if values else [np.nan] * 3
        np.testing.assert_allclose([found.minimum[at], found.maximum[at], found.mean[at]], expected, rtol=1e-12)


@pytest.mark.parametrize("points", [1, 3, 4])
def test_a_trend_takes_whole_chunks_by_what_is_known_of_them(past: Past, points: int) -> None:
    """One chunk lies in a part, the next over two or more, and bad readings and texts count in neither."""
    for begin in (10, 20, 50):
        rows_of_chunk = [(1, (begin + n) * SECOND, float(begin * n % 7), 0) for n in range(10)]
        odd = [(1, begin * SECOND + 1, 1e9, 0x80000000), (1, begin * SECOND + 2, "text", 0)]
        past.store([*rows_of_chunk, *odd], (begin + 10) * SECOND)
        past.applied()
        compact(past.works.engine)
    found = readings.trend(past.works.engine, 1, START, START + 60 * SECOND, points)
    for at in range(points):
        seconds = range(60 * at // points, 60 * (at + 1) // points)
        values = [float(b * n % 7) for b in (10, 20, 50) for n in range(10) if b + n in seconds]
        assert int(found.count[at]) == len(values)
        expected = [min(values), max(values), sum(values) / len(values)] if values else [np.nan] * 3
        np.testing.assert_allclose([found.minimum[at], found.maximum[at], found.mean[at]], expected, rtol=1e-12)


def test_what_was_compacted_is_known_by_its_numbers(past: Past) -> None:
    """A journal that lost its files asks which of its records were stored."""
    past.random(3, 30)
    past.applied()
    compact(past.works.engine)
    sizes = [0] * 31
    with reading(past.works.engine) as session:
        every = queries.compacted_numbers(session, "gw", 1, 1, 30)
        for number in range(1, 31):
            found = queries.compacted_numbers(session, "gw", 1, number, number)
            sizes[number] = found.get(1, 0)
        assert queries.compacted_numbers(session, "gw", 1, 5, 9).get(1, 0) == sum(sizes[5:10])
        assert queries.compacted_since(session, "gw", 0) == every == {1: len(past.arrived)}
        assert queries.compacted_since(session, "gw", 1) == {}
        assert queries.received_until(session, "gw", 0) == {}
        assert queries.received_until(session) == queries.received_until(session, "gw", 1)
    assert all(sizes[1:])


def test_notes_of_long_ago_become_one_and_keep_their_sums(past: Past) -> None:
    """Of what is older than a week the range is known, and how many readings lay in it."""
    for seed in range(3):
        past.random(seed, 10)
        past.applied()
        compact(past.works.engine)
    later = START + 8 * DAY
    assert fold(past.works.engine, START + DAY) == 0
    assert fold(past.works.engine, later) == 2
    assert rows(past, CompactionRow) == 1
    with reading(past.works.engine) as session:
        assert queries.compacted_numbers(session, "gw", 1, 1, 30) == {1: len(past.arrived)}
        assert queries.compacted_numbers(session, "gw", 1, 2, 30) == {1: 0}
        assert queries.compacted_since(session, "gw", 0) == {1: len(past.arrived)}
    assert fold(past.works.engine, later) == 0


def test_what_damage_took_is_counted_without_what_was_stored_and_compacted(past: Past) -> None:
    """Numbers 3 to 8 are gone from the disk; 3 and 4 lie in chunks, 5 and 6 in batches, and 7 and 8 nowhere."""
    for number in range(1, 7):
        past.store([(1, number * SECOND, float(number), 0)] * number, number * SECOND)
        if number == 4:
            past.applied()
            assert compact(past.works.engine).batches == 4
    part = Part(1, filling=False, since=START, until=START + SECOND, counts=Counts(3 + 4 + 5 + 6 + 7 + 8, 6))
    found = claim(past.works.engine, "gw", absent(1, (3, 8), {1: 1 + 2}, [part]))
    assert found is not None
    assert found[1].readings == 7 + 8


def test_a_journal_without_its_files_asks_what_was_compacted(past: Past) -> None:
    """Of an epoch whose end is missing: what later epochs have stored is not what is gone, compacted or not."""
    past.store([(1, 0, 1.0, 0)] * 3, SECOND)
    past.works.epoch = 2
    past.works.number = 0
    past.store([(1, SECOND, 2.0, 0)] * 4, 2 * SECOND)
    for epoch in (1, 2):
        advance(past.works.engine, "gw", epoch, ())
    assert compact(past.works.engine).batches == 2
    gone = absent_numbers(past.works.engine, "gw", 1, Position(1, 5), {1: 10}, START + 9 * SECOND)
    (part,) = gone.remains.parts
    assert (part.counts.readings, part.since) == (10 - 3, START + SECOND)
