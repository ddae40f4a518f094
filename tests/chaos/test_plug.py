"""The plug is pulled: a short schedule over a whole box, whose every reading has its fate; nothing else is touched."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pytest
import pytest_asyncio

from app.selftest.report import Result
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 60
WITHIN_S: Final = 500


async def started(*words: str, **environment: str) -> asyncio.subprocess.Process:
    """Run the command."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "--lang", "en", "selftest", *words,
        cwd=ROOT, env={**os.environ, "COLUMNS": "200", **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def selftest(*words: str, **environment: str) -> tuple[int, str]:
    """The same to its end; exit status and what it printed."""
    process = await started(*words, **environment)
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    except TimeoutError:
        process.terminate()
        await process.wait()
        raise
    return process.returncode or 0, printed.decode()


def report(folder: Path) -> Result:
    """The one report in this folder."""
    (file,) = folder.glob("*.json")
    return msgspec.json.decode(file.read_bytes(), type=Result)


@dataclass(frozen=True)
class Run:
    """One run of a minute, beside a box of somebody's that its environment names."""

    seed: int
    code: int
    printed: str
    reports: Path
    live: Path
    """The data folder of that box."""
    scratch: Path
    """Where temporary folders are made."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pulled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The plug is pulled with a seed that is another each time."""
    top = tmp_path_factory.mktemp("plug")
    reports, live, scratch = top / "reports", top / "live", top / "scratch"
    live.mkdir()
    scratch.mkdir()
    environment = {
        "HEADRACE_DATA_DIR": str(live),
        "HEADRACE_DATABASE_URL": f"sqlite:///{live / 'headrace.db'}",
        "HEADRACE_REDIS_URL": "redis://127.0.0.1:1/0",
        "HEADRACE_JOURNAL_BUDGET_MB": "16",
        "HEADRACE_SECRET_KEY": "somebody's",
        "TMPDIR": str(scratch),
    }
    seed = int.from_bytes(os.urandom(3), "big")
    words = ("--plug", "--for", str(SECONDS), "--seed", str(seed), "--report", str(reports))
    code, printed = await selftest(*words, **environment)
    return Run(seed, code, printed, reports, live, scratch)


@pytest.mark.asyncio(loop_scope="session")
async def test_every_reading_has_its_fate_whatever_is_pulled(pulled: Run) -> None:
    """A minute of faults in an order that is another each time; what failed says how to run it again."""
    assert pulled.code == 0, pulled.printed
    found = report(pulled.reports)
    assert (found.seed, found.good) == (pulled.seed, True)
    assert len(found.faults) > 5
    assert all(one["sent"] > 2000 for one in found.connections)
    assert found.north["windows"] > 100


@pytest.mark.asyncio(loop_scope="session")
async def test_a_customers_box_is_never_touched_and_nothing_is_left(pulled: Run) -> None:
    """What the environment says of another box, its database and its Redis, reaches nobody; the folder is gone."""
    assert list(pulled.live.iterdir()) == []
    assert list(pulled.scratch.iterdir()) == []


async def test_a_run_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle: every process ends, the folder is gone, and there is no result."""
    process = await started("--for", "600", TMPDIR=str(tmp_path))
    await wait_for(lambda: list(tmp_path.glob("*/plant-log/server/log.csv")), 120, "the plant runs")
    process.terminate()
    printed, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 1
    assert "there is no result" in printed.decode()
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """`--keep` makes its folder, and takes none that somebody has."""
    (tmp_path / "precious").touch()
    code, printed = await selftest("--for", "20", "--keep", str(tmp_path))
    assert code == 1
    assert "choose a new one" in printed
    assert [one.name for one in tmp_path.iterdir()] == ["precious"]


async def test_a_fault_that_is_none_is_refused(tmp_path: Path) -> None:
    """Before anything is started."""
    code, printed = await selftest("--plug", "--only", "gatway_killed", "--report", str(tmp_path))
    assert code == 1
    assert "there is no fault gatway_killed" in printed
    assert list(tmp_path.iterdir()) == []


async def test_the_power_is_cut_and_every_reading_has_its_fate(tmp_path: Path) -> None:
    """All processes at once, Redis and then the broker empty, and of the disk what was synced: nothing is repaired."""
    kinds = ("power_cut", "power_cut_with_broker")
    only = (word for kind in kinds for word in ("--only", kind))
    seed = int.from_bytes(os.urandom(3), "big")
    code, printed = await selftest("--plug", "--for", "30", "--seed", str(seed), "--report", str(tmp_path), *only)
    assert code == 0, printed
    found = report(tmp_path)
    if found.left_out:
        pytest.skip(found.left_out)
    assert {one["kind"] for one in found.faults} == set(kinds)
    # A slow host may have no time for one of them, but every write must have been seen.
    assert "power_cut" in {one["kind"] for one in found.faults if not one["note"]}
    assert [one["note"] for one in found.faults if "was seen" in one["note"]] == []
    assert all(one["sent"] > 500 for one in found.connections)
