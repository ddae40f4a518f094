"""The order of one edge node's messages (Sparkplug 3.0, 6.4.5 and 5.9): numbered modulo 256, late ones waited for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

MODULO: Final = 256
HALF: Final = 128
"""A number this far ahead is rather one from before."""
ASTRAY: Final = 3
"""So many numbers from before, one after the other, and it is we who have lost count."""

T = TypeVar("T")


class Offered(NamedTuple, Generic[T]):
    """What may be taken now, in order."""

    ready: list[T]
    astray: bool = False
    """The node counts from elsewhere: a birth was missed."""


class GivenUp(NamedTuple, Generic[T]):
    """What had been waiting for messages that did not come."""

    ready: list[T]
    missing: int
    birth: bool
    """Whether a birth of the node (number 0) may be among the missing."""


@dataclass(slots=True)
class Sequence(Generic[T]):
    """The numbers of one node."""

    expected: int | None = None
    """None until a birth says where to begin: then everything is taken as it comes."""
    held: dict[int, T] = field(default_factory=dict)
    _astray: int = 0

    def begin(self, number: int | None) -> None:
        """A birth with this number has come."""
        self.expected = None if number is None else (number + 1) % MODULO
        self._astray = 0

    def offer(self, number: int | None, item: T) -> Offered[T]:
        """A message with this number has come; None when it has none."""
        if number is None or self.expected is None:
            return Offered([item])
        number %= MODULO
        ahead = (number - self.expected) % MODULO
        if ahead >= HALF or number in self.held:
            return self._from_before(number, item)
        self._astray = 0
        if ahead:
            self.held[number] = item
            return Offered([])
        ready = [item]
        self.expected = (number + 1) % MODULO
        while self.expected in self.held:
            ready.append(self.held.pop(self.expected))
            self.expected = (self.expected + 1) % MODULO
        return Offered(ready)

    def _from_before(self, number: int, item: T) -> Offered[T]:
        self._astray += 1
        if self._astray < ASTRAY:
            return Offered([item])
        ready = [*self.give_up().ready, item]
        self.begin(number)
        return Offered(ready, astray=True)

    def give_up(self) -> GivenUp[T]:
        """Take what is held, and go on after it."""
        ready: list[T] = []
        missing, birth = 0, False
        while self.held and self.expected is not None:
            if self.expected in self.held:
                ready.append(self.held.pop(self.expected))
            else:
                missing += 1
                birth = birth or self.expected == 0
            self.expected = (self.expected + 1) % MODULO
        return GivenUp(ready, missing, birth)
