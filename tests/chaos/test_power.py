"""The power is cut after every single write: what was promised by then is there, and everything opens by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.selftest.disk import unlike
from tests.chaos.opening import CHECKS, UNSEEN
from tests.chaos.recorded import Cut, broken, recorded
from tests.chaos.writing import DATA, PROGRAMS

WRITING = "tests.chaos.writing"


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_was_promised_outlives_a_power_cut_at_any_moment(program: str, tmp_path: Path) -> None:
    """Opened after a cut anywhere, with all, some or nothing of what was not synced, it lacks nothing; no repair.

    Nothing escapes the notes: replaying them gives the folder byte for byte, and no file is written through memory.
    """

    def wrong(folder: Path, cut: Cut) -> str:
        return CHECKS[program](folder / DATA, cut.promised)

    run = recorded(tmp_path, WRITING, program)
    assert broken(run, tmp_path, wrong) == []
    assert [one for one in unlike(run.disk.whole(), run.folder) if not any(name in one for name in UNSEEN)] == []
    assert [path for path in run.disk.whole() if run.disk.is_mapped(path)] == []
