"""The sums: every reading that the plant has sent is stored once, or something says what became of it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from app import times

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path


Reading = tuple[str, int, float]
"""Tag, source time in ns, value."""
Span = tuple[int, int]
"""From, to, in ns since 1970, both inclusive."""

SLACK_NS: Final = times.NANOS
"""A gap begins with the last answer; what was stamped before it may have been on its way then."""
LOG: Final = "log.csv"
HEARD: Final = "heard"
MOST_NAMED: Final = 20
"""Readings that a report names one by one."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a plant's own log says of one connection."""

    taken: Collection[Reading]
    """What it has sent, and what whoever stands next has confirmed where somebody does."""
    offered: Collection[Reading] = ()
    """What may have been sent without being confirmed; `taken` need not be among it."""
    again: Collection[Reading] = ()
    """What the plant may itself have sent twice."""


@dataclass(frozen=True, slots=True)
class Account:
    """One connection. Numbers are readings."""

    connection: str
    sent: int
    stored: int
    """Of those that were sent: are in the database, at least once."""
    in_gaps: int
    """Are not, and a recorded gap covers when they were."""
    forgotten: int
    """Are not, and were at a broker when it was killed."""
    repeated: int
    """Are there twice, because the plant has sent them twice."""
    lost: tuple[Reading, ...]
    """Are not, and nothing says why."""
    doubled: tuple[Reading, ...]
    """Are there more than once, because of us."""
    invented: tuple[Reading, ...]
    """Are in the database and were never sent."""

    @property
    def good(self) -> bool:
        """Whether it is as promised."""
        return not (self.lost or self.doubled or self.invented)


def account(
    connection: str, sent: Sent, stored: Mapping[Reading, int], gaps: Iterable[Span], *, since: int,
    forgets: Iterable[Span] = (),
) -> Account:  # fmt: skip
    """Hold what is stored against the plant's log, reading by reading: tag, source time and value.

    `since` (ns): what was sent before is not looked for, because nobody was there to read it. `forgets`: when a peer
    was down that had lost what it had confirmed.
    """
    taken = {one for one in sent.taken if one[1] >= since}
    missing = sorted(one for one in taken if not stored.get(one))
    told, forgot = _covered(missing, [(a - SLACK_NS, b) for a, b in gaps]), set[Reading]()
    forgot = _covered([one for one in missing if one not in told], forgets)
    twice = {one for one, times_ in stored.items() if times_ > 1 and one[1] >= since}
    allowed = set(sent.again)
    known = {*sent.taken, *sent.offered}
    return Account(
        connection,
        sent=len(taken),
        stored=len(taken) - len(missing),
        in_gaps=len(told),
        forgotten=len(forgot),
        repeated=len(twice & allowed),
        lost=tuple(one for one in missing if one not in told and one not in forgot),
        doubled=tuple(sorted(twice - allowed)),
        invented=tuple(sorted(one for one in stored if one not in known)),
    )


def _covered(readings: Iterable[Reading], spans: Iterable[Span]) -> set[Reading]:
    """Those whose source time lies in one of the spans."""
    merged = merge(spans)
    begins = [begin for begin, _ in merged]

    def inside(at: int) -> bool:
        index = bisect_right(begins, at) - 1
        return index >= 0 and at <= merged[index][1]

    return {one for one in readings if inside(one[1])}


def merge(spans: Iterable[Span]) -> list[Span]:
    """The same instants in spans that do not meet, in order."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


@dataclass(frozen=True, slots=True)
class North:
    """The answers and what became of them."""

    windows: int
    missing: tuple[int, ...]
    """Numbers of windows that were never computed."""
    unsent: int
    """Publications that nobody has taken."""
    forgotten: int
    """Were taken by the broker just before it was killed, and went with it."""
    unheard: tuple[str, ...]
    """Ids of predictions that no consumer was sent."""

    @property
    def good(self) -> bool:
        """Whether every window was computed once, and every answer was sent."""
        return self.windows > 0 and not (self.missing or self.unsent or self.unheard)


def north(
    windows: Iterable[Sequence[tuple[int, str]]], published: Mapping[str, int | None], heard: Collection[str],
    forgets: Iterable[Span] = (),
) -> North:  # fmt: skip
    """Hold the windows against their own numbers, and the answers against what a consumer has heard."""
    made = [one for of_version in windows for one in of_version]
    numbers = Counter(sequence for sequence, _ in made)
    wanted = range(1, max(numbers, default=0) + 1)
    silent = {key for _, key in made} - set(heard)
    spans = list(forgets)
    gone = {key for key in silent if (at := published.get(key)) and any(a <= at <= b for a, b in spans)}
    return North(
        windows=len(made),
        missing=tuple(one for one in wanted if numbers[one] != 1),
        unsent=sum(published.get(key) is None for _, key in made),
        forgotten=len(gone),
        unheard=tuple(sorted(silent - gone)),
    )


def read(folder: Path) -> list[Reading]:
    """A plant's own log: `tag,source_time_ns,value,status` a line; a last line without its end is not counted.

    Raises OSError, ValueError.
    """
    found: list[Reading] = []
    path = folder / LOG
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            tag, at, value, _ = line.split(",")
            found.append((tag, int(at), float(value)))
    return found


def heard(folder: Path) -> set[str]:
    """The ids a consumer has noted. Raises OSError."""
    return set((folder / HEARD).read_text(encoding="utf-8").split())


class Stall(msgspec.Struct, frozen=True):
    """The longest time in which nothing new of a connection was stored."""

    connection: str = ""
    seconds: float = 0.0
    at: int = 0
    """ns: when it was so long."""


@dataclass(slots=True)
class Freshness:
    """How old the newest stored reading was, and what memory was held, as it was looked at again and again."""

    since: int
    worst: Stall = field(default_factory=Stall)
    newest: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes that a process and its children held at most, as they were looked at."""

    def weigh(self, held: Mapping[str, int]) -> None:
        """`held`: resident memory now, by process."""
        self.memory |= {name: max(held, self.memory.get(name, 0)) for name, held in held.items()}

    def look(self, now: int, newest: Mapping[str, int] | None) -> None:
        """`newest`: source times in ns by connection; None when the database did not answer."""
        for connection, at in (newest or {}).items():
            self.newest[connection] = max(at, self.since)
        for connection, at in self.newest.items():
            seconds = (now - at) / times.NANOS
            if seconds > self.worst.seconds:
                self.worst = Stall(connection, round(seconds, 1), now)
