"""The Source of an OPC UA connection: a session, one subscription, batches of readings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from connectors import Batch, ConnectionConfig, NotConnectedError, Refusal, RefusedError, Status
from connectors._continuity import Continuity
from connectors.opcua import resume
from connectors.opcua.address import Address, place
from connectors.opcua.binding import resolve
from connectors.opcua.border import LogInRefusedError
from connectors.opcua.columns import Columns, Table, joined
from connectors.opcua.options import Options, TagOptions
from connectors.opcua.path import Path as BrowsePath
from connectors.opcua.security import keys_of
from connectors.opcua.session import Session
from connectors.opcua.subscription import ITEMS_AT_ONCE, Subscription, Taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectors.opcua.resume import Kept
    from connectors.opcua.security import Mark

MOST_READINGS: Final = 20_000
BAD: Final = 2
LOOK_AGAIN_S: Final = 30.0
"""A peer that refuses is looked at again so often: its engineer may have accepted our certificate meanwhile."""
NAMESPACE_ARRAY: Final = ua.NodeId(ua.Int32(ObjectIds.Server_NamespaceArray))
MOST_ITEMS: Final = ua.NodeId(ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall))
TRIGGERS: Final = {
    "status_value": ua.DataChangeTrigger.StatusValue,
    "status_value_timestamp": ua.DataChangeTrigger.StatusValueTimestamp,
}


Ask: TypeAlias = "Callable[[Sequence[ua.MonitoredItemCreateRequest], int], Awaitable[list[int]]]"


@dataclass(frozen=True, slots=True)
class Refused:
    """What was so when the peer, or we, refused."""

    mark: Mark
    at: float
    """Monotonic, s."""
    log_in: bool
    """Whether it was the user that was refused."""

    def worth_a_try(self, mark: Mark, now: float) -> bool:
        """A user is tried again only when something has changed here: more tries may lock the account."""
        return mark != self.mark or (not self.log_in and now - self.at >= LOOK_AGAIN_S)


class OpcUaSource:
    """Data changes of the configured nodes, with status and source time kept whole."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options or an address that `Options`, `check_address` refuse."""
        self._config = config
        self._options = Options.model_validate(config.options)
        self._addresses: list[Address | BrowsePath] = [place(tag.address) for tag in config.tags]
        self._tag_options = [TagOptions.model_validate(tag.options) for tag in config.tags]
        self._table = Table(config.tags)
        self._session: Session | None = None
        self._subscription: Subscription | None = None
        self._folder = Path(config.data_dir)
        self._fingerprint = resume.fingerprint(config, self._options)
        self._alive_ns = 0
        self._first: Batch | None = None
        self._continuity = Continuity()
        self._keys = keys_of(self._options, config.name, self._folder)
        self._refused: Refused | None = None
        self._absent: dict[int, int] = {}
        self._kept: set[int] = set()
        self._at_once = ITEMS_AT_ONCE
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open a session and subscribe. Raises NotConnectedError, RefusedError."""
        await self.close()
        self._refused = None
        kept = resume.kept(self._folder, self._fingerprint)
        session = self._session = Session(self._options, self._config.name, self._config.data_dir)
        self._subscription = Subscription(self._session, self._options)
        try:
            resumed = await self._session.open(kept)
            if kept is not None and resumed:
                # The next one has to sign another nonce, even if this connection ends before it has read anything.
                kept = replace(kept, nonce=session.nonce)
                resume.keep(self._folder, self._fingerprint, kept)
            went_on = await self._subscribe(self._session, self._subscription, kept if resumed else None)
        except BaseException as error:
            # What the server has kept for us it keeps: the next connection may take it up.
            await self._let_go(leave=kept is not None)
            if isinstance(error, RefusedError):
                self._refused = Refused(self._keys.mark(), time.monotonic(), isinstance(error, LogInRefusedError))
            elif isinstance(error, NotConnectedError) and kept is not None and session.asked_to_resume:
                resume.failed(self._folder, self._fingerprint, kept)
            raise
        self._continuity.connected(took_up=went_on)

    def tend(self) -> tuple[str, ...]:
        """See `connectors.Tended`."""
        session = self._session
        return session.tend() if session is not None else ()

    def mended(self) -> bool:
        """See `connectors.Tended`. The peer may have been mended too."""
        refused = self._refused
        return refused is None or refused.worth_a_try(self._keys.mark(), time.monotonic())

    async def _subscribe(self, session: Session, subscription: Subscription, kept: Kept | None) -> bool:
        """Go on with the kept subscription, or make one; nodes that were missing are tried again in either case.

        Returns whether it went on.
        """
        namespaces, most = await session.read_values([NAMESPACE_ARRAY, MOST_ITEMS])
        session.namespaces = list(namespaces.Value.Value or []) if namespaces.Value is not None else []
        limit = most.Value.Value if most.Value is not None and isinstance(most.Value.Value, int) else 0
        self._at_once = min(limit or ITEMS_AT_ONCE, ITEMS_AT_ONCE)
        resumed = kept is not None and await subscription.resume(kept)
        open_ones = sorted(kept.missing) if kept is not None and resumed else range(len(self._addresses))
        self._absent = await self._bind(session, open_ones, subscription.add if resumed else subscription.create)
        self._alive_ns = time.time_ns()
        self._first = self._missing(self._absent, self._alive_ns)
        self._look_at = time.monotonic() + self._options.retry_bad_s
        self._keep(subscription)
        return resumed

    def _keep(self, subscription: Subscription) -> None:
        """Leave what it takes to resume, so that neither an outage nor a restart loses what the server still has."""
        self._kept = set(self._absent)
        if self._options.resume:
            resume.keep(self._folder, self._fingerprint, subscription.kept(self._absent))

    async def _bind(self, session: Session, indices: Sequence[int], ask: Ask) -> dict[int, int]:
        """Find the nodes of these tags and have them monitored; StatusCode of each that cannot be."""
        nodes = dict(zip(indices, await resolve(session, [self._addresses[n] for n in indices]), strict=True))
        there = {index: node for index, node in nodes.items() if isinstance(node, ua.NodeId)}
        results = await ask([self._item(index, node) for index, node in there.items()], self._at_once)
        status = {index: code for index, code in nodes.items() if isinstance(code, int)}
        status |= dict(zip(there, results, strict=True))
        return {index: code for index, code in status.items() if Status.severity(code) == BAD}

    async def _look_again(self, session: Session, subscription: Subscription) -> None:
        """Look for the nodes that are not there; an item whose node has vanished is made anew."""
        before = dict(self._absent)
        await subscription.remove(before, self._at_once)
        self._absent = await self._bind(session, sorted(before), subscription.add)
        news = {n: code for n, code in self._absent.items() if before[n] != code}
        self._first = self._missing(news, time.time_ns())
        self._look_at = time.monotonic() + self._options.retry_bad_s
        if self._absent.keys() != self._kept:
            self._keep(subscription)

    async def _looked(self, session: Session, subscription: Subscription) -> None:
        """Look again when it is time; to be cancelled half-way would leave items that nobody knows of."""
        if self._looking is None and self._absent and time.monotonic() >= self._look_at:
            self._looking = asyncio.create_task(self._look_again(session, subscription))
        if self._looking is not None:
            await asyncio.shield(self._looking)
            self._looking = None

    def _item(self, index: int, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        mine = self._tag_options[index]
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor.NodeId = node
        item.ItemToMonitor.AttributeId = AttributeIds.Value
        item.MonitoringMode = ua.MonitoringMode.Reporting
        item.RequestedParameters.ClientHandle = index
        wanted = mine.sampling_interval_ms
        item.RequestedParameters.SamplingInterval = self._options.sampling_interval_ms if wanted is None else wanted
        item.RequestedParameters.QueueSize = mine.queue_size or self._options.queue_size
        item.RequestedParameters.DiscardOldest = True
        item.RequestedParameters.Filter = _filter(mine)
        return item

    def _missing(self, missing: Mapping[int, int], now: int) -> Batch | None:
        """One reading, with the server's own StatusCode, for each tag that cannot be monitored: it is seen Bad."""
        if not missing:
            return None
        tags = np.array([self._config.tags[index].id for index in missing], dtype=np.int64)
        times = np.full(len(tags), now, dtype=np.int64)
        status, nothing = np.array(list(missing.values()), dtype=np.uint32), np.full(len(tags), np.nan)
        return Batch(tags, times, nothing, {}, status, now, self._alive_ns, self._config.revision)

    async def read(self) -> Batch:
        """Wait for the next batch; see `Source.read`. Raises NotConnectedError."""
        if self._subscription is None or self._session is None:
            message = "not connected"
            raise NotConnectedError(message)
        if self._first is None:
            await self._looked(self._session, self._subscription)
        if self._first is not None:
            first, self._first = self._first, None
            return replace(first, continues=self._continuity.say())
        await self._subscription.ready(MOST_READINGS)
        return self._batch(self._subscription, self._subscription.take(MOST_READINGS))

    def _batch(self, subscription: Subscription, taken: Taken) -> Batch:
        self._alive_ns = max(self._alive_ns, taken.alive_ns)
        for part in taken.parts:
            gone = part.handles[part.status == Status.BAD_NODE_ID_UNKNOWN].tolist()
            self._absent |= dict.fromkeys((n for n in gone if n < len(self._addresses)), Status.BAD_NODE_ID_UNKNOWN)
        columns = self._columns(taken)
        times = columns.source_time
        if self._options.use_received_time:
            times = np.full(len(columns.tags), taken.received_ns, dtype=np.int64)
        broken = tuple(Refusal(self._options.url, "undecodable", why, readings=n) for why, n in taken.broken)
        return Batch(
            columns.tags,
            times,
            columns.values,
            columns.others,
            columns.status,
            taken.received_ns,
            self._alive_ns,
            self._config.revision,
            columns.refused + broken,
            columns.lost + taken.lost,
            self._continuity.say(),
            _acknowledger(subscription, taken.sequences),
        )

    def _columns(self, taken: Taken) -> Columns:
        if taken.rows:
            return self._table.columns(joined(taken.parts))
        none = np.zeros(0, dtype=np.int64)
        return Columns(none, none, np.zeros(0), {}, np.zeros(0, dtype=np.uint32), (), 0)

    async def close(self) -> None:
        """Let go of the server, which keeps the session for a while if `resume` is set; open acks are void."""
        if self._options.resume and self._subscription is not None and self._subscription.started:
            resume.keep(self._folder, self._fingerprint, self._subscription.kept(self._absent, ended=True))
        await self._let_go(leave=self._options.resume)

    async def _let_go(self, *, leave: bool) -> None:
        subscription, session, looking = self._subscription, self._session, self._looking
        self._subscription = self._session = self._first = self._looking = None
        self._absent = {}
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        if subscription is not None:
            await subscription.close()
        if session is not None:
            await (session.leave() if leave else session.close())


def _acknowledger(subscription: Subscription, sequences: Sequence[int]) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        subscription.acknowledge(sequences)

    return acknowledge


def _filter(mine: TagOptions) -> ua.DataChangeFilter | None:
    """What the server is asked to leave out; None where it is nothing (IEC 62541-4, 7.22.2)."""
    wanted = ua.DataChangeFilter(Trigger=TRIGGERS[mine.trigger])
    if mine.deadband is not None:
        wanted.DeadbandType, wanted.DeadbandValue = ua.DeadbandType.Absolute, mine.deadband
    elif mine.deadband_percent is not None:
        wanted.DeadbandType, wanted.DeadbandValue = ua.DeadbandType.Percent, mine.deadband_percent
    elif mine.trigger == "status_value":
        return None
    return wanted
