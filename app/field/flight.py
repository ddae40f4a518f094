"""What was sent to the workers and is not known to be applied: the back pressure, and what is sent again when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.journal import Position
    from app.journal.service import Progress

MAX_BYTES: Final = 64 * 2**20
"""In flight at most, whatever the number of batches."""
LONGEST_S: Final = 300.0
"""The back-off between repeats ends here, below the queue's visibility time-out."""


@dataclass(slots=True)
class Flying:
    """One message under way."""

    message: bytes
    sent_at: float
    """Monotonic seconds."""
    sent: int = 1
    """How often."""


class Flight:
    """Messages under way, in journal order. Belongs to one event loop."""

    def __init__(self, batches: int, resend_after_s: float) -> None:
        """`batches`: at most so many are under way."""
        self._limit = batches
        self._after = resend_after_s
        self._flying: dict[Position, Flying] = {}
        self._bytes = 0
        self._landed = asyncio.Event()
        self._moved_at = 0.0
        self._newest_applied_sent_at = float("-inf")

    def __len__(self) -> int:
        """Messages under way."""
        return len(self._flying)

    async def room(self, size: int) -> None:
        """Wait until a message of this many bytes may be sent."""
        while self._flying and (len(self._flying) >= self._limit or self._bytes + size > MAX_BYTES):
            self._landed.clear()
            await self._landed.wait()

    def sent(self, position: Position, message: bytes, now: float) -> None:
        """It is under way."""
        if not self._flying:
            self._moved_at = now
        self._flying[position] = Flying(message, now)
        self._bytes += len(message)

    def land(self, seen: Progress, now: float) -> int:
        """Take out what is applied; returns how many messages that were."""
        done = [position for position in self._flying if is_applied(position, seen)]
        for position in done:
            one = self._flying.pop(position)
            self._bytes -= len(one.message)
            self._newest_applied_sent_at = max(self._newest_applied_sent_at, one.sent_at)
        if done:
            self._moved_at = now
            self._landed.set()
        return len(done)

    def overdue(self, now: float) -> list[tuple[Position, bytes]]:
        """What is to be sent again, and count it as sent.

        A message is overdue when its time is up and either one that was sent after it has been applied or nothing
        has been for as long: behind a slow worker a message is waiting, not lost.
        """
        stalled = now - self._moved_at > self._after
        found = []
        for position, one in self._flying.items():
            wait = min(self._after * 2 ** (one.sent - 1), LONGEST_S)
            if now - one.sent_at > wait and (stalled or one.sent_at < self._newest_applied_sent_at):
                found.append((position, one.message))
        for position, _ in found:
            self._flying[position].sent_at = now
            self._flying[position].sent += 1
        return found

    def everything(self, now: float) -> list[tuple[Position, bytes]]:
        """All that is under way, to be sent again because the queue lost its memory."""
        for one in self._flying.values():
            one.sent_at = now
        return [(position, one.message) for position, one in self._flying.items()]


def is_applied(position: Position, seen: Progress) -> bool:
    """Whether the database has this record."""
    if position.number <= seen.watermarks.get(position.epoch, 0):
        return True
    return position.number in seen.applied.get(position.epoch, ())
