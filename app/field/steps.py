"""Notices when somebody sets the clock of this machine: times before and after it cannot be compared."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from app import times
from app.access import service as access
from app.db import UnreachableError
from app.field.blocking import blocking
from app.log import CLOCK_STEPPED, get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Engine

log = get_logger(__name__)

LOOK_S: Final = 0.5
STEP_NS: Final = times.NANOS // 4
"""A clock that is slewed, by at most 500 ppm (adjtimex(2)), never moves so far between two looks; one that is set does.

A machine that was suspended looks the same: its monotonic clock stood still.
"""


class Steps:
    """Holds the wall clock against the monotonic one."""

    def __init__(
        self, note: Callable[[int], Awaitable[None]], *, wall: Callable[[], int] = times.now,
        steady: Callable[[], int] = time.monotonic_ns, look_s: float = LOOK_S,
    ) -> None:  # fmt: skip
        """`note`: is told by how many ns the clock went ahead, or behind; may raise UnreachableError. Clocks in ns."""
        self._note = note
        self._wall, self._steady = wall, steady
        self._look_s = look_s
        self._offset = self._now()
        self._unsaid: list[int] = []

    def look(self) -> int:
        """By how much it was set since the last look (ns); 0 where it was not."""
        now = self._now()
        moved, self._offset = now - self._offset, now
        return moved if abs(moved) >= STEP_NS else 0

    def _now(self) -> int:
        """Both at one moment: a process that was held up between the two would see a step."""
        while True:
            before = self._steady()
            wall, after = self._wall(), self._steady()
            if after - before < STEP_NS // 10:
                return wall - after

    async def run(self) -> None:
        """For ever. Each step is one line in the log, and is noted as soon as that can be."""
        while True:
            await asyncio.sleep(self._look_s)
            if moved := self.look():
                log.warning(CLOCK_STEPPED, by_s=round(moved / times.NANOS, 3))
                self._unsaid.append(moved)
            await self._say()

    async def _say(self) -> None:
        while self._unsaid:
            try:
                await self._note(self._unsaid[0])
            except UnreachableError:
                return
            del self._unsaid[0]


def audited(engine: Engine, gateway: str) -> Callable[[int], Awaitable[None]]:
    """Into the audit log, where whoever wonders about a gap's times will look."""

    async def note(moved: int) -> None:
        detail = {"by_s": round(moved / times.NANOS, 3)}
        await blocking(access.record, engine, "system", "clock_stepped", gateway, detail)

    return note
