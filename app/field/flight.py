"""What was sent to the workers and is not known to be applied: the back pressure, and what is sent again when."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.journal import Position
    from app.journal.service import Progress
    from app.messages import Order

MAX_BYTES: Final = 64 * 2**20
"""In flight at most, whatever the number of batches."""
LONGEST_S: Final = 300.0
"""The back-off between repeats ends here, below the queue's visibility time-out."""
OVERTAKEN: Final = 4
"""For what was overtaken it ends at so many times the first wait: the workers are well, and have let go of it."""


Queues = tuple[str, ...]
"""That a message goes through, one after the other."""


@dataclass(slots=True)
class Flying:
    """One message under way."""

    message: bytes
    first_sent_at: float
    sent_at: float
    """Monotonic seconds; `sent_at` is that of the newest copy."""
    way: Queues
    """Which the newest copy goes through."""
    orders: Sequence[Order]
    """Of devices, one for each of its pipelines."""
    sent: int = 1
    """How often."""


class Flight:
    """Messages under way, in journal order. Belongs to one event loop."""

    def __init__(self, batches: int, resend_after_s: float) -> None:
        """`batches`: at most so many are under way."""
        self.limit = self._limit = batches
        self._after = resend_after_s
        self._flying: dict[Position, Flying] = {}
        self._bytes = 0
        self._landed = asyncio.Event()
        self.was_full = False
        """Whether it ever was: then all that an earlier process had under way is under way again."""
        self._on_way: Counter[Queues] = Counter()
        self._moved_at: dict[Queues, float] = {}
        self._newest_applied: dict[Queues, float] = {}
        """By way: when the newest of its applied messages was first sent. Queues keep their order, but for what was
        lost; one may be slower than another."""

    def __len__(self) -> int:
        """Messages under way."""
        return len(self._flying)

    @property
    def crowded(self) -> bool:
        """Whether there is little room left."""
        return 2 * len(self._flying) >= self._limit or 2 * self._bytes >= MAX_BYTES

    async def room(self, size: int, share: int = 1) -> None:
        """Wait until a message of this many bytes may be sent, into so small a part of the flight: 1 is all of it."""
        limit = max(1, self._limit // share)
        while self._flying and (len(self._flying) >= limit or self._bytes + size > MAX_BYTES // share):
            self.was_full = True
            self._landed.clear()
            await self._landed.wait()

    def sent(
        self, position: Position, message: bytes, now: float, way: Queues = (), orders: Sequence[Order] = ()
    ) -> None:
        """It is under way. `orders`: by which its way was chosen."""
        self._enter(way, now)
        self._flying[position] = Flying(message, now, now, way, orders)
        self._bytes += len(message)

    def _enter(self, way: Queues, now: float) -> None:
        if not self._on_way[way]:
            self._moved_at[way] = now
        self._on_way[way] += 1

    def land(self, seen: Progress, now: float) -> int:
        """Take out what is applied; returns how many messages that were."""
        done = [position for position in self._flying if is_applied(position, seen)]
        for position in done:
            one = self._flying.pop(position)
            self._bytes -= len(one.message)
            self._on_way[one.way] -= 1
            newest = self._newest_applied.get(one.way, one.first_sent_at)
            self._newest_applied[one.way] = max(newest, one.first_sent_at)
            self._moved_at[one.way] = now
        if done:
            self._landed.set()
        return len(done)

    def overdue(self, now: float) -> list[tuple[Position, bytes]]:
        """What may have been lost: its time is up, and it was overtaken or nothing was applied for as long.

        Behind a slow worker a message is waiting, not lost: then those before it are applied meanwhile.
        """
        return [(position, one.message) for position, one in self._flying.items() if self._is_overdue(one, now)]

    def _is_overdue(self, one: Flying, now: float) -> bool:
        waited, often = now - one.sent_at, int(2 ** (one.sent - 1))
        if one.sent_at < self._newest_applied.get(one.way, float("-inf")):
            return waited > self._after * min(often, OVERTAKEN)
        return waited > min(self._after * often, LONGEST_S) and now - self._moved_at[one.way] > self._after

    def repeat(self, position: Position, now: float, way: Queues | None = None, *, anew: bool = False) -> None:
        """It was sent once more, another way where one is given: there it has waited for nothing yet.

        `anew`: the one before was let go of for a reason that is known, and over.
        """
        one = self._flying.get(position)
        if one is None:
            return
        one.sent_at = now
        one.sent = 1 if anew else one.sent + 1
        if way is not None and way != one.way:
            self._on_way[one.way] -= 1
            self._enter(way, now)
            one.way, one.sent = way, 1

    def everything(self) -> list[tuple[Position, bytes]]:
        """All that is under way."""
        return [(position, one.message) for position, one in self._flying.items()]

    def by_way(self) -> dict[Queues, list[tuple[Position, bytes]]]:
        """The same by the queues that each goes through."""
        found: dict[Queues, list[tuple[Position, bytes]]] = {}
        for position, one in self._flying.items():
            found.setdefault(one.way, []).append((position, one.message))
        return found

    def get(self, position: Position) -> Flying | None:
        """It, while it is under way."""
        return self._flying.get(position)

    def within(self, *way: str) -> int:
        """Messages under way through these queues."""
        return self._on_way[way]

    def sharing(self, way: Queues) -> int:
        """Messages under way that may lie in one of these queues."""
        return sum(count for other, count in self._on_way.items() if not {*way}.isdisjoint(other))

    def stranded(self, goes: Callable[[Queues, Sequence[Order]], bool]) -> list[tuple[Position, bytes]]:
        """Those that no longer go as they were sent. `goes`: whether a message of these orders goes through queues."""
        return [(position, one.message) for position, one in self._flying.items() if not goes(one.way, one.orders)]


def is_applied(position: Position, seen: Progress) -> bool:
    """Whether the database has this record."""
    if position.number <= seen.watermarks.get(position.epoch, 0):
        return True
    return position.number in seen.applied.get(position.epoch, ())
