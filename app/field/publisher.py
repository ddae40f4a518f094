"""The outbox to its northbound peers: one loop asks what is due for whom, one task per subscription publishes it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from app import times
from app.errors import QueueError
from app.field.blocking import blocking
from app.field.holding import Alone
from app.field.outage import Outage
from app.field.outlet import Outlet
from app.journal.service import DatabaseError
from app.leases import service as leases
from app.log import DATABASE_BACK, DATABASE_LOST, OUTBOX_REPLAYED, get_logger
from app.northbound import service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sqlalchemy import Engine

    from app.field.holding import Holding
    from app.field.runner import Load
    from app.northbound.service import Failure, Subscription

log = get_logger(__name__)

LOOK_S: Final = 0.25
DEAF_S: Final = 1.0
"""Until the bell is tried again when it cannot be heard."""
SETTLE_S: Final = 0.5
"""What peers took is written down this often, in one transaction: what was not is published again after a kill."""
LIMIT: Final = 500
"""Rows published at a time."""


@dataclass(slots=True)
class _Running:
    subscription: Subscription
    outlet: Outlet
    task: asyncio.Task[None]


@dataclass(slots=True)
class Settling:
    """Rows whose fate is not written down yet."""

    sent: dict[int, int] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)

    def rows(self) -> set[int]:
        """All of them."""
        return {*self.sent, *(one.row for one in self.failed)}


class Publisher:
    """Runs every subscription; a slow or dead consumer holds nobody back."""

    def __init__(
        self,
        engine: Engine,
        data_dir: str,
        taken: Callable[[int, int], None],
        *,
        rung: Callable[[], Awaitable[None]],
        load: Load,
        cap_s: float,
        look_s: float = LOOK_S,
        holding: Alone | Holding | None = None,
    ) -> None:
        """`taken(source_time, sent_at)` is told of each publication, ns.

        `rung` waits until the outbox has something new; QueueError when that cannot be heard. `look_s`: between two
        looks while it is silent and nobody is done. `holding`: the leases under which it publishes.
        """
        self._holding = holding or Alone()
        self._engine = engine
        self._data_dir = data_dir
        self._rung = rung
        self._look_s = look_s
        self._news = asyncio.Event()
        self._taken = taken
        self._load = load
        self._cap = cap_s
        self._running: dict[int, _Running] = {}
        self._settling = Settling()
        self._outage = Outage(DATABASE_LOST, DATABASE_BACK)
        self._max_age: Mapping[str, float] = {}
        self._replay_at = 0.0
        self.published = 0

    @property
    def outlets(self) -> dict[str, Outlet]:
        """By the subscription's name: for the status."""
        return {one.subscription.name: one.outlet for one in self._running.values()}

    async def configure(self, wanted: Mapping[int, Subscription], max_age_s: Mapping[str, float]) -> None:
        """Stop what is gone or changed, start what is new. `max_age_s`: order key → age at which its nodes turn Bad."""
        self._max_age = max_age_s
        gone = [key for key, one in self._running.items() if wanted.get(key) != one.subscription]
        for key in gone:
            await self._stop(self._running.pop(key))
        for key, subscription in wanted.items():
            if key not in self._running:
                told = self._news.set
                mine = partial(self._holding.holds, leases.subscription(key))
                outlet = Outlet(
                    subscription,
                    self._data_dir,
                    self._age_limit,
                    told,
                    load=self._load,
                    cap_s=self._cap,
                    mine=mine,
                )
                shown = await blocking(service.newest_sent, self._engine, key)
                task = asyncio.create_task(outlet.run(shown), name=f"subscription {subscription.name}")
                self._running[key] = _Running(subscription, outlet, task)

    async def lapse(self) -> None:
        """Stop what another gateway may publish."""
        for key in [key for key in self._running if not self._holding.holds(leases.subscription(key))]:
            await self._stop(self._running.pop(key))

    def _fence(self) -> service.Fence | None:
        if not self._holding.lasts:
            return None
        return service.Fence(self._holding.holder, self._holding.published())

    def _age_limit(self, key: str) -> float | None:
        return self._max_age.get(key)

    async def _stop(self, running: _Running) -> None:
        running.task.cancel()
        await asyncio.wait([running.task])
        self._collect(running.outlet)

    async def run(self) -> None:
        """For ever."""
        listening = asyncio.create_task(self._listen(), name="bell")
        settled_at = 0.0
        loop = asyncio.get_running_loop()
        try:
            while True:
                if listening.done():
                    listening.result()
                # Before the look: what is new while it goes on asks for another.
                self._news.clear()
                for one in self._running.values():
                    # Or what was just taken would be found due again.
                    self._collect(one.outlet)
                await self._look()
                left = settled_at + SETTLE_S - loop.time()
                if left <= 0 and self._settling.rows():
                    await self._settle()
                    settled_at = loop.time()
                await self._pause()
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            for one in list(self._running.values()):
                await self._stop(one)
            await self._settle()

    async def _listen(self) -> None:
        while True:
            try:
                await self._rung()
            except QueueError:
                await asyncio.sleep(DEAF_S)
            self._news.set()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_s):
                await self._news.wait()

    async def _look(self) -> None:
        """Hand out what is due to those who are ready."""
        wanted = [key for key, one in self._running.items() if one.outlet.ready]
        if not wanted:
            return
        try:
            await self._replay(wanted)
            known, fence = self._settling.rows(), self._fence()
            rows = await blocking(service.due, self._engine, times.now(), wanted, LIMIT, known, fence)
        except DatabaseError as error:
            await self._outage.wait(error)
            return
        self._outage.over()
        for key in wanted:
            mine = [row for row in rows if row.subscription == key]
            running = self._running.get(key)
            if mine and running is not None and running.outlet.ready:
                running.outlet.offer(mine)

    async def _replay(self, wanted: list[int]) -> None:
        """Make due what is to be sent again: as often as the outbox is looked at while it is silent, not more often."""
        now = asyncio.get_running_loop().time()
        if now < self._replay_at:
            return
        self._replay_at = now + self._look_s
        for name in await blocking(service.replay, self._engine, times.now(), wanted):
            log.info(OUTBOX_REPLAYED, subscription=name)

    def _collect(self, outlet: Outlet) -> None:
        """Take over what an outlet has to report."""
        for due, at in outlet.drain_sent():
            self._settling.sent[due.row] = at
            self.published += 1
            if not due.again:
                self._taken(due.source_time, at)
        self._settling.failed.extend(outlet.drain_failed())

    async def _settle(self) -> None:
        """Write down what was taken; until that works it stays in memory and is not published again."""
        now, self._settling = self._settling, Settling()
        if not now.rows():
            return
        try:
            await blocking(service.settle, self._engine, now.sent, now.failed, self._fence())
        except DatabaseError as error:
            self._settling.sent.update(now.sent)
            self._settling.failed.extend(now.failed)
            await self._outage.wait(error)
        else:
            self._outage.over()
