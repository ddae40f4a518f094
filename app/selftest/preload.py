"""A library that is put before the system's own in one process: its clock steps, its fsync fails, when we say so."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

SOURCES: Final = tuple(Path(__file__).with_name(name) for name in ("preload.c", "writes.c"))
COMPILERS: Final = ("cc", "gcc", "clang")
WITHIN_S: Final = 60
_FORM: Final = struct.Struct("=qq")


class Preload:
    """What one process is told of its clock and its disk."""

    def __init__(self, folder: Path) -> None:
        """Builds the library in this folder. Raises NoCompilerError."""
        self._told = folder / "preload.told"
        self._told.write_bytes(_FORM.pack(0, 0))
        self.environment = {"LD_PRELOAD": str(built(folder)), "HEADRACE_PRELOAD": str(self._told)}
        """Of the process."""

    def tell(self, ahead_ns: int = 0, *, sync_fails: bool = False) -> None:
        """From now on its clock is so far ahead, and its disk does not take what is synced."""
        # In place: the process has mapped this very file.
        with self._told.open("r+b") as file:
            file.write(_FORM.pack(ahead_ns, int(sync_fails)))


class NoCompilerError(Exception):
    """There is no C compiler, or not this kind of system: faults that need it are left out."""


def built(folder: Path) -> Path:
    """The library in this folder, made if it is not there. Raises NoCompilerError."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None or sys.platform != "linux":
        message = "no C compiler on PATH (cc, gcc, clang): install gcc"
        raise NoCompilerError(message)
    made = folder / "preload.so"
    if made.exists():
        return made
    command = (compiler, "-O2", "-shared", "-fPIC", "-pthread", "-o", str(made), *map(str, SOURCES))
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WITHIN_S)  # noqa: S603 - our own file
    if done.returncode:
        message = f"the C compiler {compiler} fails: {done.stderr.strip()[:300]}"
        raise NoCompilerError(message)
    return made
