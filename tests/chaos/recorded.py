"""Runs a program whose every write is noted, and gives the disk as it may be after a power cut at each moment of it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from app import settings
from app.selftest.disk import WAYS, Disk, Image, Way, put
from app.selftest.preload import NoCompilerError
from app.selftest.writes import Frame, Kind, Writes, frames

ROOT: Final = Path(__file__).parents[2]
SAID: Final = "said"
"""What the program was promised, a line each, in the order of all its writes; no part of what is cut."""
WITHIN_S: Final = 120
_TRIES: Final = (*((way, 1) for way in WAYS), (WAYS[-1], 2))
MOST: Final = 5
"""So many that went wrong are enough to see why."""


@dataclass(frozen=True)
class Run:
    """One run of a program."""

    folder: Path
    """What it has left."""
    disk: Disk
    """As it was before, until frames are noted."""
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Cut:
    """One disk after one power cut."""

    after: Frame
    way: Way
    seed: int
    image: Image
    promised: tuple[str, ...]
    """Lines that the program had said by then."""

    def __str__(self) -> str:
        """For whoever looks for what went wrong."""
        names = [name for _, name in self.after.entries]
        return f"cut after {self.after.kind.name} {names} at {self.after.at}: {self.way.name}, seed {self.seed}"


def writes(folder: Path) -> Writes:
    """Skipped where there is no compiler, as the command leaves these faults out."""
    try:
        return Writes(folder)
    except NoCompilerError as error:
        pytest.skip(str(error))


def recorded(folder: Path, module: str, *words: str) -> Run:
    """Run a module over an empty folder to its end; the folder is its first argument."""
    top = folder / "disk"
    top.mkdir()
    disk, noted = Disk(top), writes(folder)
    with settings.alone():
        environment = {**settings.inherited(), **noted.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", module, str(top), *words]
    subprocess.run(command, check=True, env=environment, timeout=WITHIN_S)
    run = Run(top, disk, tuple(frames(noted.read())))
    noted.close()
    return run


def cuts(run: Run) -> Iterator[Cut]:
    """The power is cut after each call, in each way; the same disk after the same promises comes once."""
    said, of, seen = b"", (0, 0), set[bytes]()
    for frame in run.frames:
        run.disk.note((frame,))
        if frame.kind == Kind.FILE_MADE and frame.entries[0][1] == SAID:
            of = frame.of
        said += bytes(frame.data) if frame.kind == Kind.WRITE and frame.of == of else b""
        promised = tuple(said.decode().splitlines())
        for way, seed in _TRIES:
            image = run.disk.cut(way, seed)
            image.pop(SAID, None)
            key = hashlib.sha256(repr((sorted(image.items()), len(promised))).encode()).digest()
            if key not in seen:
                seen.add(key)
                yield Cut(frame, way, seed, image, promised)


def broken(run: Run, folder: Path, check: Callable[[Path, Cut], str]) -> list[str]:
    """What `check` says of each cut, where it says something: it opens the disk and looks for what was promised."""
    found = []
    for number, cut in enumerate(cuts(run)):
        # Each has a folder of its own: what is remembered by its path belongs to one disk.
        disk = folder / f"cut-{number}"
        disk.mkdir()
        put(cut.image, disk)
        try:
            said = check(disk, cut)
        except Exception as error:
            raise AssertionError(str(cut)) from error
        shutil.rmtree(disk)
        if said:
            found.append(f"{cut}: {said}")
        if len(found) == MOST:
            break
    return found
