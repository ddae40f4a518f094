"""The gateway process: field connections, journal, windows, dispatch to the workers, and northbound publication."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import connectors
from app import notify
from app.db import make_engine
from app.field.blocking import blocking
from app.field.checkpoints import Checkpoints
from app.field.clock import Clock
from app.field.dispatcher import Dispatcher
from app.field.filling import Means
from app.field.follower import Follower
from app.field.holding import Alone, Holding
from app.field.publisher import Publisher
from app.field.shedding import HOUR_S, Shedding
from app.field.snapshots import Snapshots
from app.field.status import Reporter
from app.field.steps import Steps, audited
from app.field.windowing import Windowing
from app.journal import Journal, JournalError
from app.leases import service as leases
from app.log import (
    GATEWAY_FAILED,
    GATEWAY_READY,
    GATEWAY_STOPPED,
    JOURNAL_DAMAGED,
    JOURNAL_OPENED,
    configure,
    get_logger,
)
from app.queue import Door, door
from app.settings import Settings, settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from app.field.runner import Load

log = get_logger(__name__)

THREADS: Final = 16
"""For calls that block: a database that hangs must not keep the journal from being read."""
DRAIN_S: Final = 2.0
HAND_OVER_S: Final = 5.0
"""For workers, before leases are given back."""


class Gateway:
    """Everything one gateway process runs, wired together."""

    def __init__(self, chosen: Settings, queue: Door, load: Load = connectors.load) -> None:
        """Opens the journal: blocking. Raises JournalError, JournalBusyError, OSError."""
        data_dir = chosen.data_dir.resolve()
        self._engine = make_engine(chosen.database())
        self.journal = Journal(
            data_dir / "journal" / chosen.gateway_id,
            chosen.gateway_id,
            commit_interval_s=chosen.commit_interval_ms / 1000,
            budget=chosen.journal_budget_mb * 2**20,
            segment_s=math.inf if chosen.journal_max_age_h is None else chosen.journal_max_age_h * HOUR_S / 16,
        )
        self._snapshots = Snapshots(data_dir / "journal" / chosen.gateway_id / "snapshots")
        self._windowing = Windowing()
        self.dispatcher = Dispatcher(
            self.journal,
            self._windowing,
            self._engine,
            queue,
            queue=chosen.queue,
            batches=chosen.in_flight_batches,
            resend_after_s=chosen.resend_after_s,
        )
        self._checkpoints = Checkpoints(self.journal, self._windowing, self.dispatcher, self._snapshots)
        self.shedding = Shedding(
            self.journal,
            self.dispatcher,
            self._snapshots,
            self._checkpoints,
            policy=chosen.journal_when_full,
            max_age_h=chosen.journal_max_age_h,
            priority=lambda key: self.follower.priorities.get(key, "normal"),
        )
        self._clock = Clock(self.journal.append)
        self._steps = Steps(audited(self._engine, chosen.gateway_id))
        self.holding: Alone | Holding = Alone()
        if chosen.lease_s is not None:
            self.holding = Holding(self._engine, self.journal.id, chosen.gateway_id, chosen.lease_s)
        self._bell = queue.bell()
        self.publisher = Publisher(
            self._engine,
            str(data_dir),
            self._taken,
            rung=self._bell.heard,
            load=load,
            cap_s=chosen.reconnect_cap_s,
            holding=self.holding,
        )
        self.follower = Follower(
            Means(self._engine, self.journal.append, lambda: self.journal.head, self.dispatcher.applied, self.holding),
            data_dir,
            self.journal,
            clock=self._clock,
            publisher=self.publisher,
            alive=self._windowing.alive_until,
            load=load,
            cap_s=chosen.reconnect_cap_s,
        )
        self.dispatcher.on_gap = self.follower.look
        self.reporter = Reporter(
            chosen.gateway_id,
            self.journal,
            self.dispatcher,
            engine=self._engine,
            door=queue,
            standings=self.follower.standings,
            published=lambda: self.publisher.published,
            shedding=self.shedding,
        )
        self.reporter.holding = self.holding

    def _taken(self, source_time: int, at: int) -> None:
        self.reporter.taken(source_time, at)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then close the field, write what is left, and let go of everything."""
        try:
            await self._work(stop)
        finally:
            await self.dispatcher.close()
            await self._bell.close()
            await asyncio.to_thread(self.journal.close)
            self._engine.dispose()

    async def _work(self, stop: asyncio.Event) -> None:
        if not await _unless(stop, self._prepare()):
            return
        holding = asyncio.create_task(self.holding.run(), name="leases")
        field = asyncio.create_task(self.follower.run(), name="follower")
        inside = [
            asyncio.create_task(one, name=name)
            for name, one in {
                "dispatcher": self.dispatcher.run(),
                "clock": self._clock.run(),
                "steps": self._steps.run(),
                "publisher": self.publisher.run(),
                "reporter": self.reporter.run(),
                "checkpoints": self._checkpoints.run(),
                "shedding": self.shedding.run(),
            }.items()
        ]
        waiting = asyncio.create_task(stop.wait(), name="stop")
        log.info(GATEWAY_READY)
        notify.ready()
        try:
            done, _ = await asyncio.wait([field, holding, *inside, waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancel([field, waiting])
            await self._drain(inside)
            await _cancel([holding])
            await self.holding.give_back()

    async def _prepare(self) -> None:
        for connection, readings in self.journal.damaged.items():
            log.error(JOURNAL_DAMAGED, connection=connection, readings=readings)
        log.info(JOURNAL_OPENED, journal=self.journal.id, epoch=self.journal.epoch, bytes=self.journal.state.bytes)
        await self.dispatcher.prepare()
        if not self.holding.lasts and (others := await blocking(leases.others, self._engine, self.journal.id)):
            message = f"{', '.join(others)} holds leases in this database: set HEADRACE_LEASE_S here too, as it has it"
            raise JournalError(message)
        await self.dispatcher.learn(tuple(await asyncio.to_thread(self._snapshots.versions)))
        self._windowing.start(self.journal.first, self.dispatcher.safe(), self._snapshots, self.dispatcher.known)

    async def _drain(self, inside: list[asyncio.Task[None]]) -> None:
        """What is journaled goes to the queue while it answers; then the rest stops, and a last snapshot is made."""
        if all(not task.done() for task in inside):
            await self.dispatcher.drained(DRAIN_S)
            if self.holding.lasts:
                # What is applied under our lease keeps its numbers, and is not late.
                await self.dispatcher.landed(HAND_OVER_S)
        await _cancel(inside)
        await self._checkpoints.save()


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Whether the work was done before `stop` was set."""
    task = asyncio.create_task(work)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        await _cancel([task])
        return False
    task.result()
    return True


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def serve(chosen: Settings, queue: Door) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "blocking"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = await asyncio.to_thread(Gateway, chosen, queue)
    await gateway.run(stop)
    log.info(GATEWAY_STOPPED)


def main() -> int:
    """`python -m app.gateway`; the exit status is 0 after a signal, 1 after a failure."""
    chosen = settings()
    configure(chosen.log_level, chosen.log_format)
    try:
        asyncio.run(serve(chosen, door()))
    except JournalError as error:
        log.error(GATEWAY_FAILED, reason=str(error))  # noqa: TRY400 - the message says what to do
        return 1
    except Exception:
        # The outermost loop of the process: the supervisor starts it again, the traceback says why.
        log.exception(GATEWAY_FAILED)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
