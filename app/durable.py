"""Files and folders that a power cut leaves old or new but whole: what is returned from is on the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace(path: Path, content: bytes, mode: int = 0o640) -> None:
    """Write a file so that after a crash either the old or the new one is there, whole. Raises OSError."""
    temporary = path.with_name(f"{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    sync_folder(path.parent)


def write_all(fd: int, content: bytes) -> int:
    """Write all of it where the file stands; returns how many bytes. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    return len(content)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it that are not there, so that what is in them stays. Raises OSError.

    `mode`: of this one.
    """
    if folder.is_dir():
        # Whoever made it may have been killed before this. Where it is a mount, or not ours, it has long been there.
        with suppress(OSError):
            sync_folder(folder.parent)
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make names durable: a file that was fsynced may still be missing from its folder after a power cut. OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
