"""The plug is pulled: a short schedule over a whole box, whose every reading has its fate; nothing else is touched."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from app.selftest.report import Result

pytestmark = pytest.mark.timeout(600)

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 60
WITHIN_S: Final = 500


async def selftest(*words: str, **environment: str) -> tuple[int, str]:
    """Run the command; exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "--lang", "en", "selftest", *words,
        cwd=ROOT, env={**os.environ, "COLUMNS": "200", **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, printed.decode()


def report(folder: Path) -> Result:
    """The one report in this folder."""
    (file,) = folder.glob("*.json")
    return msgspec.json.decode(file.read_bytes(), type=Result)


async def test_every_reading_has_its_fate_whatever_is_pulled(tmp_path: Path) -> None:
    """A minute of faults in an order that is another each time; what failed says how to run it again."""
    seed = str(int.from_bytes(os.urandom(3), "big"))
    code, printed = await selftest("--plug", "--for", str(SECONDS), "--seed", seed, "--report", str(tmp_path))
    assert code == 0, printed
    found = report(tmp_path)
    assert (found.seed, found.good) == (int(seed), True)
    assert len(found.faults) > 5
    assert all(one["sent"] > 2000 for one in found.connections)
    assert found.north["windows"] > 100


async def test_a_customers_box_is_never_touched_and_nothing_is_left(tmp_path: Path) -> None:
    """What the environment says of another box, its database and its Redis, reaches nobody; the folder is gone."""
    live, scratch = tmp_path / "live", tmp_path / "scratch"
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
    code, printed = await selftest("--for", "20", **environment)
    assert code == 0, printed
    assert list(live.iterdir()) == []
    assert list(scratch.iterdir()) == []


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
