"""The edges of the history: shared times, filled readings, ends of pages, jumps of clocks, and notes that are gone."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update

from app.compacting import FULL, JUMP_NS
from app.db import reading, writing
from app.history.service import compact, fold, merge, take_out
from app.history.tables import AxisRow, ChunkRow, CompactionRow
from app.journal.damage import absent
from app.journal.remains import Counts, Part
from app.journal.service import claim
from app.readings import service as readings
from app.retention.service import KINDS, piece
from app.retention.service import within_budget as keep_within
from connectors import NO_TIME
from tests.app.history.past import TAGS
from tests.app.works import SECOND, START

if TYPE_CHECKING:
    from app.db import Base
    from tests.app.history.past import Past

DAY = 86_400 * SECOND
ALL = START - 10 * DAY, START + 1000 * DAY


def rows(past: Past, of: type[Base]) -> int:
    """How many rows a table has."""
    with reading(past.works.engine) as session:
        return session.scalar(select(func.count()).select_from(of)) or 0


def ids(past: Past, tag: int) -> list[int]:
    """Of the chunks of a tag."""
    with reading(past.works.engine) as session:
        return list(session.scalars(select(ChunkRow.id).where(ChunkRow.tag_id == tag).order_by(ChunkRow.id)))


def scan(past: Past, at: int, *tags: int) -> None:
    """Twenty readings of these tags, a second apart, all at the same times; compacted."""
    past.store([(tag, at + n * SECOND, float(n * tag), 0) for n in range(20) for tag in tags], at + 20 * SECOND)
    compacted(past)


def compacted(past: Past) -> None:
    """All there is."""
    past.applied()
    while compact(past.works.engine).batches:
        pass


def test_times_stay_as_long_as_one_chunk_needs_them(past: Past) -> None:
    """One of two that share them leaves: the other reads as before. The last one takes them along, and no others."""
    scan(past, 0, *TAGS)
    scan(past, 100 * SECOND, *TAGS)
    assert rows(past, AxisRow) == 2
    with writing(past.works.engine) as session:
        take_out(session, ids(past, 1)[:1])
    assert rows(past, AxisRow) == 2
    assert past.read(3, *ALL) == past.expected(3, *ALL)
    with writing(past.works.engine) as session:
        take_out(session, ids(past, 3)[:1])
    assert rows(past, AxisRow) == 1
    for tag in TAGS:
        assert past.read(tag, *ALL) == past.expected(tag, START + 100 * SECOND, ALL[1])


def test_times_stay_when_one_of_the_tags_is_merged(past: Past) -> None:
    """A merge writes one tag anew; the other still needs the times that they shared."""
    for part in range(3):
        scan(past, part * 100 * SECOND, *TAGS)
    with writing(past.works.engine) as session:
        session.execute(update(ChunkRow).where(ChunkRow.tag_id == 3).values(level=FULL))
    assert merge(past.works.engine, together=3).chunks == 3
    assert (rows(past, AxisRow), len(ids(past, 1)), len(ids(past, 3))) == (3, 1, 3)
    for tag in TAGS:
        assert past.read(tag, *ALL) == past.expected(tag, *ALL)


def test_times_come_again_after_they_have_left(past: Past) -> None:
    """The same times twice are the same axis; and a third tag joins those that are there."""
    scan(past, 0, *TAGS)
    scan(past, 0, *TAGS)
    assert rows(past, AxisRow) == 1
    with writing(past.works.engine) as session:
        take_out(session, [*ids(past, 1), *ids(past, 3)])
    assert rows(past, AxisRow) == 0
    scan(past, 0, *TAGS)
    assert rows(past, AxisRow) == 1
    assert len(past.read(1, *ALL)) == 20


def test_what_leaves_by_its_age_leaves_shared_times_to_the_others(past: Past) -> None:
    """Tags that share times at one moment, and of which one has a younger reading in its chunk."""
    scan(past, 0, *TAGS)
    past.store([(1, n * SECOND, float(n), 0) for n in range(30, 50)], DAY)
    compacted(past)
    scan(past, 2 * DAY, *TAGS)
    nothing = dict.fromkeys(kind.name for kind in KINDS)
    with writing(past.works.engine) as session:
        # As if one tag were read through another connection, which is asked first and whose chunk is young.
        first = ids(past, 3)[0]
        session.execute(update(ChunkRow).where(ChunkRow.id == first).values(last_time=START + 5 * DAY))
    assert piece(past.works.engine, {**nothing, "readings": 1.0}, START + 2 * DAY).rows["readings"] == 2
    assert rows(past, AxisRow) == 2
    assert past.read(3, *ALL) == past.expected(3, *ALL)
    assert keep_within(past.works.engine, 0, 60).rows["readings"] == 3
    assert rows(past, AxisRow) == rows(past, ChunkRow) == 0


def test_filled_readings_of_a_chunk_are_told_apart(past: Past) -> None:
    """Each with its own values, texts, statuses and times, and without a source time where it came without one."""
    past.store([(1, 1 * SECOND, 1.0, 0), (1, 4 * SECOND, "late", 0), (1, NO_TIME, 5.0, 0x40000000)], 5 * SECOND)
    past.store([(1, 2 * SECOND, 2.0, 0), (1, 3 * SECOND, "filled", 0x80000000)], 9 * SECOND, gap=7)
    compacted(past)
    (one,) = ids(past, 1)
    assert one
    found = {stored.backfilled: stored for stored in readings.everything(past.works.engine)}
    assert len(list(readings.everything(past.works.engine))) == 2
    told = {}
    for filled, stored in found.items():
        tags, source_time, values, others, status = stored.columns
        assert set(tags.tolist()) == {1}
        assert (stored.received_time, stored.compacted) == (START + 9 * SECOND, True)
        told[filled] = [
            (at - START, None if source == NO_TIME else source - START, others.get(row, float(values[row])), code)
            for row, (at, source, code) in enumerate(
                zip(stored.time.tolist(), source_time.tolist(), status.tolist(), strict=True)
            )
        ]
    assert told[True] == [
        (2 * SECOND, 2 * SECOND, 2.0, 0), (3 * SECOND, 3 * SECOND, "filled", 0x80000000),
    ]  # fmt: skip
    assert told[False] == [
        (1 * SECOND, 1 * SECOND, 1.0, 0), (4 * SECOND, 4 * SECOND, "late", 0), (5 * SECOND, None, 5.0, 0x40000000),
    ]  # fmt: skip


def test_a_chunk_without_filled_readings_is_told_once(past: Past) -> None:
    """Nothing is told of none."""
    scan(past, 0, 1)
    (stored,) = readings.everything(past.works.engine)
    assert (stored.backfilled, len(stored.time)) == (False, 20)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 100])
def test_pages_hold_every_reading_once(past: Past, most: int) -> None:
    """A page ends between two times, never within one, however many readings a time has and wherever the page ends."""
    at = [0, 1, 1, 1, 2, 3, 3, 3, 3, 3, 4, 5]
    past.store([(1, n * SECOND, float(row), 0) for row, n in enumerate(at)], 10 * SECOND)
    for _ in range(2):
        found = list(readings.pages(past.works.engine, 1, START, START + 6 * SECOND, most))
        assert [value for part in found for value in part.values.tolist()] == list(range(len(at)))
        assert all(len(part) for part in found)
        edges = [(int(one.time[-1]), int(other.time[0])) for one, other in pairwise(found)]
        assert all(before < after for before, after in edges)
        part = readings.pages(past.works.engine, 1, START + SECOND, START + 5 * SECOND, most)
        assert [value for one in part for value in one.values.tolist()] == list(range(1, 11))
        compacted(past)
    assert list(readings.pages(past.works.engine, 1, START + 7 * SECOND, START + 9 * SECOND, most)) == []
    assert list(readings.pages(past.works.engine, 1, START + SECOND, START + SECOND, most)) == []


@pytest.mark.parametrize(("jump", "chunks"), [(JUMP_NS - 1, 1), (JUMP_NS, 1), (JUMP_NS + 1, 2)])
def test_a_chunk_ends_before_a_jump(past: Past, jump: int, chunks: int) -> None:
    """Ninety days apart is still one chunk, and a nanosecond more is not; the readings are the same."""
    past.store([(1, 0, 1.0, 0), (1, SECOND, 2.0, 0), (1, SECOND + jump, 3.0, 0)], 2 * SECOND)
    compacted(past)
    assert len(ids(past, 1)) == chunks
    assert past.read(1, *ALL) == past.expected(1, *ALL)


def damaged(past: Past, first: int, last: int, readings_: int) -> int:
    """What a journal whose records of these numbers are gone counts as lost, of so many readings."""
    part = Part(1, filling=False, since=START, until=START + SECOND, counts=Counts(readings_, last - first + 1))
    found = claim(past.works.engine, "gw", absent(1, (first, last), {1: 0}, [part]))
    return 0 if found is None else found.get(1, Counts()).readings


def folded(past: Past) -> None:
    """Batches 1 to 6, with as many readings each, in chunks; long ago, so that their numbers are not known any more."""
    for number in range(1, 7):
        past.store([(1, number * SECOND, float(number), 0)] * number, number * SECOND)
        if number % 3 == 0:
            compacted(past)
    assert fold(past.works.engine, START + 30 * DAY) == 1
    with reading(past.works.engine) as session:
        assert session.scalars(select(CompactionRow.numbers)).all() == [b""]


def test_what_was_stored_long_ago_is_known_by_its_whole_range(past: Past) -> None:
    """All of the numbers lie in the hole: what was stored is not lost."""
    folded(past)
    assert damaged(past, 1, 8, 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8) == 7 + 8


@pytest.mark.parametrize("first", [2, 3, 6])
def test_of_a_part_of_what_was_stored_long_ago_rather_too_much_is_counted(past: Past, first: int) -> None:
    """Only some of the numbers lie in the hole: how many readings these had nobody knows any more."""
    folded(past)
    gone = sum(range(first, 9))
    assert damaged(past, first, 8, gone) == gone


def test_what_was_never_stored_is_lost(past: Past) -> None:
    """Neither in batches nor in chunks."""
    past.store([(1, SECOND, 1.0, 0)], SECOND)
    compacted(past)
    assert damaged(past, 2, 3, 9) == 9
    assert [one[1] for one in past.read(1, *ALL)] == [1.0]
