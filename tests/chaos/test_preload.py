"""The library before the C library: one process sees another clock and a disk that fails, and goes on when told so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.selftest.preload import Preload

CHILD = """
import os, sys, time
file = open(sys.argv[1], "wb")
for _ in sys.stdin:
    try:
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
        said = "durable"
    except OSError as error:
        said = str(error.errno)
    print(time.time_ns(), time.monotonic_ns(), said, flush=True)
"""


@pytest.fixture
def child(preload: Preload, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the library; it answers each line with its clock, and whether its disk has synced."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "file")], env={**os.environ, **preload.environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process


def asked(child: subprocess.Popen[str]) -> tuple[float, float, str]:
    """Seconds that its clock is ahead of ours, the same of its monotonic clock, and what its disk says."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    wall, steady, said = child.stdout.readline().split()
    return (int(wall) - time.time_ns()) / 1e9, (int(steady) - time.monotonic_ns()) / 1e9, said


def test_its_clock_steps_and_only_its_own(preload: Preload, child: subprocess.Popen[str]) -> None:
    """Ahead, behind, right again; what measures durations goes on."""
    for ahead in (0, 3600, -3, 0):
        preload.tell(ahead * 1_000_000_000)
        wall, steady, said = asked(child)
        assert abs(wall - ahead) < 1
        assert abs(steady) < 1
        assert said == "durable"


def test_its_disk_fails_to_sync_until_it_is_well_again(preload: Preload, child: subprocess.Popen[str]) -> None:
    """EIO, as a disk says that has lost what was written."""
    assert asked(child)[2] == "durable"
    preload.tell(sync_fails=True)
    assert asked(child)[2] == "5"
    preload.tell()
    assert asked(child)[2] == "durable"
