"""Back pressure end to end, in short: what is held up waits on disk, memory stays bounded, and all of it comes through.

Longer ones are runs of their own: `headrace selftest --plug --only database_slow --hold 600 --for 620`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from app.selftest.report import MOST_MB
from tests.chaos.test_plug import report, selftest

pytestmark = pytest.mark.timeout(600)

HOLD_S: Final = 15
RUN_S: Final = 25


@pytest.mark.parametrize(
    ("database", "fault"),
    [
        ("sqlite", "database_locked"),
        ("sqlite", "worker_stopped"),
        ("sqlite", "broker_stopped"),
    ],
)
async def test_what_is_held_up_comes_through(tmp_path: Path, database: str, fault: str) -> None:
    """A database that is locked, workers that do nothing, a consumer that hangs: nothing is lost."""
    words = ("--plug", "--only", fault, "--hold", str(HOLD_S), "--for", str(RUN_S), "--database", database)
    code, printed = await selftest(*words, "--report", str(tmp_path))
    assert code == 0, printed
    found = report(tmp_path)
    (held,) = found.faults
    assert (held["kind"], held["note"]) == (fault, "")
    assert held["ended"] - held["began"] >= HOLD_S * 10**9
    # Every process was weighed, and none took what waited into memory.
    assert set(found.memory_mb) == {"gateway", "worker", "beat", "api"}
    assert 50 < max(found.memory_mb.values()) <= MOST_MB
