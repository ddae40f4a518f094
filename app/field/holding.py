"""The leases of one gateway: kept while the database answers, and void by our own clock when it does not.

The deadline counts from before a renewal was sent, so that it ends before the database lets another take over. What
was stopped and goes on (SIGSTOP) finds it past before it acknowledges or publishes anything.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.field.blocking import blocking
from app.field.outage import Outage
from app.journal.service import DatabaseError
from app.leases import service as leases
from app.live import LeaseLive
from app.log import DATABASE_BACK, DATABASE_LOST, LEASES_LAPSED, LEASES_LOST, LEASES_TAKEN, get_logger
from app.times import NANOS, rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from sqlalchemy import Engine

    from app.leases.service import Lease
    from app.northbound.service import Subscription
    from app.pipelines.service import Version
    from app.sources.service import Connection

log = get_logger(__name__)

RENEWALS: Final = 3
"""In the time a lease lasts."""
TRIES: Final = 6
"""To take what others hold, in the same time."""
MARGIN: Final = 12
"""Our deadline is this part of the time earlier: two clocks do not run alike."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be held, by lease: connections that share a pipeline together, each subscription by itself."""

    groups: tuple[tuple[str, ...], ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    """Lease → what it is of, for people: `connection line`."""


class Alone:
    """Where there is one gateway: everything is its own, for ever."""

    lasts = False
    """Whether what is held can be lost."""
    settled = True
    """Whether the database was asked since the configuration changed."""
    holder = ""
    changes = 0
    """Grows with each change of what is held."""

    def __init__(self) -> None:
        """Nothing ever changes."""
        self.changed = asyncio.Event()
        self.on_lapse: Callable[[], Awaitable[None]] = _nothing

    def want(self, wanted: Wanted) -> None:
        """Whatever it is, it is ours."""

    async def run(self) -> None:
        """For ever."""
        await asyncio.Event().wait()

    async def turn(self) -> bool:
        """There is nothing to ask."""
        return True

    async def give_back(self) -> None:
        """There is nobody to give it to."""

    def holds(self, _name: str) -> bool:
        """Whether it is ours now."""
        return True

    def owns(self, _name: str) -> bool:
        """Whether it is ours as far as the database said."""
        return True

    def term(self, _name: str) -> int:
        """Under which it is ours; 0 where there are no leases."""
        return 0

    def published(self) -> dict[int, int]:
        """Subscription → term under which it is published."""
        return {}

    def standing(self) -> tuple[LeaseLive, ...]:
        """How leases stand, for people."""
        return ()


class Holding:
    """Takes, renews and gives back; one loop asks the database, another watches the deadline."""

    lasts = True

    def __init__(self, engine: Engine, journal: str, gateway: str, lease_s: float) -> None:
        """Nothing is wanted yet. `lease_s`: how long a lease lasts that is not renewed."""
        self._holder = leases.Holder(journal, gateway)
        self.holder = journal
        self._engine = engine
        self._lasts_s = lease_s
        self._wanted = Wanted()
        self._asked: Wanted | None = None
        self._asking = asyncio.Lock()
        self._deadline = float("-inf")
        self._seen: dict[str, Lease] = {}
        self._held: dict[str, int] = {}
        """Name → term, as the database last said."""
        self._lapsed = False
        self._wake = asyncio.Event()
        self._outage = Outage(DATABASE_LOST, DATABASE_BACK, cap_s=lease_s / TRIES)
        self.changed = asyncio.Event()
        """Set with each change of what is held, for whoever follows."""
        self.changes = 0
        self.on_lapse: Callable[[], Awaitable[None]] = _nothing
        """Ends at once what may go on under a lease alone."""

    def want(self, wanted: Wanted) -> None:
        """The configuration is another one."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    @property
    def settled(self) -> bool:
        """Whether the database was asked since the configuration changed."""
        return self._asked == self._wanted

    def holds(self, name: str) -> bool:
        """Whether it is ours now, by our own clock."""
        return name in self._held and time.monotonic() < self._deadline

    def owns(self, name: str) -> bool:
        """Whether it is ours as far as the database last said: it may be void by now, and then be renewed."""
        return name in self._held

    def term(self, name: str) -> int:
        """Under which it is, or was, ours; 0 when it never was."""
        return self._held.get(name, 0)

    def published(self) -> dict[int, int]:
        """Subscription → term under which it is, or was last, published here."""
        north = leases.SUBSCRIPTION
        return {int(name.removeprefix(north)): term for name, term in self._held.items() if name.startswith(north)}

    def standing(self) -> tuple[LeaseLive, ...]:
        """How all of them stand, as the database last said, for people."""
        found = ((name, self._seen.get(lease), self.holds(lease)) for lease, name in self._wanted.names)
        return tuple(
            LeaseLive(name, "" if one.free else one.gateway, rfc3339(one.since), one.term, mine=mine)
            for name, one, mine in found
            if one is not None
        )

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            group.create_task(self._watch())

    async def _keep(self) -> None:
        renewed_at = float("-inf")
        while True:
            now = time.monotonic()
            whole = all(name in self._held for group in self._wanted.groups for name in group)
            if not whole or now - renewed_at >= self._lasts_s / RENEWALS:
                # What was not answered is asked again at the next look.
                renewed_at = now if await self.turn() else renewed_at
            self._wake.clear()
            try:
                async with asyncio.timeout(self._lasts_s / TRIES):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def turn(self) -> bool:
        """Ask the database once; whether it answered."""
        async with self._asking:
            sent_at, wanted = time.monotonic(), self._wanted
            ttl = round(self._lasts_s * NANOS)
            try:
                found = await blocking(leases.keep, self._engine, self._holder, wanted.groups, ttl)
            except DatabaseError as error:
                await self._outage.wait(error)
                return False
            self._outage.over()
            if self._asked != wanted:
                self._asked = wanted
                self.changed.set()
            self._take_over(found, sent_at + self._lasts_s * (1 - 1 / MARGIN))
            return True

    def _take_over(self, found: dict[str, Lease], deadline: float) -> None:
        """`found`: as the database said; what of it is ours is so until `deadline`."""
        held = {name: one.term for name, one in found.items() if one.mine}
        before, self._held, self._seen = self._held, held, found
        self._deadline = deadline
        if held != before or self._lapsed:
            self._lapsed = False
            self.changes += 1
            self.changed.set()
        if new := sorted(name for name, term in held.items() if before.get(name) != term):
            log.info(LEASES_TAKEN, leases=new, terms=[held[name] for name in new])
        if gone := sorted(set(before) - set(held)):
            log.warning(LEASES_LOST, leases=gone, now=sorted({found[name].gateway for name in gone if name in found}))

    async def _watch(self) -> None:
        """When nothing renewed them in time, all of them are void: somebody else may read."""
        while True:
            left = self._deadline - time.monotonic()
            if left > 0 or self._lapsed or not self._held:
                await asyncio.sleep(min(max(left, 0.05), self._lasts_s / TRIES))
                continue
            self._lapsed = True
            self.changes += 1
            log.warning(LEASES_LAPSED, leases=sorted(self._held))
            await self.on_lapse()

    async def give_back(self) -> None:
        """All of it, so that another takes over at once; when the database does not answer, it waits for the end."""
        self._deadline = float("-inf")
        try:
            await blocking(leases.give_back, self._engine, self._holder)
        except DatabaseError as error:
            log.warning(DATABASE_LOST, reason=str(error.__cause__ or error))


async def _nothing() -> None:
    return


def wanted(
    connections: Mapping[int, Connection], versions: Iterable[Version], subscriptions: Mapping[int, Subscription]
) -> Wanted:
    """Connections that share a pipeline are held together; each group is in the order of ids, and so are they."""
    together = {key: {key} for key in connections}
    for version in versions:
        mine = set().union(*(together[key] for key in reads(version) if key in together))
        for key in mine:
            together[key] = mine
    fields = {tuple(leases.connection(key) for key in sorted(one)) for one in together.values()}
    north = {(leases.subscription(key),) for key in subscriptions}
    names = [(leases.connection(key), f"connection {one.config.name}") for key, one in connections.items()]
    names += [(leases.subscription(key), f"subscription {one.name}") for key, one in subscriptions.items()]
    return Wanted(tuple(sorted(fields | north)), tuple(names))


def reads(version: Version) -> set[int]:
    """The connections that a version needs."""
    trigger = version.windows.trigger_connection
    context = version.spec.context_connection if version.spec.context else 0
    return {one.connection for one in version.windows.inputs} | ({trigger, context} - {0})
