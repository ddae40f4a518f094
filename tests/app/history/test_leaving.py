"""Old readings leave where the operator says so, with all that only they needed; what is young stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db import reading
from app.history.service import compact
from app.history.tables import AxisRow, ChunkRow
from app.readings import service as readings
from app.retention.service import KINDS, piece, removals, within_budget
from tests.app.history.past import TAGS
from tests.app.works import SECOND, START

if TYPE_CHECKING:
    from tests.app.history.past import Past

DAY = 86_400 * SECOND
NOTHING = dict.fromkeys(kind.name for kind in KINDS)


def days(past: Past, count: int) -> None:
    """A chunk of two tags that share their times on each of so many days."""
    for day in range(count):
        past.store([(tag, day * DAY + n * SECOND, float(n), 0) for n in range(20) for tag in TAGS], day * DAY)
        past.applied()
        compact(past.works.engine)


def sizes(past: Past) -> tuple[int, int, int]:
    """Chunks, axes, and bytes of both."""
    with reading(past.works.engine) as session:
        blocks = [session.scalars(select(row.block)).all() for row in (ChunkRow, AxisRow)]
    return len(blocks[0]), len(blocks[1]), sum(map(len, blocks[0])) + sum(map(len, blocks[1]))


def test_readings_leave_by_their_time(past: Past) -> None:
    """A chunk goes when all of it is old, and times that nobody shares any more go with it."""
    days(past, 5)
    now = START + 10 * DAY
    assert piece(past.works.engine, NOTHING, now).rows.total() == 0
    assert piece(past.works.engine, {**NOTHING, "readings": 8.0}, now).rows["readings"] == 4
    assert sizes(past)[:2] == (6, 3)
    assert readings.counts(past.works.engine) == {1: 3 * 40}
    assert past.read(1, START, now) == past.expected(1, START + 2 * DAY, now)
    assert removals(past.works.engine)["readings"] == 4


def test_the_oldest_leave_while_there_are_too_many(past: Past) -> None:
    """No more of them than needed."""
    days(past, 5)
    whole = sizes(past)[2]
    assert within_budget(past.works.engine, whole).rows.total() == 0
    removed = within_budget(past.works.engine, whole * 3 // 5)
    assert 3 <= removed.rows["readings"] <= 5
    assert sizes(past)[2] <= whole * 3 // 5
    assert past.read(3, START + 3 * DAY, START + 9 * DAY) == past.expected(3, START + 3 * DAY, START + 9 * DAY)
    assert past.read(3, START, START + DAY) == []
    assert within_budget(past.works.engine, 0).rows["readings"] == 10 - removed.rows["readings"]
    assert sizes(past) == (0, 0, 0)
