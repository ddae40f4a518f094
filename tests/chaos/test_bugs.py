"""The bugs that are put in on purpose: each is there, fits the code as it is, and names faults that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.selftest.schedule import BY_NAME
from tests.chaos.bugs import BUGS, PATCHES, Bug, applied, copied


def test_each_patch_is_tried() -> None:
    """None lies there unused, none is missing."""
    assert {one.name for one in BUGS} == {path.stem for path in PATCHES.glob("*.patch")}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_patch_fits(bug: Bug, tmp_path: Path) -> None:
    """Code that has changed takes the patch with it, or `make chaos-bugs` would try nothing."""
    assert set(bug.faults) <= BY_NAME.keys()
    copied(tmp_path)
    applied(bug, tmp_path)
