"""How long an example plant lives: until it is told to stop, or until the process that started it is gone."""

from __future__ import annotations

import asyncio
import os
import signal


class Lifetime:
    """Ends on SIGTERM, SIGINT, or when the parent process has died and left us to another."""

    def __init__(self) -> None:
        """To be made in a running event loop, whose signal handlers it takes."""
        self._over = asyncio.Event()
        self._parent = os.getppid()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._over.set)

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        if os.getppid() != self._parent:
            self._over.set()
        return self._over.is_set()

    async def pause(self, seconds: float) -> bool:
        """Wait so long, or less if told to stop. Returns whether it is time to stop."""
        if seconds > 0 and not self.over:
            try:
                await asyncio.wait_for(self._over.wait(), seconds)
            except TimeoutError:
                return self.over
        return self.over
