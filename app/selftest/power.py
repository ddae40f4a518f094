"""Cuts the power of a box: its processes end at once, and its disk comes back with what was durable, and some more."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from app.selftest.disk import WAYS, Disk, put, unlike
from app.selftest.writes import Writes, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from app.selftest.disk import Way

KEPT: Final = frozenset(("log", "redis", "broker"))
"""Folders that are not cut: what supervised processes print, and servers whose state is treated by itself."""
GONE_S: Final = 10.0
LOOK_S: Final = 0.005


class BlindError(Exception):
    """The disk cannot be cut: something was written that the library has not seen."""


class Power:
    """Of the processes that are started with its variables."""

    def __init__(self, folder: Path, data: Path, seed: int) -> None:
        """`folder`: for the library and its notes; `data`: what is cut. Nothing runs yet. Raises NoCompilerError."""
        self._data = data
        self._writes = Writes(folder)
        self._chance = random.Random(seed)  # noqa: S311 - repeatable is what is wanted
        self._ways = self._turns()
        self._disk = Disk(data, KEPT)
        self._followed = 0
        """Up to here the notes are in it."""
        self._one = threading.Lock()

    @property
    def environment(self) -> Mapping[str, str]:
        """Of each process."""
        return self._writes.environment

    def begin(self) -> None:
        """From here on: what is there now is durable. Blocking. Raises OSError.

        Nobody in this process may have the database open: SQLite's locks are POSIX's, which go when any descriptor of
        the file is closed, and files are read here.
        """
        with self._one, self._writes.held():
            self._begin()

    def _begin(self) -> None:
        self._disk, self._followed = Disk(self._data, KEPT), 0
        self._writes.clear()

    def follow(self) -> None:
        """Take in what was noted meanwhile: what is durable by then needs no notes in memory. Blocking. OSError."""
        with self._one:
            with self._writes.held():
                notes = self._writes.read(self._followed)
            self._note(notes)

    def _note(self, notes: bytes) -> None:
        self._disk.note(frames(notes, self._followed))
        self._followed += len(notes)

    def cut(self, pids: Collection[int], let_go: Callable[[], None]) -> str:
        """Kill them and change the disk; whoever starts them again waits meanwhile. What became of the disk. Blocking.

        `let_go`: closes what this process has of the database; called when all are gone, before any file is changed.
        Raises BlindError, OSError.
        """
        with self._one, self._writes.held():
            try:
                self._kill(pids)
                try:
                    disk = self._seen()
                finally:
                    let_go()
                way, seed = next(self._ways), self._chance.randrange(2**31)
                image = disk.cut(way, seed)
                _clear(self._data)
                put(image, self._data)
            finally:
                self._begin()
        return way.name

    def _turns(self) -> Iterator[Way]:
        # The hardest one first: a short run has it, too.
        yield WAYS[0]
        while True:
            yield from self._chance.sample(WAYS, len(WAYS))

    def _kill(self, pids: Collection[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE_S
        while any(map(_lives, pids)) and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    def _seen(self) -> Disk:
        self._note(self._writes.read(self._followed))
        blind = [
            path for path in unlike(self._disk.whole(), self._data, KEPT) if not self._disk.is_mapped(path)
        ]  # fmt: skip
        if blind:
            message = f"not all that was written was seen: {', '.join(blind[:3])}"
            raise BlindError(message)
        return self._disk

    def close(self) -> None:
        """Let go of the notes."""
        self._writes.close()


def _lives(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - no path of ours
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _clear(data: Path) -> None:
    for one in data.iterdir():
        if one.name in KEPT:
            continue
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()
