"""What the gateway says of itself once a second: the journal's account to the database, live figures to Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from app import times
from app.errors import QueueError
from app.field.blocking import blocking
from app.field.holding import Alone
from app.field.latency import Latencies
from app.field.outage import Outage
from app.journal import Position
from app.journal import service as applied
from app.journal.service import DatabaseError
from app.live import PREFIX, ConnectionLive, GatewayLive
from app.log import DATABASE_BACK, DATABASE_LOST, JOURNAL_RUNNING, JOURNAL_STOPPED, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Engine

    from app.field.dispatcher import Dispatcher
    from app.field.holding import Holding
    from app.field.runner import Standing
    from app.field.shedding import Shedding
    from app.journal import Journal
    from app.journal.index import Held
    from app.queue import Door

log = get_logger(__name__)

PERIOD_S: Final = 1.0
QUIET_PERIODS: Final = 10
"""The ledger is written this seldom while nothing moves."""


class Reporter:
    """Reports once a second."""

    def __init__(
        self,
        gateway: str,
        journal: Journal,
        dispatcher: Dispatcher,
        *,
        engine: Engine,
        door: Door,
        standings: Mapping[int, Standing],
        published: Callable[[], int],
        shedding: Shedding,
    ) -> None:
        """`standings`: the runners', by connection id, kept up to date by others."""
        self.holding: Alone | Holding = Alone()
        """The leases."""
        self._shedding = shedding
        self._gateway = gateway
        self._journal = journal
        self._dispatcher = dispatcher
        self._engine = engine
        self._door = door
        self._standings = standings
        self._published = published
        self._latencies = Latencies()
        self._outage = Outage(DATABASE_LOST, DATABASE_BACK)
        self._held: Held | None = None
        self._written: tuple[Position, object] | None = None
        self._quiet = 0
        self._before: dict[int, int] = {}
        self._stopped = ""

    def taken(self, source_time: int, at: int) -> None:
        """A peer took a publication at this time (ns)."""
        self._latencies.add((at - source_time) / 1e6)

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + PERIOD_S, loop.time())
            await asyncio.sleep(due - loop.time())
            self._watch_journal()
            await self.write_ledger()
            await self._show()
            self._latencies.turn()

    def _watch_journal(self) -> None:
        reason = self._journal.state.reason
        if reason and not self._stopped:
            log.error(JOURNAL_STOPPED, reason=reason, effect="readings are no longer acknowledged")
        elif self._stopped and not reason:
            log.info(JOURNAL_RUNNING, was=self._stopped)
        self._stopped = reason

    async def write_ledger(self) -> None:
        """What was read and what is held, counted against one state of the database."""
        now = (self._journal.head, self._dispatcher.progress)
        self._quiet = self._quiet + 1 if now == self._written else 0
        if self._quiet % QUIET_PERIODS:
            return
        epochs = self._dispatcher.epochs()
        try:
            self._held = await blocking(
                applied.account,
                self._engine,
                self._journal.id,
                epochs,
                lambda seen: self._journal.held(seen.watermarks, seen.applied),
            )
        except DatabaseError as error:
            await self._outage.wait(error)
            return
        self._outage.over()
        self._written = now

    async def _show(self) -> None:
        """Redis may be away: then nobody sees it, and nothing else happens."""
        report = msgspec.json.encode(self._report())
        try:
            await blocking(self._door.put_live, f"{PREFIX}{self._gateway}", report)
        except QueueError:
            return

    def _report(self) -> GatewayLive:
        connections = tuple(self._connection(key, one) for key, one in sorted(self._standings.items()))
        state = self._journal.state
        return GatewayLive(
            gateway=self._gateway,
            at=times.now(),
            connections=connections,
            journal_bytes=state.bytes,
            journal_state=self._journal_state(),
            head=state.head.number,
            watermark=self._dispatcher.progress.watermarks.get(self._journal.epoch, 0),
            held=self._held.records if self._held else 0,
            readings_per_s=sum(one.readings_per_s or 0.0 for one in connections),
            latency_p50_ms=self._latencies.last_minute(0.5),
            latency_p99_ms=self._latencies.last_minute(0.99),
            published=self._published(),
            run_latency_p50_ms=self._latencies.run(0.5),
            run_latency_p99_ms=self._latencies.run(0.99),
            journal_policy=self._shedding.policy,
            dropped=self._journal.dropped_readings,
            leases=self.holding.standing(),
        )

    def _journal_state(self) -> str:
        state = self._journal.state
        if state.reason:
            return f"{state.state}: {state.reason}"
        return f"dropping: {self._shedding.reason}" if self._shedding.reason else state.state

    def _connection(self, key: int, one: Standing) -> ConnectionLive:
        rate = (one.readings - self._before.get(key, one.readings)) / PERIOD_S
        self._before[key] = one.readings
        return ConnectionLive(one.name, one.state, one.error, rate, one.readings, one.notes)
