"""Disks that are full, fail, or are used up by the budget: nothing is promised that is not on disk."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.journal import Journal, JournalError, Position
from app.records import Record
from tests.waiting import wait_for

Open = Callable[..., Journal]
MB = 2**20


def _record(size: int, mark: int = 0) -> Record:
    return Record(1, 1, mark, 0, 1, 0, 0, 0, (), bytes(size))


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """The kernel refuses any write beyond this: part of a write may still be done."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_refused_write_stops_the_journal_until_it_succeeds(opened: Open) -> None:
    """Records wait, unacknowledged, while the disk takes none; they are durable once, in order, when it does again."""
    journal = opened()
    await journal.append(_record(100))
    with _largest_file(10_000):
        waiting = [asyncio.create_task(journal.append(_record(20_000, i))) for i in range(3)]
        await wait_for(lambda: journal.state.state == "stopped")
        assert "file size limit" in journal.state.reason
        assert journal.head == Position(1, 1)
        assert not any(one.done() for one in waiting)
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [Position(1, 2), Position(1, 3), Position(1, 4)]
    assert journal.state.state == "running"
    journal.close()
    entries = opened().read_after(Position(1, 1))
    assert [one.record.received_time for one in entries if one.record] == [0, 1, 2]


def _mounted(folder: Path) -> bool:
    """Whether a file system of 1 MB now lies there."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


async def test_a_full_disk_says_what_to_do(opened: Open, tmp_path: Path) -> None:
    """On a file system without room the journal stops with advice, and goes on by itself when there is room."""
    small = tmp_path / "small"
    small.mkdir()
    if not await asyncio.to_thread(_mounted, small):
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        ballast = small / "ballast"
        ballast.write_bytes(bytes(MB // 2))
        journal = opened(small / "journal")
        waiting = asyncio.create_task(journal.append(_record(MB * 3 // 4)))
        await wait_for(lambda: journal.state.state == "stopped")
        assert "make room" in journal.state.reason
        ballast.unlink()
        assert await asyncio.wait_for(waiting, 10) == Position(1, 1)
        journal.close()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(small)], check=True)


async def test_the_budget_holds_and_release_frees_it(opened: Open, folder: Path) -> None:
    """When the budget is used up nothing more is taken; releasing what is applied lets the field in again."""
    journal = opened(budget=16 * MB)
    written = 0
    while journal.state.state == "running":
        last = asyncio.create_task(journal.append(_record(700_000)))
        done, _ = await asyncio.wait([last], timeout=0.5)
        written += len(done)
    assert "budget of 16 MB" in journal.state.reason
    assert sum(path.stat().st_size for path in folder.glob("*.hrj")) <= 16 * MB
    assert journal.release(Position(1, written)) > 0
    assert await asyncio.wait_for(last, 10) == Position(1, written + 1)


async def test_closing_a_stopped_journal_tells_those_who_wait(opened: Open) -> None:
    """What could not be made durable is never reported so."""
    journal = opened()
    with _largest_file(10_000):
        waiting = asyncio.create_task(journal.append(_record(20_000)))
        await wait_for(lambda: journal.state.state == "stopped")
        await asyncio.to_thread(journal.close)
        with pytest.raises(JournalError, match="closed while it was stopped"):
            await waiting
    assert opened().read_after(Position(1, 0)) == []


class _Disk:
    """`fdatasync` of a disk that fails when told to."""

    def __init__(self) -> None:
        self.failures = 0
        self.synced: list[int] = []

    def sync(self, fd: int) -> None:
        """Durable, or an error that says nobody knows."""
        self.synced.append(os.fstat(fd).st_ino)
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


async def test_a_failed_fsync_abandons_the_segment(folder: Path) -> None:
    """The records are written to another file; the one whose fsync failed is never synced again."""
    disk = _Disk()
    journal = Journal(folder, "test", commit_interval_s=0.001, budget=64 * MB, sync=disk.sync)
    await journal.append(_record(10, 1))
    disk.failures = 1
    appended = asyncio.create_task(journal.append(_record(10, 2)))
    await wait_for(lambda: "disk reports errors" in journal.state.reason)
    assert await asyncio.wait_for(appended, 10) == Position(1, 2)
    await journal.append(_record(10, 3))
    await asyncio.to_thread(journal.close)
    failed = disk.synced[2]
    assert disk.synced.count(failed) == 3
    assert failed not in disk.synced[3:]
    again = Journal(folder, "test", commit_interval_s=0.001, budget=64 * MB)
    entries = again.read_after(again.first)
    assert [one.record.received_time for one in entries if one.record] == [1, 2, 3]
    assert again.damaged == {}
    again.close()


async def test_a_segment_that_never_held_anything_is_removed(folder: Path) -> None:
    """A first fsync that fails leaves no file behind, and the record goes to the next one."""
    disk = _Disk()
    disk.failures = 2
    journal = Journal(folder, "test", commit_interval_s=0.001, budget=64 * MB, sync=disk.sync)
    assert await asyncio.wait_for(journal.append(_record(10)), 10) == Position(1, 1)
    assert len(list(folder.glob("*.hrj"))) == 1
    await asyncio.to_thread(journal.close)


async def test_a_fault_of_our_own_ends_the_journal(folder: Path) -> None:
    """What is no error of the disk closes the journal: whoever waits is told, and nothing more is taken."""

    def broken(_fd: int) -> None:
        message = "a fault"
        raise RuntimeError(message)

    journal = Journal(folder, "test", commit_interval_s=0.001, budget=64 * MB, sync=broken)
    with pytest.raises(JournalError, match="a fault"):
        await asyncio.wait_for(journal.append(_record(10)), 10)
    with pytest.raises(JournalError, match="closed"):
        await journal.append(_record(10))
    await asyncio.to_thread(journal.close)
    again = Journal(folder, "test", commit_interval_s=0.001, budget=64 * MB)
    assert again.epoch == 2
    again.close()
