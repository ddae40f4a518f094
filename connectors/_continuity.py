"""Whether a connection took up where the last one ended: what `Batch.continues` says, once for each that did not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from connectors._durable import write

FILE: Final = "untold"
"""It is there while something is missing that nobody has been told of for certain."""


class Continuity:
    """Of one source, through all its connections, and through our own end.

    A connection that ends before its first batch is safe with anybody must not take its gap with it: the next one may
    take up what this one has begun, and what it says has to cover both.
    """

    def __init__(self, folder: str = "") -> None:
        """`folder`: where it is written down, for peers that keep something for us; without it, nowhere."""
        self._file = Path(folder) / FILE if folder else None
        self._written = self._file is not None and self._file.exists()
        self._unbroken = True

    def connected(self, *, took_up: bool) -> None:
        """A connection was made; `took_up`: the peer has kept what changed meanwhile.

        To be called before the peer, or a file of ours, has anything that a later connection could take up. Raises
        OSError.
        """
        if not took_up or self._written:
            self.missed()

    def missed(self) -> None:
        """Something that the peer had for us is gone, and nobody knows when it changed. Raises OSError."""
        self._unbroken = False
        if self._file is not None and not self._written:
            write(self._file, b"")
            self._written = True

    @property
    def broken(self) -> bool:
        """Whether something is missing that was not said yet."""
        return not self._unbroken

    def say(self) -> bool:
        """For the next batch; those after it continue."""
        unbroken, self._unbroken = self._unbroken, True
        return unbroken

    def told(self) -> None:
        """A batch is safe with whoever reads: what was said with it, or before it, is known. Raises OSError."""
        if self._written and self._unbroken and self._file is not None:
            self._file.unlink(missing_ok=True)
            self._written = False
