"""Snapshots of the windows every few seconds, and the journal's segments released once nothing needs them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from app.field.blocking import blocking
from app.log import SNAPSHOT_FAILED, get_logger

if TYPE_CHECKING:
    from app.field.dispatcher import Dispatcher
    from app.field.snapshots import Snapshots
    from app.field.windowing import Windowing
    from app.journal import Journal, Position

log = get_logger(__name__)

PERIOD_S: Final = 10.0


class Checkpoints:
    """A segment leaves when it is applied and older than a snapshot from which the windows can be made again."""

    def __init__(self, journal: Journal, windowing: Windowing, dispatcher: Dispatcher, snapshots: Snapshots) -> None:
        """Call `run`."""
        self._journal = journal
        self._windowing = windowing
        self._dispatcher = dispatcher
        self._snapshots = snapshots
        self._saved: Position | None = None
        self._failing = False
        self._turning = asyncio.Lock()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            await self.turn()

    async def turn(self) -> None:
        """A snapshot, and whatever is needed no more is released."""
        async with self._turning:
            await self.save()
            await blocking(self._release, self._dispatcher.safe())

    async def save(self) -> None:
        """A snapshot where the windows stand now; on a full disk the older ones stay."""
        snapshot = self._windowing.snapshot()
        if snapshot is None or snapshot.position == self._saved:
            return
        try:
            await blocking(self._snapshots.save, snapshot)
        except OSError as error:
            if not self._failing:
                log.warning(SNAPSHOT_FAILED, reason=error.strerror)
            self._failing = True
            return
        self._failing = False
        self._saved = snapshot.position

    def _release(self, safe: Position) -> None:
        usable = [position for position in self._snapshots.positions() if position <= safe]
        if usable:
            self._snapshots.drop_before(usable[-1])
            self._journal.release(usable[-1])
