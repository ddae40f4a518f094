"""A box that stops leaves no process behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.journeys.box import running
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.asyncio(loop_scope="session")


def of_folder(folder: Path) -> Iterator[int]:
    """Processes, other than this one, whose command line, environment or working folder names this folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            at = (process / "cwd").readlink()
        except OSError:
            continue
        if str(folder).encode() in words or at.is_relative_to(folder):
            yield int(process.name)


async def test_nothing_is_left_when_a_box_stops(folder: Path) -> None:
    """Every server, the gateway, the worker with its child, beat and API are gone, and so is running.json."""
    own = folder / "alone"
    async with running(own) as box:
        pids = {one.name: one.pid for one in box.supervisor.status() if one.pid is not None}
        assert {"redis", "broker", "gateway", "worker", "beat", "api"} <= pids.keys()
        there = set(of_folder(own))
        assert set(pids.values()) < there, "the worker's child is one more"
    assert not (own / "running.json").exists()
    await wait_for(lambda: not set(of_folder(own)), 5, "no process is left")
    assert not [pid for pid in there if Path(f"/proc/{pid}").exists()]
