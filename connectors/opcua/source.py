"""The Source of an OPC UA connection: a session, one subscription, batches of readings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from connectors import Batch, ConnectionConfig, NotConnectedError, Refusal, Status
from connectors.opcua import resume
from connectors.opcua.address import Address, place
from connectors.opcua.binding import resolve
from connectors.opcua.columns import Columns, Table, joined
from connectors.opcua.options import Options, TagOptions
from connectors.opcua.path import Path as BrowsePath
from connectors.opcua.session import Session
from connectors.opcua.subscription import ITEMS_AT_ONCE, Subscription, Taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectors.opcua.resume import Kept

MOST_READINGS: Final = 20_000
BAD: Final = 2
NAMESPACE_ARRAY: Final = ua.NodeId(ua.Int32(ObjectIds.Server_NamespaceArray))
MOST_ITEMS: Final = ua.NodeId(ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall))
TRIGGERS: Final = {
    "status_value": ua.DataChangeTrigger.StatusValue,
    "status_value_timestamp": ua.DataChangeTrigger.StatusValueTimestamp,
}


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

    async def connect(self) -> None:
        """Open a session and subscribe. Raises NotConnectedError, RefusedError."""
        await self.close()
        kept = resume.take(self._folder, self._fingerprint)
        self._session = Session(self._options, self._config.name, self._config.data_dir)
        self._subscription = Subscription(self._session, self._options)
        try:
            resumed = await self._session.open(kept)
            await self._subscribe(self._session, self._subscription, kept if resumed else None)
        except BaseException:
            await self._let_go(leave=False)
            raise

    async def _subscribe(self, session: Session, subscription: Subscription, kept: Kept | None) -> None:
        """Go on with the kept subscription, or make one; nodes that were missing are tried again in either case."""
        namespaces, most = await session.read_values([NAMESPACE_ARRAY, MOST_ITEMS])
        session.namespaces = list(namespaces.Value.Value or []) if namespaces.Value is not None else []
        limit = most.Value.Value if most.Value is not None and isinstance(most.Value.Value, int) else 0
        resumed = kept is not None and await subscription.resume(kept)
        open_ones = sorted(kept.missing) if kept is not None and resumed else range(len(self._addresses))
        nodes = dict(zip(open_ones, await resolve(session, [self._addresses[n] for n in open_ones]), strict=True))
        there = {index: node for index, node in nodes.items() if isinstance(node, ua.NodeId)}
        items = [self._item(index, node) for index, node in there.items()]
        ask = subscription.add if resumed else subscription.create
        results = await ask(items, min(limit or ITEMS_AT_ONCE, ITEMS_AT_ONCE))
        status = {index: code for index, code in nodes.items() if isinstance(code, int)}
        status |= dict(zip(there, results, strict=True))
        missing = {index: code for index, code in status.items() if Status.severity(code) == BAD}
        self._alive_ns = time.time_ns()
        self._first = self._missing(missing)
        if self._options.resume:
            resume.keep(self._folder, self._fingerprint, subscription.kept(missing))

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

    def _missing(self, missing: Mapping[int, int]) -> Batch | None:
        """One reading, with the server's own StatusCode, for each tag that cannot be monitored: it is seen Bad."""
        if not missing:
            return None
        tags = np.array([self._config.tags[index].id for index in missing], dtype=np.int64)
        times = np.full(len(tags), self._alive_ns, dtype=np.int64)
        status, nothing = np.array(list(missing.values()), dtype=np.uint32), np.full(len(tags), np.nan)
        return Batch(tags, times, nothing, {}, status, self._alive_ns, self._alive_ns, self._config.revision)

    async def read(self) -> Batch:
        """Wait for the next batch; see `Source.read`. Raises NotConnectedError."""
        if self._subscription is None:
            message = "not connected"
            raise NotConnectedError(message)
        if self._first is not None:
            first, self._first = self._first, None
            return first
        await self._subscription.ready(MOST_READINGS)
        return self._batch(self._subscription, self._subscription.take(MOST_READINGS))

    def _batch(self, subscription: Subscription, taken: Taken) -> Batch:
        self._alive_ns = max(self._alive_ns, taken.alive_ns)
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
            _acknowledger(subscription, taken.sequences),
        )

    def _columns(self, taken: Taken) -> Columns:
        if taken.rows:
            return self._table.columns(joined(taken.parts))
        none = np.zeros(0, dtype=np.int64)
        return Columns(none, none, np.zeros(0), {}, np.zeros(0, dtype=np.uint32), (), 0)

    async def close(self) -> None:
        """Let go of the server, which keeps the session for a while if `resume` is set; open acks are void."""
        await self._let_go(leave=self._options.resume)

    async def _let_go(self, *, leave: bool) -> None:
        subscription, session = self._subscription, self._session
        self._subscription = self._session = self._first = None
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
