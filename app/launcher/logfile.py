"""The log file of a child: it writes by itself, we keep the file small and quote its last lines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 8 * 2**20
"""Of a log file; one older file of the same size is kept beside it."""
QUOTED_LINES: Final = 15
QUOTED_BYTES: Final = 16 * 2**10


class LogFile:
    """A bounded file that a child appends to through its own handle, so that it never waits for us."""

    def __init__(self, path: Path) -> None:
        """The folder is made; the file is made on the first start."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A file descriptor that appends, readable by the owner alone: programs put odd things into logs."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def mark(self) -> int:
        """Where the next line goes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def last_lines(self, since: int = 0) -> str:
        """The last lines after a mark, indented; empty when there are none."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(min(since, end), end - QUOTED_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-QUOTED_LINES:])

    def bound(self) -> None:
        """Move a file that has grown too large aside and empty it; its writers go on at its start.

        A line written between the two steps is lost: the price of not standing between a child and its log.
        """
        if self.path.exists() and self.path.stat().st_size > MAX_BYTES:
            shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
            os.truncate(self.path, 0)
