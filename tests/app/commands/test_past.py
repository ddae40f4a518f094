"""`headrace history`: readings into a file and back on the command line, and what is wrong said in both languages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from app.db import make_engine, upgrade, writing
from app.sources.tables import ConnectionRow, TagRow

Run = Callable[..., Result]


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """A box with two tags and nothing stored; files lie beside its data."""
    data.mkdir()
    url = f"sqlite:///{data / 'headrace.db'}"
    upgrade(url)
    engine = make_engine(url)
    with writing(engine) as session:
        session.add(ConnectionRow(name="line", connector="opcua", options={}))
        session.flush()
        for name in ("torque", "angle"):
            session.add(TagRow(name=name, connection_id=1, address=name, datatype="float", options={}))
        session.add(TagRow(name="watch.score", connection_id=None, address="watch/score", datatype="any", options={}))
    engine.dispose()
    return tmp_path


def written(folder: Path, text: str) -> str:
    """A file to import."""
    (folder / "in.csv").write_text(text, encoding="utf-8")
    return str(folder / "in.csv")


def test_what_is_imported_is_exported_again(run: Run, folder: Path) -> None:
    """All of it, from the first time to the last, or a part of it; a second import changes nothing."""
    file = written(folder, "time,torque,angle\n1764000000,1.5,10\n1764000001,2.5,\n")
    assert "3" in run("history", "import", file).stdout
    assert json.loads(run("history", "import", file, "--json").stdout)["repeated"] == 3
    out = folder / "out.csv"
    assert run("history", "export", str(out)).exit_code == 0
    lines = out.read_text(encoding="utf-8-sig").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["torque", "torque", "angle"]
    part = run("history", "export", str(out), "--tag", "torque", "--from", "2025-11-24T16:00:01Z", "--lang", "zh-CN")
    assert "1 个点位的 1 个读数" in part.stdout
    assert out.read_text(encoding="utf-8-sig").splitlines()[1].startswith("torque,2025-11-24T16:00:01")


def test_what_is_refused_is_said_and_written_down(run: Run, folder: Path) -> None:
    """Exit status 1, the rows on stderr and in the file asked for; the others are stored."""
    file = written(folder, "tag,time,value\ntorque,1764000000,1\nnobody,1764000000,2\ntorque,2025-11-24 16:00:00,3\n")
    done = run("history", "import", file, "--refused", str(folder / "refused.csv"), "--lang", "zh-CN")
    assert done.exit_code == 1
    assert "3: nobody 未知点位" in done.stderr
    assert "缺少时区" in done.stdout
    assert (folder / "refused.csv").read_text(encoding="utf-8-sig").splitlines()[1].startswith("3,nobody,unknown_tag,")
    again = json.loads(run("history", "import", file, "--json", "--zone", "Asia/Shanghai").stdout)
    assert (again["stored"], again["repeated"], again["refused"]) == (1, 1, {"unknown_tag": 1})


def test_an_output_of_a_pipeline_is_called_that(run: Run, folder: Path) -> None:
    """It is exported with the other tags; on the way back it is not unknown, but computed here."""
    file = written(folder, "tag,time,value\nwatch.score,1764000000,0.5\ntorque,1764000000,1\n")
    done = run("history", "import", file, "--lang", "zh-CN")
    assert done.exit_code == 1
    assert "2: watch.score 流水线的输出: outputs of pipelines are computed here" in done.stderr
    assert "被拒: 流水线的输出" in done.stdout
    again = json.loads(run("history", "import", file, "--json").stdout)
    assert (again["repeated"], again["refused"]) == (1, {"output_of_a_pipeline": 1})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "HERE/out.csv", "--tag", "nobody"), "There is no tag nobody"),
        (("export", "HERE/out.xls"), "ends with none of"),
        (("export", "HERE/out.csv", "--from", "yesterday"), "is no time"),
        (("export", "/nowhere/out.csv"), "No such file"),
        (("import", "/nowhere/in.csv"), "No such file"),
        (("import", "HERE/in.csv", "--zone", "Nowhere"), "no time zone"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, folder: Path, words: tuple[str, ...], said: str) -> None:
    """In one sentence, and without a traceback."""
    (folder / "in.csv").write_text("time,torque\n")
    done = run("history", *(word.replace("HERE", str(folder)) for word in words))
    assert (done.exit_code, said in done.stderr) == (1, True)
    assert "Traceback" not in done.output
