"""A real OPC UA server with little to give: few sessions, few items, small requests, or no subscriptions at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.ua.status_codes import StatusCodes

from tests.connectors.opcua_plant import Users

TOO_MANY = StatusCodes.BadTooManyOperations


@dataclass
class Means:
    """What the server has; it may change while it runs."""

    sessions: int = 1000
    """With its own clients altogether."""
    subscriptions: bool = True
    items: int = 1_000_000
    whole: bool = False
    """Whether a request for more items than there are is refused whole, as some servers do."""
    at_once: int = 1_000_000
    """Nodes or items in one request."""
    sampling_ms: float = 0.0
    """The fastest it samples."""
    queue: int = 1_000_000
    largest: Counter[str] = field(default_factory=Counter)
    """The largest request of each kind there was."""
    asked: Counter[str] = field(default_factory=Counter)


class StingyServer(InternalServer):
    """Gives no more than it has."""

    def __init__(self, means: Means) -> None:
        """For `opcua_plant`."""
        super().__init__(user_manager=Users())  # type: ignore[arg-type]
        self.means = means

    def create_session(self, name: str, user: User | None = None, external: bool = False) -> InternalSession:  # noqa: FBT001, FBT002 - asyncua's signature
        """See `InternalServer`."""
        del user
        if external and len(self._external_sessions) >= self.means.sessions:
            raise ServiceError(StatusCodes.BadTooManySessions)
        return StingySession(self, self.aspace, self.subscription_service, name, external=external)


class StingySession(InternalSession):
    """The services of a session of a client."""

    @property
    def means(self) -> Means:
        """The server's."""
        assert isinstance(self.iserver, StingyServer)
        return self.iserver.means

    def _take(self, kind: str, asked: Sequence[object]) -> None:
        means = self.means
        means.asked[kind] += 1
        means.largest[kind] = max(means.largest[kind], len(asked))
        if len(asked) > means.at_once:
            raise ServiceError(TOO_MANY)

    async def create_subscription(
        self, params: Any, callback: Callable[..., Any], request_callback: Callable[..., Any] | None = None  # noqa: ANN401
    ) -> ua.CreateSubscriptionResult:
        """See `InternalSession`."""
        if not self.means.subscriptions:
            raise ServiceError(StatusCodes.BadServiceUnsupported)
        return await super().create_subscription(params, callback, request_callback)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """See `InternalSession`."""
        self._take("items", params.ItemsToCreate)
        subscription = self.subscription_service.subscriptions[params.SubscriptionId]
        there = len(subscription.monitored_item_srv._monitored_items)  # noqa: SLF001 - looking into the peer
        room = max(0, self.means.items - there)
        wanted = list(params.ItemsToCreate)
        if self.means.whole and len(wanted) > room:
            raise ServiceError(StatusCodes.BadTooManyMonitoredItems)
        params.ItemsToCreate = wanted[:room]
        results = await super().create_monitored_items(params)
        for item, result in zip(wanted, results, strict=False):
            asked = item.RequestedParameters
            result.RevisedSamplingInterval = max(self.means.sampling_ms, asked.SamplingInterval)
            result.RevisedQueueSize = ua.Counter(min(self.means.queue, asked.QueueSize))
        refused = ua.MonitoredItemCreateResult()
        refused.StatusCode = ua.StatusCode(ua.UInt32(StatusCodes.BadTooManyMonitoredItems))
        return results + [refused] * (len(wanted) - len(results))

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        """See `InternalSession`."""
        self._take("items", params.MonitoredItemIds)
        return await super().delete_monitored_items(params)

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """See `InternalSession`."""
        self._take("read", params.NodesToRead)
        return await super().read(params)

    async def translate_browsepaths_to_nodeids(self, params: list[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        """See `InternalSession`."""
        self._take("paths", params)
        return await super().translate_browsepaths_to_nodeids(params)

    async def browse(self, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """See `InternalSession`."""
        self._take("browse", params.NodesToBrowse)
        return await super().browse(params)
