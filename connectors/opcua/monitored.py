"""The monitored items of one subscription at the server (IEC 62541-4, 5.12), by client handle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors.opcua.border import TOO_MUCH, border
from connectors.opcua.revised import Revised

if TYPE_CHECKING:
    from connectors.opcua.session import Session

T = TypeVar("T")
NO_MORE: Final = int(StatusCodes.BadTooManyMonitoredItems)
STUMBLED: Final = frozenset({int(StatusCodes.BadInternalError), int(StatusCodes.BadUnexpectedError)})
"""A fault of the server in handling one item."""


class Monitored:
    """What we know of the items; those of a server that has forgotten the subscription are forgotten with it."""

    def __init__(self, session: Session) -> None:
        """There is no subscription yet."""
        self._session = session
        self.subscription = 0
        self.ids: dict[int, int] = {}
        """Client handle -> MonitoredItemId."""
        self.revised = Revised()

    async def create(self, items: Sequence[ua.MonitoredItemCreateRequest], at_once: int) -> list[int]:
        """Monitor these items too, so many in one request; returns one StatusCode per item. NotConnectedError.

        A server that has no more to give, or that takes fewer at once than it says, costs no item but those.
        """
        results: list[int] = []
        waiting = deque(_parts(items, at_once))
        async with border("subscribing"):
            while waiting:
                some = waiting.popleft()
                try:
                    results += await self._create(some)
                except UaStatusCodeError as error:
                    if len(some) > 1 and error.code in TOO_MUCH | {NO_MORE}:
                        half = len(some) // 2
                        waiting.extendleft([some[half:], some[:half]])
                    elif error.code == NO_MORE:
                        results += [NO_MORE] * (len(items) - len(results))
                        break
                    else:
                        raise
        return results

    async def _create(self, items: Sequence[ua.MonitoredItemCreateRequest]) -> list[int]:
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = ua.IntegerId(self.subscription)
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
        request.Parameters.ItemsToCreate = list(items)
        answer = struct_from_binary(ua.CreateMonitoredItemsResponse, await self._session.request(request))
        answer.ResponseHeader.ServiceResult.check()
        for item, result in zip(items, answer.Results, strict=False):
            if result.StatusCode.is_good():
                handle = int(item.RequestedParameters.ClientHandle)
                self.ids[handle] = int(result.MonitoredItemId)
                self.revised.note(handle, item.RequestedParameters, result)
        return [int(result.StatusCode.value) for result in answer.Results]

    async def modify(self, wanted: Mapping[int, ua.MonitoringParameters], at_once: int) -> list[int]:
        """Monitor the items of these handles differently; returns one StatusCode per item. NotConnectedError.

        An item goes on with what its queue holds (5.12.3): nothing is lost over it.
        """
        results: list[int] = []
        async with border("changing monitored items"):
            for some in _parts(list(wanted.items()), at_once):
                request = ua.ModifyMonitoredItemsRequest()
                request.Parameters.SubscriptionId = ua.IntegerId(self.subscription)
                request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
                request.Parameters.ItemsToModify = [
                    ua.MonitoredItemModifyRequest(ua.IntegerId(self.ids[handle]), parameters)
                    for handle, parameters in some
                ]
                answer = struct_from_binary(ua.ModifyMonitoredItemsResponse, await self._session.request(request))
                answer.ResponseHeader.ServiceResult.check()
                for (handle, parameters), result in zip(some, answer.Results, strict=False):
                    self.revised.note(handle, parameters, result)
                results += [int(result.StatusCode.value) for result in answer.Results]
        return results

    async def remove(self, handles: Iterable[int], at_once: int) -> None:
        """Monitor the items of these client handles no longer. NotConnectedError.

        A server that stumbles over an item, because its node is gone, keeps it: that item tells nothing any more.
        """
        here = [handle for handle in handles if handle in self.ids]
        known = [ua.IntegerId(self.ids.pop(handle)) for handle in here]
        for handle in here:
            self.revised.forget(handle)
        waiting = deque(_parts(known, at_once))
        async with border("unsubscribing"):
            while waiting:
                some = waiting.popleft()
                try:
                    await self._delete(some)
                except UaStatusCodeError as error:
                    if error.code not in STUMBLED:
                        raise
                    if len(some) > 1:
                        half = len(some) // 2
                        waiting.extendleft([some[half:], some[:half]])

    async def _delete(self, ids: Sequence[ua.IntegerId]) -> None:
        request = ua.DeleteMonitoredItemsRequest()
        request.Parameters.SubscriptionId = ua.IntegerId(self.subscription)
        request.Parameters.MonitoredItemIds = list(ids)
        answer = struct_from_binary(ua.DeleteMonitoredItemsResponse, await self._session.request(request))
        answer.ResponseHeader.ServiceResult.check()


def _parts(items: Sequence[T], at_once: int) -> Iterator[Sequence[T]]:
    return (items[start : start + at_once] for start in range(0, len(items), at_once))
