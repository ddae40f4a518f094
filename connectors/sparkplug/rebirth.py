"""Whom to ask for births, and when: never one node too often, never many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from connectors.sparkplug.address import Key

MOST_DOUBLED: Final = 32
APART_S: Final = 0.05
"""Between requests to any two nodes: births are large, and a plant's come all together otherwise."""


@dataclass(slots=True)
class _Asked:
    not_before: float
    pause: float
    answered: bool = False


class Rebirths:
    """Times are those of one monotonic clock, in seconds."""

    def __init__(self, pause_s: float, *, allowed: bool) -> None:
        """`pause_s`: between two requests to the same node; `allowed`: whether there are any."""
        self._pause = pause_s
        self._allowed = allowed
        self._wanted: dict[Key, None] = {}
        self._asked: dict[Key, _Asked] = {}
        self._not_before = 0.0

    def want(self, node: Key) -> None:
        """The births of this node are needed."""
        if self._allowed:
            self._wanted[node] = None

    def want_anew(self, node: Key) -> None:
        """An engineer has put tags on it: a node that answered the last time is asked without a pause."""
        self.want(node)
        asked = self._asked.get(node)
        if asked is not None and asked.answered:
            asked.not_before = 0.0

    def leave(self, node: Key) -> None:
        """There is no tag on it any more."""
        self._wanted.pop(node, None)

    def born(self, node: Key) -> None:
        """They have come."""
        self._wanted.pop(node, None)
        asked = self._asked.get(node)
        if asked is not None:
            asked.pause, asked.answered = self._pause, True

    def forget(self) -> None:
        """Nothing is wanted any more; how often each was asked stays known."""
        self._wanted.clear()

    def due(self, now: float) -> Key | None:
        """The node to ask now, if any: it counts as asked."""
        if not self._wanted or now < self._not_before:
            return None
        node = next((key for key in self._wanted if self._time_of(key) <= now), None)
        if node is None:
            return None
        del self._wanted[node]
        before = self._asked.get(node)
        pause = self._pause if before is None else before.pause
        self._asked[node] = _Asked(now + pause, min(pause * 2, self._pause * MOST_DOUBLED))
        self._not_before = now + APART_S
        return node

    def next_time(self) -> float | None:
        """When `due` may have one, or None."""
        if not self._wanted:
            return None
        return max(self._not_before, min(self._time_of(key) for key in self._wanted))

    def _time_of(self, node: Key) -> float:
        asked = self._asked.get(node)
        return 0.0 if asked is None else asked.not_before
