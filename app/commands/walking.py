"""A walk through a peer's address space, breadth first: bounded, never in circles, filtered by patterns of names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from connectors import Browser, Node

AT_ONCE: Final = 50
MOST_NOTES: Final = 50
ANY_DEPTH: Final = "**"


@dataclass(slots=True)
class Seen:
    """A node, and the names that lead to it from where the walk began."""

    node: Node
    path: tuple[str, ...]
    below: list[Seen] = field(default_factory=list)


@dataclass(slots=True)
class Walk:
    """What a walk saw."""

    top: list[Seen] = field(default_factory=list)
    count: int = 0
    notes: list[str] = field(default_factory=list)

    def in_order(self) -> Iterator[Seen]:
        """Every node, what is below it after it."""
        waiting = list(reversed(self.top))
        while waiting:
            one = waiting.pop()
            yield one
            waiting += reversed(one.below)


async def walk(browser: Browser, start: str, depth: int, most: int) -> Walk:
    """Up to `depth` levels and `most` nodes below `start`. A node that is met again is shown, and not entered again."""
    found, entered = Walk(), {start}
    level: list[tuple[str, tuple[str, ...], list[Seen]]] = [(start, (), found.top)]
    for _ in range(depth):
        following: list[tuple[str, tuple[str, ...], list[Seen]]] = []
        for begin in range(0, len(level), AT_ONCE):
            some = level[begin : begin + AT_ONCE]
            branches = await browser.children([address for address, _, _ in some])
            for (_, path, below), branch in zip(some, branches, strict=True):
                found.notes += branch.notes[: MOST_NOTES - len(found.notes)]
                for node in branch.nodes:
                    if found.count >= most:
                        found.notes.append(f"cut off after {most} nodes")
                        return found
                    found.count += 1
                    seen = Seen(node, (*path, node.name))
                    below.append(seen)
                    if node.has_children and not node.of_peer and node.address not in entered:
                        entered.add(node.address)
                        following.append((node.address, seen.path, seen.below))
        level = following
    return found


def matches(pattern: str, path: Sequence[str]) -> bool:
    """Whether names match a pattern: `*` and `?` within a name, `**` for any number of names, `/` between them.

    A pattern of one name is one at any depth.
    """
    parts = tuple(pattern.strip("/").split("/"))
    return _match(parts if len(parts) > 1 else (ANY_DEPTH, *parts), tuple(path))


def _match(parts: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Where in the pattern one can be after each name, all at once: no pattern costs more than its length a name."""
    places = _skipped({0}, parts)
    for name in path:
        after = {at for at in places if at < len(parts) and parts[at] == ANY_DEPTH}
        after |= {at + 1 for at in places if at < len(parts) and _compiled(parts[at]).fullmatch(name)}
        places = _skipped(after, parts)
    return len(parts) in places


def _skipped(places: set[int], parts: tuple[str, ...]) -> set[int]:
    found = set(places)
    for at in sorted(places):
        going = at
        while going < len(parts) and parts[going] == ANY_DEPTH:
            going += 1
            found.add(going)
    return found


@lru_cache(maxsize=256)
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(translate(part))
