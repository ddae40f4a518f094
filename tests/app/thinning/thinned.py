"""A past of two tags that is old enough to be thinned."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from app.db import reading, writing
from app.history.service import compact
from app.history.tables import HistoryClassRow
from app.sources.tables import TagRow
from app.thinning.service import run
from tests.app.history.past import TAGS
from tests.app.works import SECOND, START

if TYPE_CHECKING:
    from app.db import Base
    from tests.app.history.past import Past, Row

DAY = 86_400 * SECOND
MINUTE = 60 * SECOND
NOW = START + 500 * DAY
ALL = START - 1000 * DAY, START + 1000 * DAY
STEPS = [[30, 60], [365, 3600]]


def put(past: Past, steps: list[list[int]], *tags: int) -> None:
    """These tags have a class with these steps."""
    with writing(past.works.engine) as session:
        session.merge(HistoryClassRow(name="process", keep_days=None, priority=3, thin=steps, retired_at=None))
        session.execute(update(TagRow).where(TagRow.id.in_(tags)).values(history="process"))


def store(past: Past, at: int, seconds: int = 300) -> None:
    """A chunk of each of two tags: a reading a second, some of them bad, some of them texts."""
    rows: list[Row] = []
    for n in range(seconds):
        for tag in TAGS:
            status = 0x80000000 if n % 7 == 3 else 0
            rows.append((tag, at + n * SECOND, float(n * tag % 11), status))
        if n % 100 == 50:
            rows.append((1, at + n * SECOND + 1, f"note {n}", 0))
    past.store(rows, at + seconds * SECOND)
    past.applied()
    while compact(past.works.engine).batches:
        pass


def newest(past: Past) -> None:
    """A reading of each tag of now, in a chunk of its own: the value in force."""
    past.store([(tag, NOW - START, 1.0, 0) for tag in TAGS], NOW - START)
    past.applied()
    while compact(past.works.engine).batches:
        pass


def rows(past: Past, of: type[Base]) -> int:
    """How many rows a table has."""
    with reading(past.works.engine) as session:
        return session.scalar(select(func.count()).select_from(of)) or 0


def run_all(past: Past, now: int = NOW) -> int:
    """Thin all there is."""
    count, more = run(past.works.engine, now, time.monotonic() + 60)
    assert not more
    return count
