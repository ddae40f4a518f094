"""The Source of an OPC UA connection: a session, one subscription, batches of readings."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from connectors import Allowance, Batch, ConnectionConfig, NotConnectedError, Refusal
from connectors._continuity import Continuity
from connectors.opcua import resume
from connectors.opcua.alarms import Alarms
from connectors.opcua.columns import Columns, joined
from connectors.opcua.decode import TYPE_BITS
from connectors.opcua.endpoints import Endpoints
from connectors.opcua.history import OpcUaPast
from connectors.opcua.items import AT_ONCE, Items
from connectors.opcua.options import Options
from connectors.opcua.polling import Polling, is_needed
from connectors.opcua.security import keys_of
from connectors.opcua.session import Session
from connectors.opcua.space import Space, value_of
from connectors.opcua.structures import Structures
from connectors.opcua.subscription import Subscription, Taken
from connectors.opcua.variant import STRUCTURE
from connectors.opcua.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectors._events import PlantEvent
    from connectors.opcua.resume import Handles, Kept

MOST_READINGS: Final = 20_000
HOUR_NS: Final = 3600 * 1_000_000_000
NAMESPACE_ARRAY: Final = ua.NodeId(ua.Int32(ObjectIds.Server_NamespaceArray))
MOST_READ: Final = ua.NodeId(ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead))
MOST_ITEMS: Final = ua.NodeId(ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall))


class OpcUaSource:
    """Data changes of the configured nodes, with status and source time kept whole."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options or an address that `Options`, `check_address` refuse."""
        self._config = config
        self._options = Options.model_validate(config.options)
        self._items = Items(config.tags, self._options)
        self._session: Session | None = None
        self._subscription: Subscription | Polling | None = None
        self._folder = Path(config.data_dir)
        self._alive_ns = 0
        self._ready: deque[Batch] = deque()
        """What goes before anything newer."""
        self._continuity = Continuity(config.data_dir)
        self._endpoints = Endpoints(self._options, keys_of(self._options, config.name, self._folder))
        self._kept: Handles | None = None
        """As the file has it that this subscription can be resumed from."""
        self._most_read = AT_ONCE
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._structures: Structures | None = None
        self._alarms = Alarms(self._options.events, self._options.url) if self._options.events is not None else None
        self._taken: Taken | None = None
        self._watchdog = Watchdog(self._items, self._options.check_silent_s)

    async def connect(self) -> None:
        """Open a session on the first endpoint that lets us in, and subscribe. NotConnectedError, RefusedError."""
        await self.close()
        await self._endpoints.first(self._open)

    async def _open(self, at: Options) -> bool:
        """Whether the session that was left at this endpoint was gone on with."""
        kept = None if at.polling else resume.kept(self._folder, self._fingerprint, len(self._config.tags))
        session = self._session = Session(at, self._config.name, self._config.data_dir)
        try:
            resumed = await session.open(kept)
            if kept is not None and not resumed:
                # It is gone. What a server that has restarted gives us anew may bear the very same numbers.
                resume.forget(self._folder)
                kept = None
            if kept is not None:
                # The next one has to sign another nonce, even if this connection ends before it has read anything.
                kept = replace(kept, nonce=session.nonce)
                resume.keep(self._folder, self._fingerprint, kept)
            await self._learn(session)
            return await self._subscribe(session, at, kept)
        except BaseException as error:
            # What the server has kept for us it keeps: the next connection may take it up.
            await self._let_go(leave=kept is not None)
            if isinstance(error, NotConnectedError) and kept is not None and session.asked_to_resume:
                resume.failed(self._folder, self._fingerprint, kept)
            raise

    @property
    def _fingerprint(self) -> str:
        return resume.fingerprint(self._config, self._endpoints.in_use)

    def tend(self) -> tuple[str, ...]:
        """See `connectors.Tended`."""
        session, subscription = self._session, self._subscription
        if session is None or subscription is None:
            return ()
        structures = self._structures.notes() if self._structures is not None else ()
        alarms = self._alarms.notes if self._alarms is not None else ()
        ways = (*session.tend(), *self._endpoints.notes())
        return (*ways, *subscription.notes(), *self._watchdog.notes(), *structures, *alarms)

    def mended(self) -> bool:
        """See `connectors.Tended`. The peer may have been mended too."""
        return self._endpoints.mended()

    async def _learn(self, session: Session) -> None:
        """The server's namespaces, and how much it takes at once (IEC 62541-5, 6.3.11)."""
        namespaces, items, read = await session.read_values([NAMESPACE_ARRAY, MOST_ITEMS, MOST_READ])
        session.namespaces = list(value_of(namespaces) or [])
        self._structures = Structures(Space(session))
        self._items.at_once, self._most_read = (
            min(limit, AT_ONCE) if isinstance(limit := value_of(said), int) and limit > 0 else AT_ONCE
            for said in (items, read)
        )

    async def _subscribe(self, session: Session, at: Options, kept: Kept | None) -> bool:
        """Go on with the kept subscription, or make one; where the server has none, poll. Returns whether it went on.

        Nodes that were missing are tried again in any case.
        """
        feed = self._subscription = Polling(session, at, self._most_read) if at.polling else Subscription(session, at)
        resumed = kept is not None and isinstance(feed, Subscription) and await feed.resume(kept)
        wanted = self._items.number(kept.handles if kept is not None and resumed else None)
        try:
            await self._items.bind(session, wanted, feed.monitored.create if resumed else feed.create)
        except NotConnectedError as error:
            if isinstance(feed, Polling) or not is_needed(error):
                raise
            feed = self._subscription = Polling(session, at, self._most_read)
            await self._items.bind(session, wanted, feed.create)
        if self._alarms is not None:
            await self._alarms.begin(session, feed, self._items.at_once, resumed=resumed)
        if not resumed:
            # What a server kept for us is older than now, and may be lost with it before we have it.
            self._alive_ns = time.time_ns()
        self._show(self._items.absent)
        self._look_at = time.monotonic() + self._options.retry_bad_s
        # Before it is written down how to take this subscription up: who does so knows nothing of what was before it.
        self._continuity.connected(took_up=resumed)
        self._keep(feed, new=not resumed)
        return resumed

    def _show(self, absent: Mapping[int, int]) -> None:
        """Tags that cannot be monitored are seen Bad."""
        found = self._items.missing(absent, time.time_ns(), self._alive_ns, self._config.revision)
        if found is not None:
            self._ready.append(found)

    def _keep(self, subscription: Subscription | Polling, *, new: bool = True) -> None:
        """Leave what it takes to resume, so that neither an outage nor a restart loses what the server still has.

        `new`: what is watched from now on was just made, see `Watchdog`.
        """
        if isinstance(subscription, Subscription):
            self._watchdog.watch(subscription, new=new)
        handles = self._items.handles(subscription.monitored.ids)
        if self._options.resume and isinstance(subscription, Subscription) and handles != self._kept:
            resume.keep(self._folder, self._fingerprint, subscription.kept(handles))
            self._kept = handles

    async def rebind(self, config: ConnectionConfig) -> bool:
        """See `connectors.Rebindable`. Client handles of tags that stay, stay; so do session and subscription."""
        session, subscription = self._session, self._subscription
        change = self._items.change(config.tags)
        if session is None or subscription is None or change is None:
            return False
        if self._looking is not None:
            await self._looked(session, subscription)
        while subscription.something_waits or self._taken is not None:
            self._ready.append(await self._next(subscription))
        # Until it is kept anew nobody must resume what is half the old and half the new.
        self._kept = None
        resume.forget(self._folder)
        self._config = config
        self._show(await self._items.apply(change, session, subscription.monitored))
        self._keep(subscription)
        return True

    async def _look_again(self, session: Session, subscription: Subscription | Polling) -> None:
        """Monitor anew what has fallen silent, and look for the nodes that are not there."""
        mute = self._watchdog.renewed()
        if mute:
            self._show(await self._items.renew(mute, session, subscription.monitored))
            # Of each at least one reading was never told.
            self._ready.append(self._batch(subscription, Taken(received_ns=time.time_ns(), lost=len(mute))))
        if self._is_time:
            self._show(await self._items.look_again(session, subscription.monitored))
            self._look_at = time.monotonic() + self._options.retry_bad_s
        self._keep(subscription)

    @property
    def _is_time(self) -> bool:
        """To look for nodes that are not there."""
        return bool(self._items.absent) and time.monotonic() >= self._look_at

    def _watched(self, session: Session, subscription: Subscription | Polling) -> None:
        """A node of which the server tells nothing, because it is not there any more, is seen Bad."""
        if not isinstance(subscription, Subscription):
            return
        gone = self._watchdog.look(session, self._most_read)
        if gone:
            self._items.absent |= gone
            self._show(gone)
            self._look_at = 0.0

    async def _looked(self, session: Session, subscription: Subscription | Polling) -> None:
        """Look again when it is time; to be cancelled half-way would leave items that nobody knows of."""
        if self._looking is None and (self._is_time or self._watchdog.mute):
            self._looking = asyncio.create_task(self._look_again(session, subscription))
        if self._looking is not None:
            await asyncio.shield(self._looking)
            self._looking = None

    async def read(self) -> Batch:
        """Wait for the next batch; see `Source.read`. Raises NotConnectedError."""
        if self._subscription is None or self._session is None:
            message = "not connected"
            raise NotConnectedError(message)
        if self._alarms is not None:
            await self._alarms.refreshed(self._session, self._subscription)
        if not self._ready:
            self._watched(self._session, self._subscription)
            await self._looked(self._session, self._subscription)
        found = self._ready.popleft() if self._ready else await self._next(self._subscription)
        return replace(found, continues=self._continuity.say())

    async def _next(self, subscription: Subscription | Polling) -> Batch:
        """What a cancelled call has taken is there for the next one."""
        if self._taken is None:
            await subscription.ready(MOST_READINGS)
            self._taken = subscription.take(MOST_READINGS)
            if self._taken.lost:
                # How many readings were in them, and of when, the server does not say: that is an interval.
                self._continuity.missed()
        for part in self._taken.parts:
            if self._structures is not None and part.others:
                await self._structures.open(part.others, np.flatnonzero((part.kinds & TYPE_BITS) >= STRUCTURE).tolist())
        taken, self._taken = self._taken, None
        return self._batch(subscription, taken)

    def _batch(self, subscription: Subscription | Polling, taken: Taken) -> Batch:
        self._alive_ns = max(self._alive_ns, taken.alive_ns)
        for part in taken.parts:
            self._items.vanished(part)
        self._watchdog.heard(taken.parts)
        columns = self._columns(taken)
        times = columns.source_time
        if self._options.use_received_time:
            times = np.full(len(columns.tags), taken.received_ns, dtype=np.int64)
        events, lost = self._events(taken)
        broken = tuple(Refusal(self._endpoints.in_use.url, "undecodable", why, readings=n) for why, n in taken.broken)
        return Batch(
            columns.tags,
            times,
            columns.values,
            columns.others,
            columns.status,
            taken.received_ns,
            self._alive_ns,
            self._config.revision,
            columns.refused + broken + lost,
            columns.lost + taken.lost,
            ack=_acknowledger(subscription, taken.sequences, self._continuity),
            events=events,
        )

    def _events(self, taken: Taken) -> tuple[tuple[PlantEvent, ...], tuple[Refusal, ...]]:
        if self._alarms is None or self._session is None or not taken.events:
            return (), ()
        return self._alarms.events(taken.events, self._session.namespaces, taken.received_ns)

    def _columns(self, taken: Taken) -> Columns:
        if taken.rows:
            return self._items.table.columns(joined(taken.parts))
        none = np.zeros(0, dtype=np.int64)
        return Columns(none, none, np.zeros(0), {}, np.zeros(0, dtype=np.uint32), (), 0)

    @property
    def allowance(self) -> Allowance | None:
        """See `connectors.Historical`. A history has no time of our receipt."""
        wanted = self._options
        if not wanted.backfill or wanted.use_received_time:
            return None
        return Allowance(round(wanted.backfill_hours * HOUR_NS), wanted.backfill_readings_per_s)

    def history(self) -> OpcUaPast:
        """See `connectors.Historical`."""
        if self._session is None or self._structures is None:
            message = "not connected"
            raise NotConnectedError(message)
        return OpcUaPast(self._session, self._config, self._structures)

    async def close(self) -> None:
        """Let go of the server, which keeps for a while what can be resumed; open acks are void."""
        subscription, kept = self._subscription, self._kept
        if kept is not None and isinstance(subscription, Subscription) and subscription.started:
            resume.keep(self._folder, self._fingerprint, subscription.kept(kept, ended=True))
        await self._let_go(leave=kept is not None)

    async def _let_go(self, *, leave: bool) -> None:
        subscription, session, looking = self._subscription, self._session, self._looking
        self._subscription = self._session = self._looking = self._kept = self._taken = self._structures = None
        self._ready.clear()
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await self._watchdog.stop()
        if subscription is not None:
            await subscription.close()
        if session is not None:
            await (session.leave() if leave else session.close())


def _acknowledger(
    subscription: Subscription | Polling, sequences: Sequence[int], continuity: Continuity
) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        continuity.told()
        subscription.acknowledge(sequences)

    return acknowledge
