"""Files of a connection that a power cut leaves old or new but whole: what is returned from is on the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A whole file or none; its folder is made if need be. Raises OSError."""
    make_folder(path.parent)
    draft = path.with_suffix(".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """So that it does not come back; nothing where there is none. Raises OSError."""
    if path.exists():
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it that are not there, so that what is in them stays. Raises OSError."""
    if folder.is_dir():
        # Whoever made it may have been killed before this. Where it is a mount, or not ours, it has long been there.
        with suppress(OSError):
            sync_folder(folder.parent)
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make names durable: a file that was fsynced may be missing from its folder after a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
