"""The Source of an OPC UA connection: a session, one subscription, batches of readings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from connectors import Batch, ConnectionConfig, NotConnectedError, Refusal, Status
from connectors.opcua.address import Address, parse
from connectors.opcua.columns import Columns, Table, joined
from connectors.opcua.options import Options, TagOptions
from connectors.opcua.session import Session
from connectors.opcua.subscription import ITEMS_AT_ONCE, Subscription, Taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST_READINGS: Final = 20_000
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
        self._addresses: list[Address] = [parse(tag.address) for tag in config.tags]
        self._tag_options = [TagOptions.model_validate(tag.options) for tag in config.tags]
        self._table = Table(config.tags)
        self._session: Session | None = None
        self._subscription: Subscription | None = None
        self._alive_ns = 0
        self._first: Batch | None = None

    async def connect(self) -> None:
        """Open a session and subscribe. Raises NotConnectedError, RefusedError."""
        await self.close()
        self._session = Session(self._options, self._config.name, self._config.data_dir)
        self._subscription = Subscription(self._session, self._options)
        try:
            await self._session.open()
            await self._subscribe(self._session, self._subscription)
        except BaseException:
            await self.close()
            raise

    async def _subscribe(self, session: Session, subscription: Subscription) -> None:
        namespaces, most = await session.read_values([NAMESPACE_ARRAY, MOST_ITEMS])
        session.namespaces = list(namespaces.Value.Value or []) if namespaces.Value is not None else []
        limit = most.Value.Value if most.Value is not None and isinstance(most.Value.Value, int) else 0
        nodes = [address.node_id(session.namespaces) for address in self._addresses]
        wanted = [index for index, node in enumerate(nodes) if node is not None]
        items = [self._item(index, nodes[index]) for index in wanted]
        results = await subscription.create(items, min(limit or ITEMS_AT_ONCE, ITEMS_AT_ONCE))
        status = np.full(len(nodes), Status.BAD_NODE_ID_UNKNOWN, dtype=np.uint32)
        status[wanted] = np.array(results, dtype=np.uint32)
        self._alive_ns = time.time_ns()
        self._first = self._missing(status)

    def _item(self, index: int, node: ua.NodeId | None) -> ua.MonitoredItemCreateRequest:
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
        if mine.trigger != "status_value":
            item.RequestedParameters.Filter = ua.DataChangeFilter(Trigger=TRIGGERS[mine.trigger])
        return item

    def _missing(self, status: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> Batch | None:
        """One reading, with the server's own StatusCode, for each tag that cannot be monitored: it is seen Bad."""
        rows = np.flatnonzero(status >> 30 >= 2)  # noqa: PLR2004 - severity Bad
        if not len(rows):
            return None
        tags = np.array([self._config.tags[row].id for row in rows.tolist()], dtype=np.int64)
        times = np.full(len(rows), self._alive_ns, dtype=np.int64)
        nothing = np.full(len(rows), np.nan)
        return Batch(tags, times, nothing, {}, status[rows], self._alive_ns, self._alive_ns, self._config.revision)

    async def read(self) -> Batch:
        """Wait for the next batch; see `Source.read`. Raises NotConnectedError."""
        if self._subscription is None:
            message = "not connected"
            raise NotConnectedError(message)
        if self._first is not None:
            first, self._first = self._first, None
            return first
        await self._subscription.ready()
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
        """Let go of the server; acknowledgements not yet given are void."""
        subscription, session = self._subscription, self._session
        self._subscription = self._session = self._first = None
        if subscription is not None:
            await subscription.close()
        if session is not None:
            await session.close()


def _acknowledger(subscription: Subscription, sequences: Sequence[int]) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        subscription.acknowledge(sequences)

    return acknowledge
