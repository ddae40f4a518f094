"""A pipeline whose device runs in an engine: killed while windows come, it loses none of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app import engines
from app.db import reading, upgrade
from app.scoring.tables import PredictionRow
from app.settings import Settings
from inference import engines as running
from tests.app.works import Works, record


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    """Its CPU runs in an engine."""
    url = f"sqlite:///{tmp_path / 'headrace.db'}"
    upgrade(url)
    engines.use(Settings(data_dir=tmp_path, engines={"cpu": ""}))
    made = Works(url, tmp_path)
    yield made
    made.close()
    running.stop()


def test_a_killed_engine_costs_no_window(works: Works) -> None:
    """Its windows are computed by the next one, and each prediction says that an engine did."""
    for number in range(1, 7):
        assert works.scorer.apply(works.message(number, works.block([0.5, 2.5], 2 * number - 1), of=record(1)))
        if number == 3:
            engine = running.engine("cpu")
            assert engine is not None
            pid = engine.pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
    with reading(works.engine) as session:
        rows = session.scalars(select(PredictionRow).order_by(PredictionRow.sequence)).all()
        found = [(one.sequence, one.reason, one.outputs["score"]) for one in rows]
        backends = {one.backend for one in rows}
    assert found == [(n, "", 0.5 if n % 2 else 2.5) for n in range(1, 13)]
    assert len(backends) == 1
    assert ", engine, Python " in backends.pop()
