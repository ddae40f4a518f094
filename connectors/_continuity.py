"""Whether a connection took up where the last one ended: what `Batch.continues` says, once for each that did not."""

from __future__ import annotations


class Continuity:
    """Of one source, through all its connections.

    A connection that ends before its first batch is said to anybody must not take its gap with it: what the next one
    says covers both.
    """

    def __init__(self) -> None:
        """Nothing is missing yet."""
        self._unbroken = True

    def connected(self, *, took_up: bool) -> None:
        """A connection was made; `took_up`: the peer has kept what changed meanwhile."""
        self._unbroken = self._unbroken and took_up

    @property
    def broken(self) -> bool:
        """Whether something is missing that was not said yet."""
        return not self._unbroken

    def say(self) -> bool:
        """For the next batch; those after it continue."""
        unbroken, self._unbroken = self._unbroken, True
        return unbroken
