"""`headrace init`, `check`, `apply`, `revisions`: what an engineer types, answers and reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from app.config.jsonschema import plant_schema

PACKAGE = Path(__file__).parents[3] / "examples" / "tightening" / "package"
Run = Callable[..., Result]


def replace(file: Path, old: str, new: str) -> None:
    """Edit a file as a person would: what is replaced was there."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_init_writes_what_an_editor_understands(run: Run, tmp_path: Path) -> None:
    """The first line names a schema that lies beside the file; a file that is there stays as it is."""
    file = tmp_path / "new.yaml"
    assert run("init", file).exit_code == 0
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=./")
    named = tmp_path / first.rpartition("=")[2]
    assert json.loads(named.read_text(encoding="utf-8")) == plant_schema()
    file.write_text("mine")
    refused = run("init", file)
    assert (refused.exit_code, file.read_text()) == (1, "mine")
    assert "--force" in refused.stderr
    assert run("init", file, "--force").exit_code == 0
    assert file.read_text(encoding="utf-8") != "mine"


def test_the_template_lacks_only_what_is_the_engineers_own(run: Run, tmp_path: Path) -> None:
    """Beside secrets and the model nothing is wrong with what `init` wrote."""
    run("init", tmp_path / "new.yaml")
    found = json.loads(run("check", tmp_path / "new.yaml", "--json").stdout)
    assert not found["good"]
    said = [one["message"] for one in found["mistakes"]]
    assert all("secrets/" in one or "BROKER_PASSWORD" in one or "models/press-health" in one for one in said), said


def test_check_says_every_mistake_with_line_and_column(run: Run, plant: Path) -> None:
    """Two mistakes in two sections: two lines, and exit status 1; nothing was made."""
    replace(plant, "output: score", "output: scroe")
    replace(plant, "      username:", "      user_name:")
    found = run("check", plant)
    lines = found.stderr.splitlines()
    assert found.exit_code == 1
    assert lines[0].startswith(f"{plant}:8:7: unknown key")
    assert "did you mean 'username'?" in lines[0]
    assert lines[1].startswith(f"{plant}:22:21: ")
    assert lines[2] == f"2 mistakes in {plant}."
    assert len(lines) == 3
    as_json = json.loads(run("check", plant, "--json").stdout)
    assert [(one["line"], one["column"]) for one in as_json["mistakes"]] == [(8, 7), (22, 21)]


def test_a_good_file_is_said_to_be_good(run: Run, plant: Path, data: Path) -> None:
    """A check counts what it saw, in the language asked for, and leaves nothing behind."""
    assert "1 connections, 3 tags, 1 pipelines" in run("check", plant).stdout
    assert "3 个点位" in run("check", plant, "--lang", "zh-CN").stdout
    assert json.loads(run("check", plant, "--json").stdout)["good"] is True
    assert not data.exists()


def test_apply_shows_asks_and_does(run: Run, plant: Path) -> None:
    """No: nothing. Yes: revision 1. Again: no changes, no revision."""
    refused = run("apply", plant, answer="n\n")
    assert refused.exit_code == 1
    assert "tightening" in refused.stdout
    assert "Nothing was changed" in refused.stderr
    assert json.loads(run("revisions", "--json").stdout) == []
    assert "Revision 1 is in force" in run("apply", plant, answer="y\n").stdout
    assert "No changes: revision 1" in run("apply", plant).stdout
    (only,) = json.loads(run("revisions", "--json").stdout)
    assert only["number"] == 1


def test_a_difference_names_old_and_new_and_no_secret(run: Run, plant: Path) -> None:
    """What would change is shown before it is asked, secrets are not."""
    run("apply", plant, "--yes")
    replace(plant, "127.0.0.1:1883\n", "127.0.0.1:1884\n")
    (plant.parent / "secret").write_text("another-one")
    shown = run("apply", plant, "--dry-run").stdout
    assert "mqtt://127.0.0.1:1883 → mqtt://127.0.0.1:1884" in shown
    assert "••••" in shown
    assert "another-one" not in shown
    assert "hunter2" not in shown
    assert [one["number"] for one in json.loads(run("revisions", "--json").stdout)] == [1]


def test_an_earlier_revision_comes_back_as_a_new_one(run: Run, plant: Path) -> None:
    """Nothing is rewritten: revision 1 is in force again as revision 3."""
    run("apply", plant, "--yes")
    replace(plant, "above: 1.0", "above: 2.0")
    run("apply", plant, "--yes")
    back = json.loads(run("apply", "--revision", "1", "--yes", "--json").stdout)
    assert back["revision"] == 3
    assert [(one["kind"], one["what"]) for one in back["changes"]] == [("pipeline", "changed")]
    listed = json.loads(run("revisions", "--json").stdout)
    assert [one["number"] for one in listed] == [3, 2, 1]
    assert listed[0]["digest"] == listed[2]["digest"] != listed[1]["digest"]
    assert "no revision 9" in run("apply", "--revision", "9").stderr


def test_a_program_never_applies_unasked(run: Run, plant: Path) -> None:
    """With --json there is nobody to answer: the consent is written, or nothing happens."""
    assert run("apply", plant, "--json").exit_code == 2
    assert json.loads(run("apply", plant, "--json", "--dry-run").stdout)["revision"] == 0
    assert json.loads(run("apply", plant, "--json", "--yes").stdout)["revision"] == 1


@pytest.mark.parametrize("words", [[], ["plant.yaml", "--revision", "1"], ["--url", "http://127.0.0.1:1"]])
def test_what_to_apply_is_said_once(words: list[str], run: Run) -> None:
    """Neither, both, or an address without a file: a usage error."""
    assert run("apply", *words).exit_code == 2


def test_a_model_that_fails_its_check_is_not_applied(run: Run, plant: Path) -> None:
    """A model whose answers are not its golden ones on this device stays out, with the reason; nothing else goes in."""
    package = plant.parent / "package"
    shutil.copytree(PACKAGE, package)
    with np.load(package / "golden.npz") as golden:
        vectors = {name: golden[name] for name in golden.files}
    vectors["out/score"] = vectors["out/score"] + 100
    np.savez(package / "golden.npz", **vectors)
    replace(plant, f'path: "{PACKAGE}"', "path: package")
    refused = run("apply", plant, "--yes")
    assert refused.exit_code == 1
    assert "tightening" in refused.stderr
    assert "score" in refused.stderr
    assert json.loads(run("revisions", "--json").stdout) == []


def test_a_lost_key_is_mended_by_applying_again(run: Run, plant: Path, data: Path, tmp_path: Path) -> None:
    """Who restores a database without its key applies the file, and the secrets are sealed again."""
    run("apply", plant, "--yes")
    other = tmp_path / "restored"
    other.mkdir()
    for file in data.glob("headrace.db*"):
        shutil.copy(file, other)
    again = json.loads(run("apply", plant, "--yes", "--json", "--data", other).stdout)
    assert [(one["kind"], one["name"], one["what"]) for one in again["changes"]] == [
        ("connection", "station", "changed")
    ]
    assert "No changes" in run("apply", plant, "--data", other).stdout


def test_a_folder_without_a_database_stays_without_one(run: Run, tmp_path: Path) -> None:
    """A mistyped folder is said, not made."""
    for command in ("revisions", "ledger", "status"):
        said = run(command, "--data", tmp_path / "typo")
        assert said.exit_code == 1
        assert "headrace up" in said.stderr
    assert not (tmp_path / "typo").exists()


def test_the_schema_is_printed(run: Run) -> None:
    """`headrace schema` is the schema and nothing else."""
    assert json.loads(run("schema").stdout) == plant_schema()
