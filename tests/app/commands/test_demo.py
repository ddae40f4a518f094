"""`headrace demo`: what it refuses to overwrite, and what it calls a good run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine
from typer.testing import Result

from app.commands.figures import Figures, Report, shortcomings
from app.db import make_engine, upgrade

GOOD = Report(
    ready_s=5.0,
    first_prediction_s=9.0,
    readings={"process": 100, "analysers": 10},
    predictions={"tep-faults": {"answered": 3, "refused": 1}},
    events={},
    met=["tep-faults"],
    latency_ms={"p50": 90.0, "p99": 200.0},
    ledger={"balanced": True, "connections": []},
    processes=[],
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database in which nothing happened yet."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    upgrade(url)
    made = make_engine(url)
    yield made
    made.dispose()


def test_a_folder_that_no_demo_made_is_left_alone(run: Callable[..., Result], tmp_path: Path) -> None:
    """A demo empties its own folder, never somebody else's."""
    (tmp_path / "mine.txt").write_text("precious")
    refused = run("demo", "--data", tmp_path, "--for", "5")
    assert refused.exit_code == 1
    assert "choose another folder" in refused.stderr
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_good_run_lacks_nothing() -> None:
    """Both protocols met in a window, predictions came out, the ledger balances."""
    assert shortcomings(GOOD) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"met": []}, "both OPC UA and MQTT"),
        ({"predictions": {"tep-faults": {"answered": 0, "refused": 9}}}, "no prediction"),
        ({"ledger": {"balanced": False, "connections": []}}, "balance"),
    ],
)
def test_each_shortcoming_is_named(change: dict[str, object], said: str) -> None:
    """Refused windows alone are no predictions; each lack is an exit status of its own accord."""
    (found,) = shortcomings(msgspec.structs.replace(GOOD, **change))
    assert said in found


def test_before_anything_happened_nothing_is_claimed(engine: Engine) -> None:
    """No score, no balance, no latency are invented for an empty database."""
    figures = Figures(engine, 0.0)
    line = figures.line()
    assert (line.predictions, line.score, line.events, line.balanced) == (0, None, 0, None)
    report = figures.report((), 1.0)
    assert (report.first_prediction_s, report.latency_ms) == (None, {"p50": None, "p99": None})
    assert len(shortcomings(report)) >= 2
