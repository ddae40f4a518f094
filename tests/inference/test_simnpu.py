"""SimNPU, built here by a real compiler: what it takes, how it computes, how it fails, what it leaves on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inference import BackendNotInstalledError, simnpu


def test_it_is_built_once_where_nobody_else_may_write(tmp_path: Path) -> None:
    """A library once built is taken as it is; a folder that others may write to is refused."""
    folder = tmp_path / "built"
    folder.mkdir(mode=0o700)
    there = simnpu.built_at(folder)
    there.write_bytes(b"built before")
    assert simnpu.library(folder) == there
    assert there.read_bytes() == b"built before"
    os.chmod(folder, 0o777)  # noqa: PTH101, S103 - what must be refused
    with pytest.raises(BackendNotInstalledError, match="others may write"):
        simnpu.library(folder)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where there is no place to build in, the reason says which."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendNotInstalledError, match=f"cannot be built in {tmp_path}/file/in"):
        simnpu.library(tmp_path / "file" / "in")
