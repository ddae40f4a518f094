"""`headrace tags export` and `import`: a plant file's tags through a spreadsheet and back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import openpyxl
import pytest

from app.config.document import read
from app.config.tag_import import tags_of
from tests.app.commands.conftest import Run

TEXT = """\
version: 1
connections:
  # our press
  - {name: plc, connector: opcua, options: {url: "opc.tcp://127.0.0.1:4840", security: None}}
tags:
  - {name: force, connection: plc, address: "nsu=urn:acme;s=F", unit: kN}  # keep me
  - names: ["zone_[1-3]"]
    connection: plc
    address: "nsu=urn:acme;s={name}"
    unit: °C
tags_file: more.csv
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A plant file with a tag, a group and a table."""
    (tmp_path / "more.csv").write_text("name,connection,address\noil,plc,i=7\n")
    made = tmp_path / "plant.yaml"
    made.write_text(TEXT, encoding="utf-8")
    return made


@pytest.mark.parametrize("suffix", ["csv", "xlsx", "yaml"])
def test_an_export_changes_nothing_when_it_is_imported(run: Run, file: Path, tmp_path: Path, suffix: str) -> None:
    """Every tag, those of groups and tables too, comes back as the same."""
    table = tmp_path / f"tags.{suffix}"
    assert json.loads(run("tags", "export", file, table, "--json").stdout)["tags"] == 5
    told = json.loads(run("tags", "import", file, table, "--json", "--yes").stdout)
    assert told == {"changes": [], "mistakes": [], "same": 5, "written": False}
    assert file.read_text(encoding="utf-8") == TEXT


def test_a_table_adds_and_changes(run: Run, file: Path, tmp_path: Path) -> None:
    """Only the lines concerned change; what the table does not speak of is kept; the file is good afterwards."""
    table = tmp_path / "tags.csv"
    table.write_bytes('name;address;datatype\nforce;"nsu=urn:acme;s=F2";integer\n料位;i=9;\n'.encode("gbk"))
    shown = run("tags", "import", file, table, "--connection", "plc", "--dry-run")
    assert (shown.exit_code, "nsu=urn:acme;s=F → nsu=urn:acme;s=F2" in shown.stdout) == (0, True)
    assert file.read_text(encoding="utf-8") == TEXT
    done = run("tags", "import", file, table, "--connection", "plc", answer="y\n")
    assert done.exit_code == 0, done.output
    assert file.read_text(encoding="utf-8") == TEXT.replace(
        '{name: force, connection: plc, address: "nsu=urn:acme;s=F", unit: kN}',
        "{name: force, datatype: integer, connection: plc, address: nsu=urn:acme;s=F2, unit: kN}",
    ).replace("    unit: °C\n", "    unit: °C\n  - {name: 料位, connection: plc, address: i=9}\n")
    assert run("check", file).exit_code == 0
    found = tags_of(read(file))
    assert (found["force"].entry.datatype, found["force"].entry.unit) == ("integer", "kN")
    assert found["料位"].entry.address == "i=9"


WRONG = """\
name,connection,address,datatype,options
good,plc,i=1,,
,plc,i=2,,
bad address,plc,Level,,
bad connection,plk,i=3,,
bad type,plc,i=4,flaot,
bad options,plc,i=5,,{
bad key,plc,i=6,,"{""queue"": 1}"
good,plc,i=8,,
zone_2,plc,i=10,,
a/b,plc,i=11,,
"""


def test_every_wrong_row_is_named_at_once(run: Run, file: Path, tmp_path: Path) -> None:
    """Each with its line and reason; nothing is changed unless all are right, or the wrong ones are to be skipped."""
    table = tmp_path / "tags.csv"
    table.write_text(WRONG)
    done = run("tags", "import", file, table, "--yes")
    assert done.exit_code == 1
    said = {int(line.split(":")[1]): line for line in done.stderr.splitlines() if line.startswith(str(table))}
    assert sorted(said) == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    for line, part in (
        (4, "is not a NodeId"),
        (5, "did you mean 'plc'?"),
        (6, "datatype"),
        (7, "options"),
        (8, "'queue'"),
        (9, "stands here twice"),
        (10, "one of the group in line 7"),
    ):
        assert part in said[line]
    assert file.read_text(encoding="utf-8") == TEXT
    told = run("tags", "import", file, table, "--yes", "--skip-wrong", "--json")
    assert told.exit_code == 0
    assert [one["line"] for one in json.loads(told.stdout)["mistakes"]] == sorted(said)
    assert tags_of(read(file)).keys() - {"force", "zone_1", "zone_2", "zone_3", "oil"} == {"good"}
    chinese = run("--lang", "zh-CN", "tags", "import", file, table, "--dry-run")
    assert "没有连接 'plk'" in chinese.stderr


def test_what_is_asked_of_it_is_asked_first(run: Run, file: Path, tmp_path: Path) -> None:
    """A refusal changes nothing; for programs it must be said beforehand; what is no table is a sentence."""
    table = tmp_path / "tags.csv"
    table.write_text("name,connection,address\nx,plc,i=1\n")
    assert run("tags", "import", file, table, answer="n\n").exit_code == 1
    assert run("tags", "import", file, table, "--json").exit_code == 2
    assert file.read_text(encoding="utf-8") == TEXT
    assert run("tags", "import", file, tmp_path / "none.csv").exit_code == 1
    file.write_text("version: 1\ntags:\n  - {name: x}\n")
    broken = run("tags", "export", file, table)
    assert (broken.exit_code, f"{file}:3:" in broken.stderr) == (1, True)


def test_the_file_keeps_its_mode_and_its_link(run: Run, file: Path, tmp_path: Path) -> None:
    """A plant file that only its owner may read stays so, and one that is a link stays one."""
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    table = tmp_path / "tags.csv"
    table.write_text("name,connection,address\nx,plc,i=1\n")
    assert run("tags", "import", link, table, "--yes").exit_code == 0
    assert (link.is_symlink(), file.stat().st_mode & 0o777, "x" in tags_of(read(file))) == (True, 0o640, True)
    assert not list(tmp_path.glob(".*"))


def test_excel_opens_what_is_exported(run: Run, file: Path, tmp_path: Path) -> None:
    """CSV with the mark that Excel needs for Chinese, and a workbook with one row for each tag."""
    run("tags", "export", file, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().startswith(b"\xef\xbb\xbfname,")
    assert [row["name"] for row in csv.DictReader((tmp_path / "t.csv").read_text("utf-8-sig").splitlines())] == [
        "force",
        "zone_1",
        "zone_2",
        "zone_3",
        "oil",
    ]
    run("tags", "export", file, tmp_path / "t.xlsx")
    assert openpyxl.load_workbook(tmp_path / "t.xlsx")["tags"].max_row == 6
