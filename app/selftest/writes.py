"""What several processes have written, named and synced below a folder, in one order; noted by a library of ours."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from app.selftest.preload import built

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Node = tuple[int, int]
"""Device and inode."""
Entry = tuple[Node, str]
"""A folder, and a name in it."""


class Kind(IntEnum):
    """What a process did."""

    WRITE = 1
    SIZE = 2
    """Made a file longer or shorter."""
    FILE_MADE = 3
    FOLDER_MADE = 4
    LINKED = 5
    RENAMED = 6
    GONE = 7
    """Took a name away."""
    SYNCED = 8
    """fsync or fdatasync has returned without an error, of a file or of a folder."""
    MAPPED = 9
    """A file is in memory that others see, to be written there: no later frame tells of it."""


class Frame(NamedTuple):
    """One call that changed something, as `writes.c` notes it."""

    at: int
    """Where it lies in the notes: later ones are at larger numbers."""
    kind: Kind
    of: Node
    """What was written, made or synced; zeros where only names changed."""
    entries: tuple[Entry, ...]
    """The name that was made or taken away; of a renaming the old and the new one."""
    number: int
    """Of a write where it begins, of a size the size, of what was made its mode (st_mode), of a sync the end of the
    notes when it began: what lies before that is durable."""
    data: memoryview


_HEAD: Final = struct.Struct("=IHHQ6Qq")
"""struct frame of `writes.c`."""
_LOCK: Final = struct.Struct("hhqqi")
"""struct flock of 64-bit Linux: type, whence, start, length, process."""
_SIZE_OF_LOCK: Final = 32


def frames(notes: bytes, begin: int = 0) -> Iterator[Frame]:
    """All of them, in order. The notes end with a whole frame, since whoever writes one holds the lock.

    `begin`: where in all notes these lie.
    """
    data, at = memoryview(notes), 0
    while at < len(data):
        kind, first, second, size, *nodes, number = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        names = (bytes(data[start : start + first]), bytes(data[start + first : start + first + second]))
        start += first + second
        folders = ((nodes[2], nodes[3]), (nodes[4], nodes[5]))
        entries = tuple((folder, os.fsdecode(name)) for folder, name in zip(folders, names, strict=True) if name)
        yield Frame(begin + at, Kind(kind), (nodes[0], nodes[1]), entries, number, data[start : start + size])
        at = start + size


class Writes:
    """The notes of those processes that are started with its variables."""

    def __init__(self, folder: Path) -> None:
        """Builds the library in this folder, where the notes lie too. Raises NoCompilerError."""
        path = folder / "writes.notes"
        self.environment = {"LD_PRELOAD": str(built(folder)), "HEADRACE_WRITES": str(path)}
        """Of each process."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def size(self) -> int:
        """Bytes noted so far."""
        return os.fstat(self._file).st_size

    def read(self, begin: int = 0) -> bytes:
        """What was noted from this place on; only while they are held does it end with a whole frame."""
        return os.pread(self._file, self.size() - begin, begin)

    def clear(self) -> None:
        """Begin anew; only while they are held and none of those processes lives."""
        os.ftruncate(self._file, 0)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile none of those processes changes a file, and none that is started comes to its first instruction.

        Blocking: waits for whoever is at it, also for one that stands still (SIGSTOP).
        """
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW, _flock(fcntl.F_WRLCK))
        try:
            yield
        finally:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW, _flock(fcntl.F_UNLCK))

    def close(self) -> None:
        """Let go of the notes."""
        os.close(self._file)


def _flock(kind: int) -> bytes:
    return _LOCK.pack(kind, os.SEEK_SET, 0, 0, 0).ljust(_SIZE_OF_LOCK, b"\0")
