"""A restored box answers what the old one did of its past: batches, chunks, shared times and points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from app.backup import box
from app.db import make_engine, reading, upgrade
from app.history.service import compact, merge
from app.history.tables import AxisRow, ChunkRow, ThinnedRow
from app.readings import service as readings
from app.readings.tables import BatchRow
from app.retention.service import KINDS, piece
from app.settings import Settings
from app.thinning import queries as thinned
from tests.app.history.past import TAGS, Past
from tests.app.thinning.thinned import ALL, NOW, STEPS, newest, put, run_all, store
from tests.app.works import SECOND, START, Works
from tests.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@pytest.fixture
def past(database_url: str, tmp_path: Path) -> Iterator[Past]:
    """A past that has everything: late and filled readings, texts, shared times, merged chunks, points and batches."""
    folder = tmp_path / "old"
    folder.mkdir()
    upgrade(database_url)
    works = Works(database_url, folder)
    made = Past(works)
    made.random(1, 40)
    made.applied()
    while compact(works.engine, most=80).batches:
        pass
    merge(works.engine, together=2)
    store(made, 1000 * SECOND)
    put(made, STEPS, 3)
    newest(made)
    made.store([(tag, NOW - START + n * SECOND, float(n), 0) for n in range(5) for tag in TAGS], NOW - START)
    made.applied()
    compact(works.engine)
    run_all(made)
    made.random(2, 10)
    yield made
    works.close()


def told(engine: Engine) -> dict[str, Any]:
    """What the history answers of both tags, in every way it can be asked."""
    found: dict[str, Any] = {"newest": readings.latest(engine, TAGS), "counts": readings.counts(engine)}
    for tag in TAGS:
        found[f"readings {tag}"] = readings.history(engine, tag, *ALL, 10**6)
        found[f"page {tag}"] = readings.history(engine, tag, START + 7 * SECOND, START + 40 * SECOND, 9)
        trend = readings.trend(engine, tag, START, START + 2000 * SECOND, 50)
        found[f"trend {tag}"] = [
            repr(column.tolist()) for column in (trend.start, trend.count, trend.minimum, trend.maximum, trend.mean)
        ]
        found[f"spans {tag}"] = thinned.spans(engine, tag, *ALL)
        found[f"points {tag}"] = [
            (step, some.time.tolist(), some.readings.tolist(), repr(some.mean.tolist()), some.worst.tolist())
            for step, some in thinned.pages(engine, tag, *ALL)
        ]
    return found


def rows(engine: Engine) -> list[int]:
    """Batches, chunks, axes and blocks of points."""
    with reading(engine) as session:
        counts = [select(func.count()).select_from(one) for one in (BatchRow, ChunkRow, AxisRow, ThinnedRow)]
        return [session.scalar(one) or 0 for one in counts]


@pytest.mark.parametrize("target", ["sqlite", "postgres"])
def test_a_restored_box_answers_the_same(
    past: Past, tmp_path: Path, target: str, request: pytest.FixtureRequest
) -> None:
    """From either database into either; and what comes next finds its place there."""
    old = past.works.engine
    box.take(_settings(tmp_path / "old", past.works.url), tmp_path / "box.hrb", None, history=True)
    url = request.getfixturevalue("another_postgres_url") if target == "postgres" else None
    new = _settings(tmp_path / "new", url)
    box.restore(new, tmp_path / "box.hrb", None, "me")
    engine = make_engine(new.database())
    assert all(rows(engine))
    assert rows(engine) == rows(old)
    assert told(engine) == told(old)
    # The next chunk gets a number that none has, the next points join those that are there, and shared times are found.
    for one in (old, engine):
        assert piece(one, {**dict.fromkeys(kind.name for kind in KINDS), "readings": 1.0}, NOW).rows["readings"]
        assert thinned.every_class(one)[0].name == "process"
    assert told(engine) == told(old)
    engine.dispose()


def _settings(folder: Path, url: str | None) -> Settings:
    return Settings(data_dir=folder, database_url=None if url is None else SecretStr(url))


@pytest.fixture
def another_postgres_url(postgres_server_url: str) -> Iterator[str]:
    """The URL of one more empty database of the test's own."""
    with empty_database(postgres_server_url) as url:
        yield url
