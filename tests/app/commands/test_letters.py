"""`headrace dead-letters`: listed, inspected, mended, asked for and dropped from the command line."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from app.access.service import audit_page
from app.db import upgrade
from app.letters.tables import DeadWindowsRow
from app.letters.tasks import Replayer
from app.scoring.tables import PredictionRow
from connectors import Refusal
from tests.app.letters.deadly import REFUSED, SCORES, model, rows
from tests.app.works import Works, record

Run = Callable[..., Result]


@pytest.fixture
def works(data: Path) -> Works:
    """A box with one refused window, and one reading that could not be taken."""
    data.mkdir()
    url = f"sqlite:///{data / 'headrace.db'}"
    upgrade(url)
    made = Works(url, data, proto=model(), spec={"outputs": SCORES})
    refused = Refusal(address="ns=2;s=1", reason="wrong_type", detail="text", excerpt=b"x", readings=3)
    made.scorer.apply(made.message(1, made.block([2.0, REFUSED], 1), of=record(1, [1.0], refused=(refused,))))
    return made


def test_they_are_listed(run: Run, works: Works) -> None:
    """Newest first, those of windows and those of readings; in either language."""
    found = json.loads(run("dead-letters", "--json").stdout)
    assert [(one["id"], one["reason"]) for one in found] == [(2, "input_refused"), (1, "wrong_type")]
    assert (found[0]["windows"]["state"], found[0]["windows"]["kept"], found[1]["windows"]) == ("open", 1, None)
    assert "input_refused" in run("dead-letters").stdout
    assert "窗口数" in run("dead-letters", "--lang", "zh-CN").stdout
    assert [one["id"] for one in json.loads(run("dead-letters", "--json", "--state", "open").stdout)] == [2]
    assert json.loads(run("dead-letters", "--json", "--pipeline", "other").stdout) == []
    assert "No dead letters" in run("dead-letters", "--state", "dropped").stdout
    assert run("dead-letters", "--state", "lost").exit_code == 2
    works.close()


def test_one_is_inspected_mended_and_asked_for(run: Run, works: Works, tmp_path: Path) -> None:
    """What `show --inputs` writes is corrected and given back, a worker answers, and the audit log tells of it."""
    shown = json.loads(run("dead-letters", "show", 2, "--json").stdout)
    assert [(one["tag"], one["smallest"], one["cells"]) for one in shown["inputs"]] == [("t1", 0.0, 4)] * 2
    assert "no number" in run("dead-letters", "show", 2).stdout
    file = tmp_path / "inputs.json"
    assert "headrace dead-letters mend 2" in run("dead-letters", "show", 2, "--inputs", file).stdout
    written = json.loads(file.read_text())
    written["windows"][0]["values"][0][0] = 8.0
    file.write_text(json.dumps(written))
    assert "1 values" in run("dead-letters", "mend", 2, file).stdout
    assert run("dead-letters", "replay", 2).exit_code == 0
    assert [one.state for one in rows(works, DeadWindowsRow)] == ["waiting"]
    assert run("dead-letters", "replay", 2).exit_code == 1, "it waits already"
    assert Replayer(works.engine, works.scorer.sessions, works.scorer.tell).once()
    (made,) = [one for one in rows(works, PredictionRow) if one.late]
    assert made.outputs["score"] == 1.0
    found, intact = audit_page(works.engine, None, 10)
    assert intact
    assert [one.action for one in found] == ["letter_replayed", "letter_replay_asked", "letter_mended"]
    assert {one.who for one in found} == {getpass.getuser()}
    works.close()


def test_one_is_dropped(run: Run, works: Works) -> None:
    """With a reason; those that are not there are said not to be."""
    assert run("dead-letters", "drop", 2).exit_code == 2, "a reason is needed"
    assert run("dead-letters", "drop", 1, 2, "--reason", "known").exit_code == 0
    (found,) = json.loads(run("dead-letters", "--json").stdout)
    assert (found["windows"]["state"], found["windows"]["said"], found["windows"]["kept"]) == ("dropped", "known", 0)
    assert run("dead-letters", "show", 2, "--inputs", "x").exit_code == 1
    for words in (("show", 9), ("drop", 9, "--reason", "x"), ("replay", 9), ("replay", 2)):
        assert run("dead-letters", *words).exit_code == 1
    works.close()


@pytest.mark.parametrize("text", ["", "[]", '{"windows": [{"end": "today", "values": []}]}', '{"windows": 1}'])
def test_a_file_of_something_else_is_a_sentence(run: Run, works: Works, tmp_path: Path, text: str) -> None:
    """It is named, and nothing is changed."""
    file = tmp_path / "inputs.json"
    file.write_text(text)
    found = run("dead-letters", "mend", 2, file)
    assert found.exit_code == 1
    assert "inputs.json cannot be read" in found.stderr
    assert run("dead-letters", "mend", 2, tmp_path / "none").exit_code == 1
    assert rows(works, DeadWindowsRow)[0].mended is None
    works.close()
