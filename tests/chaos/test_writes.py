"""The notes of what is written: nothing escapes them, their order is that of the disk, and whoever holds them rules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import settings
from app.selftest.disk import unlike
from app.selftest.writes import Kind, Writes, frames
from tests.chaos.recorded import recorded, writes
from tests.waiting import wait_until

CHILD = "import sys; print('begun', flush=True); sys.stdin.readline(); open(sys.argv[1], 'w').write('x'); print('done')"


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Writes]:
    """Nobody writes yet."""
    made = writes(tmp_path)
    yield made
    made.close()


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether it stands before a lock that somebody else has (proc(5), /proc/locks)."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {process.pid} " in line for line in lines)


def begun(notes: Writes, path: Path) -> subprocess.Popen[str]:
    """A process that writes when it is told."""
    with settings.alone():
        environment = {**settings.inherited(), **notes.environment}
    return subprocess.Popen(
        [sys.executable, "-B", "-I", "-S", "-c", CHILD, str(path)], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def test_whatever_processes_threads_and_forks_do_is_seen_in_its_order(tmp_path: Path) -> None:
    """Replayed, it is what they have left, byte for byte."""
    run = recorded(tmp_path, "tests.chaos.crowd")
    run.disk.note(run.frames)
    assert unlike(run.disk.whole(), run.folder) == []
    assert len((run.folder / "all").read_bytes()) == 5 * 60 * 11


def test_while_the_notes_are_held_nobody_writes(notes: Writes, tmp_path: Path) -> None:
    """Who is about to waits until they are free."""
    path = tmp_path / "file"
    with begun(notes, path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with notes.held():
            process.stdin.write("\n")
            process.stdin.flush()
            wait_until(lambda: waits(process))
            assert not path.exists()
            assert notes.size() == 0
        assert process.stdout.readline() == "done\n"
    assert [one.kind for one in frames(notes.read())] == [Kind.FILE_MADE, Kind.WRITE]


def test_while_the_notes_are_held_nobody_begins(notes: Writes, tmp_path: Path) -> None:
    """A process that is started meanwhile finds the disk as whoever held them has left it."""
    with notes.held():
        process = begun(notes, tmp_path / "file")
        wait_until(lambda: waits(process))
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.kill()


def test_who_is_killed_while_he_waits_leaves_the_notes_whole(notes: Writes, tmp_path: Path) -> None:
    """The lock goes with its process, and frames are written whole or not at all."""
    with begun(notes, tmp_path / "file") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with notes.held():
            process.stdin.write("\n")
            process.stdin.flush()
            wait_until(lambda: waits(process))
            process.kill()
            process.wait()
            assert list(frames(notes.read())) == []
    with notes.held():
        assert notes.size() == 0
