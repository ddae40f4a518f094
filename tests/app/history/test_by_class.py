"""Readings and points leave as their class says: by age, and from a full disk the least valuable first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from app.db import reading, writing
from app.history.service import compact
from app.history.tables import AxisRow, ChunkRow, HistoryClassRow, ThinnedRow
from app.retention.service import KINDS, piece, removals, within_budget
from app.sources.tables import TagRow
from app.thinning.service import run
from tests.app.history.past import TAGS
from tests.app.history.test_leaving import DAY, days
from tests.app.works import SECOND, START

if TYPE_CHECKING:
    from tests.app.history.past import Past

NOTHING = dict.fromkeys(kind.name for kind in KINDS)
NOW = START + 10 * DAY


def put(past: Past, tag: int, name: str, keep: float | None = None, priority: int = 3, *, thin: bool = False) -> None:
    """A tag has this class; thinned to minutes after a day, or not at all."""
    steps = [[1, 60]] if thin else []
    with writing(past.works.engine) as session:
        session.merge(HistoryClassRow(name=name, keep_days=keep, priority=priority, thin=steps, retired_at=None))
        session.execute(update(TagRow).where(TagRow.id == tag).values(history=name))


def left(past: Past) -> dict[int, list[int]]:
    """Per tag the days on which its blocks end, chunks and points together."""
    found: dict[int, list[int]] = {tag: [] for tag in TAGS}
    with reading(past.works.engine) as session:
        for row in (ChunkRow, ThinnedRow):
            for tag, last in session.execute(select(row.tag_id, row.last_time)):
                found[tag].append((last + 60 * SECOND - START) // DAY)
    return {tag: sorted(some) for tag, some in found.items()}


def size(past: Past) -> int:
    """Bytes of all there is."""
    with reading(past.works.engine) as session:
        sizes = [session.scalar(select(func.sum(func.length(r.block)))) for r in (ChunkRow, ThinnedRow, AxisRow)]
    return sum(int(one or 0) for one in sizes)


def test_each_class_has_its_age_and_the_settings_the_rest(past: Past) -> None:
    """A class that keeps for ever does, whatever the settings of the box say."""
    days(past, 5)
    put(past, 1, "short", keep=8.0)
    assert +piece(past.works.engine, NOTHING, NOW, 60).rows == {"readings": 2}
    assert left(past) == {1: [2, 3, 4], 3: [0, 1, 2, 3, 4]}
    put(past, 1, "ever")
    assert piece(past.works.engine, {**NOTHING, "readings": 7.0}, NOW, 60).rows["readings"] == 3
    assert left(past) == {1: [2, 3, 4], 3: [3, 4]}
    assert removals(past.works.engine)["readings"] == 5


def test_points_leave_by_the_age_of_their_class_too(past: Past) -> None:
    """And by the settings, where a class was taken from their tag again."""
    days(past, 5)
    put(past, 1, "process", keep=8.0, thin=True)
    put(past, 3, "ever", thin=True)
    with writing(past.works.engine) as session:
        # As if each were full, so that each day has a block of its own.
        assert run(past.works.engine, START + 3 * DAY, 10**12)[0] == 80
        session.execute(update(ThinnedRow).values(points=10**6))
    run(past.works.engine, NOW, 10**12)
    assert left(past) == {tag: [1, 3, 4] for tag in TAGS}
    assert +piece(past.works.engine, NOTHING, NOW, 60).rows == {"points": 1}
    assert left(past) == {1: [3, 4], 3: [1, 3, 4]}
    with writing(past.works.engine) as session:
        session.execute(update(TagRow).values(history=None))
    assert +piece(past.works.engine, {**NOTHING, "points": 8.0}, NOW, 60).rows == {"points": 1}
    assert left(past) == {1: [3, 4], 3: [3, 4]}
    assert removals(past.works.engine)["points"] == 2


def test_the_least_valuable_leave_a_full_disk_first(past: Past) -> None:
    """The greatest number first; of one priority the oldest, whatever tag they are of; those without a class are 3."""
    days(past, 5)
    put(past, 1, "low", priority=4)
    within_budget(past.works.engine, size(past) - 1, 60)
    assert left(past) == {1: [1, 2, 3, 4], 3: [0, 1, 2, 3, 4]}
    put(past, 1, "high", priority=2)
    within_budget(past.works.engine, size(past) - 1, 60)
    assert left(past) == {1: [1, 2, 3, 4], 3: [1, 2, 3, 4]}
    put(past, 1, "same", priority=3)
    within_budget(past.works.engine, size(past) * 3 // 4 - 1, 60)
    found = left(past)
    assert max(len(some) for some in found.values()) - min(len(some) for some in found.values()) <= 1
    put(past, 1, "high", priority=1)
    within_budget(past.works.engine, size(past) // 3, 60)
    assert left(past)[3] == []
    assert left(past)[1] == found[1] or left(past)[1]
    within_budget(past.works.engine, 0, 60)
    assert size(past) == 0


def test_the_oldest_of_an_hour_leave_first(past: Past) -> None:
    """Whichever was stored first."""
    for at in (600, 0, 1200):
        past.store([(1, (at + n) * SECOND, float(n), 0) for n in range(20)], DAY)
        past.applied()
        compact(past.works.engine)
    within_budget(past.works.engine, size(past) - 1, 60)
    assert past.read(1, START, NOW) == past.expected(1, START + 600 * SECOND, NOW)
    within_budget(past.works.engine, size(past) - 1, 60)
    assert past.read(1, START, NOW) == past.expected(1, START + 1200 * SECOND, NOW)


def test_points_count_and_leave_as_readings_do(past: Past) -> None:
    """They take room, and the oldest of a class go first, whichever they are."""
    days(past, 5)
    put(past, 1, "process", thin=True)
    assert run(past.works.engine, NOW, 10**12)[0] == 80
    assert left(past)[1] == [3, 4]
    before = size(past)
    assert within_budget(past.works.engine, before, 60).rows.total() == 0
    put(past, 1, "process", priority=4)
    removed = within_budget(past.works.engine, before - 1, 60)
    assert removed.rows["points"] == 1
    assert left(past) == {1: [4], 3: [0, 1, 2, 3, 4]}
    assert removals(past.works.engine)["points"] == 1
