"""Ticks: when nothing else is journaled and a window waits for the clock, the clock itself is journaled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from app import times
from app.field.windowing import next_due
from app.records import tick

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from app.journal import Position
    from app.records import Record
    from inference.window import Spec

SLACK_NS: Final = 20_000_000
"""Readings that come just after a window is due make a tick needless."""
SILENCE_NS: Final = 200_000_000
"""While something is journaled more often than this, it moves the clock well enough."""
IDLE_S: Final = 1.0


class Clock:
    """Watches what is journaled and adds a tick where a window would wait for nothing else."""

    def __init__(self, append: Callable[[Record], Awaitable[Position]]) -> None:
        """`append`: the journal's."""
        self._append = append
        self._specs: tuple[Spec, ...] = ()
        self._clock = 0
        self._newest = 0

    def watch(self, specs: Iterable[Spec]) -> None:
        """The windows that are in force."""
        self._specs = tuple(specs)

    def seen(self, record: Record) -> None:
        """A record was journaled."""
        self._clock = max(self._clock, record.received_time)
        if record.count:
            self._newest = max(self._newest, record.received_time)

    async def run(self) -> None:
        """For ever."""
        while True:
            due = next_due(self._specs, self._clock, self._newest)
            wait = IDLE_S if due is None else self._until(due)
            if wait > 0:
                await asyncio.sleep(min(wait, IDLE_S))
                continue
            made = tick(times.now())
            self._clock = max(self._clock, made.received_time)
            await self._append(made)

    def _until(self, due: int) -> float:
        """Seconds until a tick is needed for a window that is due at this time (ns)."""
        return (max(due + SLACK_NS, self._clock + SILENCE_NS) - times.now()) / times.NANOS
