"""The folder of a journal: identity, epoch, one owner at a time, and files that a crash leaves old or new but whole."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

EPOCH_FILE: Final = "epoch"
LOCK_FILE: Final = "lock"


class JournalError(Exception):
    """The journal cannot be used as it is; the message says what to do."""


class JournalBusyError(JournalError):
    """Another process holds this journal. Stop it first: two writers would hand out the same numbers."""


class Identity(msgspec.Struct, frozen=True):
    """Which journal this is, and how often it was opened."""

    journal: str
    """Unique for ever: the database knows batches by it, so a wiped folder must not come back under its name."""
    epoch: int


def replace(path: Path, content: bytes, mode: int = 0o640) -> None:
    """Write a file so that after a crash either the old or the new one is there, whole."""
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


def sync_folder(folder: Path) -> None:
    """Make names durable: a file that was fsynced may still be missing from its folder after a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(folder: Path) -> int:
    """Take the folder for this process; returns the descriptor that holds it. Raises JournalBusyError."""
    fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        message = f"another process holds the journal in {folder}: stop it first"
        raise JournalBusyError(message) from error
    return fd


def next_identity(folder: Path, name: str, newest_epoch: int) -> Identity:
    """Begin an epoch and make it durable before any number of it is handed out.

    `newest_epoch`: the largest that a segment in this folder has, 0 without segments. Raises JournalError.
    """
    path = folder / EPOCH_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        if newest_epoch:
            message = f"{path} is gone but segments are there: put it back, or move the folder away to begin anew"
            raise JournalError(message) from None
        found = Identity(f"{name}-{secrets.token_hex(4)}", 0)
    except msgspec.MsgspecError as error:
        message = f"{path} is damaged: {error}"
        raise JournalError(message) from error
    made = Identity(found.journal, max(found.epoch, newest_epoch) + 1)
    replace(path, msgspec.json.encode(made))
    return made


_ADVICE: Final = {
    errno.ENOSPC: "the disk is full: make room on it",
    errno.EROFS: "the disk is mounted read-only: look at the kernel's log, the file system may be damaged",
    errno.EIO: "the disk reports errors: replace it",
    errno.EFBIG: "the file size limit of this process is too small",
}


def explain(error: OSError) -> str:
    """What stopped it, in the operator's words."""
    said = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0)
    return f"{advice} ({said})" if advice else said
