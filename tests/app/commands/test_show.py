"""`headrace ledger`, `status`, `devices`: tables for people, JSON and exit status for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr
from rich.cells import cell_len
from typer.testing import Result

from app import live, queue, settings, times, workers
from app.commands import running
from app.db import make_engine, upgrade, writing
from app.launcher.ports import Port
from app.ledger.tables import GapRow, HeldRow, JournalStateRow, LedgerRow, PlaceRow
from app.sources.tables import ConnectionRow
from tests.inference.machines import Machine, described

Run = Callable[..., Result]
COUNTED = {"read": 10, "stored": 7, "refused": 1, "dropped": 0, "held": 2, "lost_by_peer": 0}


@pytest.fixture
def counted(data: Path) -> Callable[..., None]:
    """Write what a gateway counted of one connection."""
    data.mkdir()
    upgrade(f"sqlite:///{data / 'headrace.db'}")

    def write(**figures: int) -> None:
        engine = make_engine(f"sqlite:///{data / 'headrace.db'}")
        with writing(engine) as session:
            row = ConnectionRow(name="plc", connector="opcua", options={}, revision=1)
            session.add(row)
            session.flush()
            place = {"epoch": 1, "head": 5, "watermark": 4, "segments": 1, "bytes": 99, "at": times.now()}
            session.add(JournalStateRow(journal="gateway-1", connection_id=row.id, **place, **{**COUNTED, **figures}))
        engine.dispose()

    return write


def test_a_ledger_that_balances(run: Run, counted: Callable[..., None]) -> None:
    """Read is stored, refused, dropped and held: exit status 0."""
    counted()
    found = run("ledger")
    assert found.exit_code == 0
    assert "Every connection balances" in found.stdout
    account = json.loads(run("ledger", "--json").stdout)
    assert account["balanced"] is True
    (one,) = account["connections"]
    assert {name: one[name] for name in COUNTED} == COUNTED


def test_a_ledger_that_does_not_balance_is_an_error(run: Run, counted: Callable[..., None]) -> None:
    """One reading too few: said, in either language, with exit status 1."""
    counted(stored=6)
    assert run("ledger").exit_code == 1
    assert "NOT BALANCED" in run("ledger").stdout
    assert "不平衡" in run("ledger", "--lang", "zh-CN").stdout
    found = run("ledger", "--json")
    assert (found.exit_code, json.loads(found.stdout)["balanced"]) == (1, False)


def test_a_ledger_says_where(run: Run, counted: Callable[..., None], data: Path) -> None:
    """What is stored and what is held is told by place, and what is of none, in either language."""
    counted()
    assert "by place" not in run("ledger").stdout
    engine = make_engine(f"sqlite:///{data / 'headrace.db'}")
    with writing(engine) as session:
        session.add(PlaceRow(id=4, connection_id=1, path="line-2/press"))
        session.add(LedgerRow(
            journal="gateway-1", connection_id=1, place_id=4, fate="stored", reason="", readings=7, batches=1
        ))  # fmt: skip
        session.add(HeldRow(journal="gateway-1", place_id=4, held=1))
    engine.dispose()
    shown = run("ledger").stdout
    assert re.search(r"plc\W+line-2/press\W+7\W+0\W+0\W+1\W", shown)
    assert re.search(r"plc\W+no place\W+0\W+0\W+0\W+1\W", shown)
    assert "按位置" in run("ledger", "--lang", "zh-CN").stdout
    (account,) = json.loads(run("ledger", "--json").stdout)["connections"]
    nothing = {"stored": 0, "refused": 0, "dropped": 0, "held": 0}
    assert account["places"] == [
        {"place": "", **nothing, "held": 1},
        {"place": "line-2/press", **nothing, "stored": 7, "held": 1},
    ]


def test_gaps_are_shown(run: Run, counted: Callable[..., None], data: Path) -> None:
    """From when to when, newest first; of one connection if asked; none is said to be none."""
    counted()
    assert "No gaps" in run("gaps").stdout
    engine = make_engine(f"sqlite:///{data / 'headrace.db'}")
    with writing(engine) as session:
        for second in (5, 60):
            session.add(GapRow(connection_id=1, since=second * 10**9, until=(second + 2) * 10**9))
    engine.dispose()
    found = json.loads(run("gaps", "--json").stdout)
    assert [one["since"] for one in found] == ["1970-01-01T00:01:00.000000000Z", "1970-01-01T00:00:05.000000000Z"]
    assert json.loads(run("gaps", "--json", "--connection", "other").stdout) == []
    assert len(json.loads(run("gaps", "--json", "--limit", "1").stdout)) == 1
    shown = run("gaps", "--lang", "zh-CN").stdout
    assert "plc" in shown
    assert "2.000" in shown


@pytest.mark.parametrize("command", ["ledger", "gaps", "status", "migrate", "revisions"])
def test_a_database_that_is_away_is_a_sentence(run: Run, command: str) -> None:
    """No traceback, no password, exit status 1; in either language."""
    with Port() as port:
        url = f"postgresql://u:hidden@127.0.0.1:{port.number}/x"
        found = run(command, HEADRACE_DATABASE_URL=url)
        chinese = run(command, "--lang", "zh-CN", HEADRACE_DATABASE_URL=url)
    assert found.exit_code == 1
    assert found.stderr.startswith("The database does not answer: ")
    assert len(found.stderr.splitlines()) == 1
    assert "hidden" not in found.stderr
    assert chinese.stderr.startswith("数据库没有应答：")


def test_before_anything_was_counted(run: Run, counted: Callable[..., None]) -> None:
    """An empty ledger is said to be empty."""
    del counted
    assert "No gateway has counted" in run("ledger").stdout


def test_status_without_a_gateway_is_an_error(run: Run, counted: Callable[..., None]) -> None:
    """Nobody reports: exit status 1, whatever is in the database."""
    counted()
    found = run("status", "--json")
    assert (found.exit_code, json.loads(found.stdout)["gateways"]) == (1, [])


def test_status_shows_what_a_gateway_reports(
    run: Run, counted: Callable[..., None], data: Path, redis_url: str
) -> None:
    """The live figures of a gateway are found by its data folder alone."""
    counted()
    here = settings.Settings(data_dir=data)
    running.write(data, running.Running(1, redis_url, here.database(), "http://127.0.0.1:8420"))
    settings.use(here.model_copy(update={"redis_url": SecretStr(redis_url)}))
    report = live.GatewayLive(
        gateway="status-test",
        at=times.now(),
        connections=(
            live.ConnectionLive("plc", "lost", error="nobody answers", readings_per_s=12.0),
            live.ConnectionLive("press", "connected", notes=("our own certificate ends on 2027-01-01",)),
        ),
        journal_state="ok",
        head=5,
        watermark=4,
        held=2,
        readings_per_s=12.0,
        latency_p50_ms=80.0,
        leases=(live.LeaseLive("connection plc", "status-test", "2026-01-01T00:00:00Z", 7, mine=True),),
    )
    queue.put_live(f"{live.PREFIX}status-test", msgspec.json.encode(report))
    there = workers.WorkerLive(
        "w/1:7:8", "box-7", 7, times.now(), ("cpu", "ascend:1"), ("cpu",), ("ascend:0",), ("infer.ascend", "infer.cpu")
    )  # fmt: skip
    queue.put_live(f"{workers.PREFIX}{there.id}", msgspec.json.encode(there))
    found = run("status")
    assert found.exit_code == 0, found.output
    for part in ("status-test", "plc", "lost", "nobody answers", "80.0", "press: our own certificate ends on 2027"):
        assert part in found.stdout
    assert "connection plc" in found.stdout
    assert re.search(r"box-7:7\W+cpu, ascend:1\W+ascend:0\W+infer.ascend, infer.cpu\W+\d+\W", found.stdout)
    assert "丢失的设备" in run("status", "--lang", "zh-CN").stdout
    shown = [one for one in json.loads(run("status", "--json").stdout)["workers"] if one["id"] == there.id]
    assert [(one["devices"], one["lost"]) for one in shown] == [(["cpu", "ascend:1"], ["ascend:0"])]
    assert shown[0]["age_s"] < 60
    queue.door().drop_live(f"{workers.PREFIX}{there.id}")
    assert there.id not in {one["id"] for one in json.loads(run("status", "--json").stdout)["workers"]}
    gateways = json.loads(run("status", "--json").stdout)["gateways"]
    assert [one["watermark"] for one in gateways if one["gateway"] == "status-test"] == [4]


def test_devices_says_what_is_there_and_why_the_rest_is_not(run: Run) -> None:
    """The CPU is there; each that is absent has a reason."""
    found = json.loads(run("devices", "--json").stdout)
    assert "cpu" in {one["vendor"] for one in found["devices"]}
    assert all(one["reason"] and one["evidence"] for one in found["absent"])
    assert {"ascend", "biren", "metax"} <= {one["vendor"] for one in found["absent"]}
    assert "cpu" in run("devices").stdout


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_absent_devices_take_one_line_each(run: Run, language: str, tmp_path: Path) -> None:
    """On a machine without accelerators: maker, reason and evidence on a line of 120 columns, in straight columns."""
    bare = Machine(tmp_path / "bare").root
    words = ("devices", "--root", bare, "--lang", language)
    absent = json.loads(run(*words, "--json").stdout)["absent"]
    lines = run(*words, COLUMNS="120").stdout.splitlines()
    assert len(absent) >= 11
    for one in absent:
        (line,) = [each for each in lines if each.startswith(f"│ {one['vendor']} ")]
        assert (one["reason_zh"] if language == "zh-CN" else one["reason"]) in line
        assert one["evidence"] in line
    head = next(index for index, line in enumerate(lines) if f"│ {absent[0]['vendor']} " in line) - 2
    table = lines[head:]
    assert len({cell_len(line) for line in table if line.strip()}) == 1, "a column is crooked"


def test_a_long_reason_is_folded_and_not_cut(run: Run, tmp_path: Path) -> None:
    """A card without its runtime: the whole recipe stands in a table of 60 columns, and in JSON."""
    machine = Machine(tmp_path / "with")
    machine.hardware(described()["ascend"])
    found = json.loads(run("devices", "--root", machine.root, "--json").stdout)
    reason = next(one["reason"] for one in found["absent"] if one["vendor"] == "ascend")
    assert reason.startswith("/dev/davinci0 is there, but ONNX Runtime with CANN cannot be used")
    shown = run("devices", "--root", machine.root, COLUMNS="60").stdout
    cells = "".join(line.split("│")[2].strip() for line in shown.splitlines() if line.count("│") == 4)
    assert reason.replace(" ", "") in cells.replace(" ", "")
    assert max(map(cell_len, shown.splitlines())) <= 60
