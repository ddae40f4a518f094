"""`headrace replay-outbox`: asked for, shown and stopped from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import Result

from app.db import upgrade, writing
from app.northbound.tables import OutboxReplayRow, OutboxRow
from tests.app.letters.deadly import rows
from tests.app.works import START, Works

Run = Callable[..., Result]


@pytest.fixture
def works(data: Path) -> Works:
    """Three predictions that both consumers have taken."""
    data.mkdir()
    url = f"sqlite:///{data / 'headrace.db'}"
    upgrade(url)
    made = Works(url, data)
    made.scorer.apply(made.message(1, made.block([0.1, 0.2, 0.3], 1)))
    with writing(made.engine) as session:
        session.execute(update(OutboxRow).values(sent_at=START))
    return made


def test_one_is_asked_for_shown_and_stopped(run: Run, works: Works) -> None:
    """How much it is and how long it takes at least; how it stands; in either language."""
    assert "Nothing was ever asked" in run("replay-outbox", "mes").stdout
    assert "3 publications of 1 keys are sent again, in about 2 s" in run(
        "replay-outbox", "mes", "--from", "2023-11-14T00:00:00Z", "--rate", "2"
    ).stdout  # fmt: skip
    (row,) = rows(works, OutboxReplayRow)
    assert (row.rows, row.rate, row.done_at) == (3, 2, None)
    again = run("replay-outbox", "mes", "--from", "0")
    assert (again.exit_code, "under way" in again.stderr) == (1, True)
    assert "进行中" in run("replay-outbox", "mes", "--lang", "zh-CN").stdout
    assert "stopped" in run("replay-outbox", "mes", "--stop").stdout
    assert run("replay-outbox", "mes", "--stop").exit_code == 1
    (shown,) = json.loads(run("replay-outbox", "mes", "--json").stdout)
    assert (shown["outcome"], shown["rows"], shown["made_due"]) == ("stopped", 3, 0)
    works.close()


def test_from_an_id(run: Run, works: Works) -> None:
    """The id that consumers know."""
    second = sorted(rows(works, OutboxRow), key=lambda one: one.id)[1]
    found = run("replay-outbox", "mes", "--from-id", second.publication_id, "--json")
    assert json.loads(found.stdout)["rows"] == 2
    works.close()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("mes", "--from", "today"), 2), (("mes", "--from", "0", "--from-id", "x"), 2), (("none", "--from", "0"), 1),
        (("scada", "--from", "0"), 1), (("mes", "--from-id", "x"), 1), (("none",), 1),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_sentence(run: Run, works: Works, words: tuple[str, ...], status: int) -> None:
    """And nothing is asked for."""
    found = run("replay-outbox", *words)
    assert (found.exit_code, bool(found.stderr.strip())) == (status, True)
    assert rows(works, OutboxReplayRow) == []
    works.close()
