"""Makes the running gateway equal to the plant revision in force: what changed is rebound, or stopped and started."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from app import longlived
from app.field.blocking import blocking
from app.field.filling import Filling
from app.field.holding import reads
from app.field.holding import wanted as all_of
from app.field.outage import Outage
from app.field.repeats import Repeats, of_journal
from app.field.runner import Runner, Standing
from app.field.terms import Terms
from app.journal.service import DatabaseError
from app.leases import service as leases
from app.live import STANDBY
from app.log import CONFIGURATION_APPLIED, DATABASE_BACK, DATABASE_LOST, PIPELINE_UNUSABLE, get_logger
from app.northbound import service as northbound
from app.pipelines import service as pipelines
from app.sources import service as sources
from connectors import NotInstalledError

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
    from app.records import Leased, Record
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
        """`means`: of filling gaps, and the leases. `alive`: until when a connection was alive, see `Runner`.

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
        self._holding = means.holding
        self._holding.on_lapse = self.lapse
        self._terms = Terms(means)
        self._followed = (-1, -1)
        """Plant revision and changes of leases that are in force here."""
        self._switched: tuple[tuple[int, ...], Leased | None] | None = None
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
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._holding.changed.wait()
                self._holding.changed.clear()
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

    async def lapse(self) -> None:
        """Stop at once what another gateway may do."""
        gone = [key for key in self._running if not self._holding.holds(leases.connection(key))]
        await asyncio.gather(self._stop(gone), self._publisher.lapse())
        for key in gone:
            if key in self.standings:
                self.standings[key].state = STANDBY

    async def _follow(self) -> None:
        changes = self._holding.changes
        try:
            if (await blocking(sources.revision, self._engine), changes) == self._followed:
                return
            wanted = await blocking(self._load)
            await self._load_connectors(wanted)
            self._holding.want(all_of(wanted.connections, wanted.versions.values(), wanted.subscriptions))
            if not self._holding.settled:
                # What is stored of a connection is looked up again, once nobody else adds to it.
                await self._holding.turn()
                return
            mine = self._mine(wanted)
            leased = await self._terms.leased(mine.connections, mine.versions)
            await self._publisher.configure(mine.subscriptions, _max_ages(wanted.versions))
        except DatabaseError as error:
            await self._outage.wait(error)
            return
        self._outage.over()
        await self._reconcile(mine, leased)
        self._stand_by(wanted, mine)
        self._followed, self._looks = (wanted.revision, changes), 0

    async def _load_connectors(self, wanted: _Wanted) -> None:
        """Before anything is ours: a library takes seconds to load, and a lease is renewed meanwhile or lost."""
        if not self._holding.lasts:
            return
        names = {one.connector for one in wanted.connections.values()}
        names |= {one.connector for one in wanted.subscriptions.values()}
        for name in sorted(names):
            with suppress(KeyError, NotInstalledError):
                await blocking(self._load_connector, name)

    def _mine(self, wanted: _Wanted) -> _Wanted:
        """What of it is this gateway's now; it does nothing by that while it cannot be sure of it."""
        owns = self._holding.owns
        connections = {key: one for key, one in wanted.connections.items() if owns(leases.connection(key))}
        versions = {
            key: one for key, one in wanted.versions.items() if all(owns(leases.connection(c)) for c in reads(one))
        }
        north = {key: one for key, one in wanted.subscriptions.items() if owns(leases.subscription(key))}
        return replace(wanted, connections=connections, versions=versions, subscriptions=north)

    def _stand_by(self, wanted: _Wanted, mine: _Wanted) -> None:
        """For people: what others read."""
        for key in set(wanted.connections) - set(mine.connections):
            name = wanted.connections[key].config.name
            self.standings[key] = Standing(name, STANDBY)

    def _load(self) -> _Wanted:
        # The number is read first: what changes meanwhile is seen at the next look.
        revision = sources.revision(self._engine)
        versions, unusable = pipelines.active(self._engine)
        connections = sources.running(self._engine, self._data_dir)
        subscriptions = northbound.subscriptions(self._engine)
        return _Wanted(revision, connections, versions, unusable, subscriptions)

    async def _reconcile(self, wanted: _Wanted, leased: Leased | None) -> None:
        for one in wanted.unusable:
            log.error(PIPELINE_UNUSABLE, pipeline=one.pipeline, version=one.id, reason=one.reason)
        await self._switch(wanted.versions, leased)
        self.priorities |= {key: one.priority for key, one in wanted.connections.items()}
        self._means.places.update({key: one.places for key, one in wanted.connections.items()})
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

    async def _switch(self, versions: Mapping[int, Version], leased: Leased | None) -> None:
        """Journal which versions are in force, and under which leases, before any reading that is meant for them."""
        ids = tuple(sorted(versions if leased is None else leased.starts))
        if (ids, leased) != self._switched:
            await self._journal.switch(ids, leased)
        self._switched = (ids, leased)
        self._clock.watch(version.windows for version in versions.values())

    def _start(self, connection: Connection) -> None:
        mine = partial(self._holding.holds, leases.connection(connection.id))
        if not mine():
            return
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
            alive=partial(self._alive_until, connection.stored_until),
        )
        runner.mine = mine
        runner.places = partial(self._means.places.__getitem__, connection.id)
        runner.filling = Filling(connection, self._means)
        task = asyncio.create_task(runner.run(), name=f"connection {connection.config.name}")
        self._running[connection.id] = _Running(connection, runner, task)

    def _alive_until(self, stored: int, connection: int) -> int:
        """Where there are leases, another gateway may have heard it later than this one."""
        return max(self._alive(connection), stored if self._holding.lasts else 0)

    def _seen(self, _connection: int, record: Record, _batch: Batch) -> None:
        self._clock.seen(record)

    async def _stop(self, keys: list[int]) -> None:
        stopping = [self._running.pop(key) for key in keys if key in self._running]
        for one in stopping:
            one.task.cancel()
        for one in stopping:
            with suppress(asyncio.CancelledError):
                await one.task


def _max_ages(versions: Mapping[int, Version]) -> dict[str, float]:
    """By the key under which a pipeline's outputs are published."""
    return {f"pipeline:{version.pipeline}": version.spec.max_age_s for version in versions.values()}
