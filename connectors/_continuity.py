"""Whether a connection took up where the last one ended: what `Batch.continues` says, once for each that did not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from connectors._durable import remove, write

FILE: Final = "untold"
"""It is there while something is missing that nobody has been told of for certain."""
ASKED: Final = "asked"
"""It is there while a peer was asked for what it keeps for us, and we have not seen its answer."""


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
        self._asked_file = Path(folder) / ASKED if folder else None
        self._asked = self._asked_file is not None and self._asked_file.exists()
        self.doubtful = False
        """Whether the peer may have begun anew with a question whose answer we never saw: then what it says it has kept
        may be from no earlier than that.
        """

    def asks(self) -> None:
        """The peer is about to be asked for what it keeps, and begins anew where it has nothing. Raises OSError."""
        self.doubtful = self._asked
        if self._asked_file is not None and not self._asked:
            write(self._asked_file, b"")
            self._asked = True

    def refused(self) -> None:
        """It answered that it does not want us: it has begun nothing. Raises OSError."""
        if not self.doubtful:
            self._settle()

    def _settle(self) -> None:
        if self._asked_file is not None and self._asked:
            remove(self._asked_file)
        self._asked = self.doubtful = False

    def connected(self, *, took_up: bool) -> None:
        """A connection was made; `took_up`: the peer has kept what changed meanwhile.

        To be called before the peer, or a file of ours, has anything that a later connection could take up. Raises
        OSError.
        """
        if not took_up or self._written:
            self.missed()
        # Only now: whatever ends us in between, the next connection says it.
        self._settle()

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
