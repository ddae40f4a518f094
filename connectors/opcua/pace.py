"""The connection's own budget of requests, so that a PLC never suffers from us: a bucket that fills evenly."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """So many requests a second, and a second's worth at once. This is no pause after a fault but the beat itself."""

    def __init__(self, per_s: float) -> None:
        """The bucket is full."""
        self._per_s = per_s
        self._next = 0.0
        """Monotonic, s: when the bucket would be empty of debts."""

    async def turn(self) -> None:
        """Wait until one more request is within the budget; those who wait go in the order they came."""
        now = time.monotonic()
        self._next = max(self._next, now - 1.0) + 1.0 / self._per_s
        if self._next > now:
            await asyncio.sleep(self._next - now)
