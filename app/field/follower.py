"""Makes the running gateway equal to the plant revision in force: what changed is rebound, or stopped and started."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from app import longlived
from app.field.blocking import blocking
from app.field.filling import Filling
from app.field.outage import Outage
from app.field.repeats import Repeats, of_journal
from app.field.runner import Runner, Standing
from app.journal.service import DatabaseError
from app.log import CONFIGURATION_APPLIED, DATABASE_BACK, DATABASE_LOST, PIPELINE_UNUSABLE, get_logger
from app.northbound import service as northbound
from app.pipelines import service as pipelines
from app.sources import service as sources

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from app.field.clock import Clock
    from app.field.filling import Means
    from app.field.publisher import Publisher
    from app.field.runner import Load
    from app.journal import Journal
    from app.northbound.service import Subscription
    from app.pipelines.service import Unusable, Version
    from app.records import Record
    from app.sources.service import Connection
    from connectors import Batch

log = get_logger(__name__)

POLL_S: Final = 1.0
SETTLED_AFTER: Final = 10
"""Looks after a change: by then connectors are loaded and their tags are bound."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    revision: int
    connections: Mapping[int, Connection]
    versions: Mapping[int, Version]
    unusable: list[Unusable]
    subscriptions: Mapping[int, Subscription]


@dataclass(frozen=True, slots=True)
class _Running:
    connection: Connection
    runner: Runner
    task: asyncio.Task[None]


class Follower:
    """Watches the number of the newest plant revision."""

    def __init__(
        self,
        means: Means,
        data_dir: Path,
        journal: Journal,
        *,
        clock: Clock,
        publisher: Publisher,
        alive: Callable[[int], int],
        load: Load,
        cap_s: float,
    ) -> None:
        """`means`: of filling gaps. `alive`: until when a connection was alive, see `Runner`.

        Blocking: reads the end of the journal.
        """
        self._means, self._engine = means, means.engine
        self._repeats = of_journal(journal)
        self._data_dir = data_dir
        self._journal = journal
        self._clock = clock
        self._publisher = publisher
        self._alive = alive
        self._load_connector = load
        self._cap = cap_s
        self._running: dict[int, _Running] = {}
        self._revision = -1
        self._versions: tuple[int, ...] | None = None
        self._outage = Outage(DATABASE_LOST, DATABASE_BACK)
        self._looks = 0
        self.standings: dict[int, Standing] = {}
        """By connection id; kept for those that ended or were refused."""
        self.priorities: dict[int, str] = {}
        """By connection id; kept for those that are gone: their readings may still be in the journal."""

    async def run(self) -> None:
        """For ever; on cancellation every source is closed."""
        try:
            while True:
                for one in self._running.values():
                    if one.task.done():
                        # A source that ended is no fault; a journal that is closed is one, of the whole process.
                        one.task.result()
                await self._follow()
                self._looks += 1
                if self._looks == SETTLED_AFTER:
                    longlived.settle()
                await asyncio.sleep(POLL_S)
        finally:
            await self._stop(list(self._running))

    def revision_of(self, key: int) -> int:
        """Of the configuration that a running connection reads its tags by; KeyError when it does not run."""
        return self._running[key].connection.config.revision

    def look(self, connections: Collection[int]) -> None:
        """These connections have new gaps, to be filled where their peers have a history."""
        for key in connections:
            one = self._running.get(key)
            if one is not None and one.runner.filling is not None:
                one.runner.filling.look()

    async def _follow(self) -> None:
        try:
            if await blocking(sources.revision, self._engine) == self._revision:
                return
            wanted = await blocking(self._load)
            await self._publisher.configure(wanted.subscriptions, _max_ages(wanted.versions))
        except DatabaseError as error:
            await self._outage.wait(error)
            return
        self._outage.over()
        await self._reconcile(wanted)
        self._revision, self._looks = wanted.revision, 0

    def _load(self) -> _Wanted:
        # The number is read first: what changes meanwhile is seen at the next look.
        revision = sources.revision(self._engine)
        versions, unusable = pipelines.active(self._engine)
        connections = sources.running(self._engine, self._data_dir)
        subscriptions = northbound.subscriptions(self._engine)
        return _Wanted(revision, connections, versions, unusable, subscriptions)

    async def _reconcile(self, wanted: _Wanted) -> None:
        for one in wanted.unusable:
            log.error(PIPELINE_UNUSABLE, pipeline=one.pipeline, version=one.id, reason=one.reason)
        await self._switch(wanted.versions)
        self.priorities |= {key: one.priority for key, one in wanted.connections.items()}
        changed = [key for key, one in self._running.items() if wanted.connections.get(key) != one.connection]
        rebound = sum(await asyncio.gather(*(self._change(key, wanted.connections.get(key)) for key in changed)))
        started = [one for key, one in wanted.connections.items() if key not in self._running]
        for connection in started:
            self._start(connection)
        for key in set(self.standings) - set(wanted.connections):
            del self.standings[key]
        log.info(
            CONFIGURATION_APPLIED,
            revision=wanted.revision,
            connections=len(wanted.connections),
            started=len(started),
            stopped=len(changed) - rebound,
            rebound=rebound,
            pipelines=len(wanted.versions),
        )

    async def _change(self, key: int, wanted: Connection | None) -> bool:
        """Give a running connection its other tags, or stop it; whether it goes on."""
        one = self._running[key]
        if wanted is not None and await one.runner.rebind(wanted):
            self._running[key] = replace(one, connection=wanted)
            return True
        await self._stop([key])
        return False

    async def _switch(self, versions: Mapping[int, Version]) -> None:
        """Journal which versions are in force before any reading that is meant for them."""
        ids = tuple(sorted(versions))
        if ids != self._versions:
            await self._journal.switch(ids)
        self._versions = ids
        self._clock.watch(version.windows for version in versions.values())

    def _start(self, connection: Connection) -> None:
        standing = self.standings.get(connection.id) or Standing(connection.config.name)
        standing.name, standing.state, standing.error = connection.config.name, "connecting", ""
        self.standings[connection.id] = standing
        runner = Runner(
            connection,
            self._journal.append,
            standing,
            self._seen,
            load=self._load_connector,
            cap_s=self._cap,
            repeats=self._repeats.setdefault(connection.id, Repeats()),
            alive=self._alive,
        )
        runner.filling = Filling(connection, self._means)
        task = asyncio.create_task(runner.run(), name=f"connection {connection.config.name}")
        self._running[connection.id] = _Running(connection, runner, task)

    def _seen(self, _connection: int, record: Record, _batch: Batch) -> None:
        self._clock.seen(record)

    async def _stop(self, keys: list[int]) -> None:
        stopping = [self._running.pop(key) for key in keys]
        for one in stopping:
            one.task.cancel()
        for one in stopping:
            with suppress(asyncio.CancelledError):
                await one.task


def _max_ages(versions: Mapping[int, Version]) -> dict[str, float]:
    """By the key under which a pipeline's outputs are published."""
    return {f"pipeline:{version.pipeline}": version.spec.max_age_s for version in versions.values()}
