"""Tags as monitored items: which client handle stands for which tag, what cannot be had, and what has to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from connectors import Batch, NotConnectedError, Status, TagBinding
from connectors.opcua import silence
from connectors.opcua.address import Address, place
from connectors.opcua.binding import resolve
from connectors.opcua.columns import Table
from connectors.opcua.options import Options, TagOptions
from connectors.opcua.path import Path as BrowsePath
from connectors.opcua.resume import Handles
from connectors.opcua.silence import Held

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectors.opcua.decode import Changes
    from connectors.opcua.monitored import Monitored
    from connectors.opcua.polling import Asked
    from connectors.opcua.session import Session

    Ask: TypeAlias = Callable[[Sequence[ua.MonitoredItemCreateRequest], int], Awaitable[list[int]]]

BAD: Final = 2
AT_ONCE: Final = 1000
SPENT: Final = 10_000
"""Client handles that may stand for nothing any more, beyond as many as there are tags, before a new subscription."""
TRIGGERS: Final = {
    "status_value": ua.DataChangeTrigger.StatusValue,
    "status_value_timestamp": ua.DataChangeTrigger.StatusValueTimestamp,
}


@dataclass(frozen=True, slots=True)
class Point:
    """One tag, ready to be monitored."""

    tag: TagBinding
    address: Address | BrowsePath
    options: TagOptions

    @classmethod
    def of(cls, tag: TagBinding) -> Point:
        """ValueError for an address or options that `check_address`, `TagOptions` refuse."""
        return cls(tag, place(tag.address), TagOptions.model_validate(tag.options))


class Items:
    """The tags of one connection, from one subscription to the next.

    A handle is given once in the life of a subscription: a notification that is still on its way when its tag is taken
    away, or moved to another node, can be taken for nothing else.
    """

    def __init__(self, tags: Sequence[TagBinding], options: Options) -> None:
        """`tags` in their order. Raises ValueError for one that cannot be."""
        self._options = options
        self.at_once = AT_ONCE
        """Items in one request, as the server limits it."""
        self.absent: dict[int, int] = {}
        """Handle of a tag that cannot be monitored -> StatusCode."""
        self._begin(dict(enumerate(Point.of(tag) for tag in tags)), len(tags))

    def _begin(self, points: dict[int, Point], given: int) -> None:
        self._points, self._given = points, given
        self.table = Table({handle: point.tag for handle, point in points.items()}, given)

    def number(self, kept: Handles | None) -> Sequence[int]:
        """Give handles for another subscription, those of a kept one if there is one; returns those to ask for."""
        points = list(self._points.values())
        handles = kept.of_tags if kept is not None else range(len(points))
        self._begin(dict(zip(handles, points, strict=True)), kept.next if kept is not None else len(points))
        self.absent = {}
        return sorted(kept.missing) if kept is not None else list(handles)

    def handles(self, monitored: Mapping[int, int]) -> Handles:
        """What a later connection has to know. `monitored`: handle -> MonitoredItemId."""
        return Handles(tuple(self._points), self._given, dict(monitored), dict(self.absent))

    async def bind(self, session: Session, handles: Sequence[int], ask: Ask) -> None:
        """Find the nodes of these tags and have them monitored; what cannot be is absent. NotConnectedError."""
        found = await resolve(session, [self._points[handle].address for handle in handles])
        nodes = dict(zip(handles, found, strict=True))
        there = {handle: node for handle, node in nodes.items() if isinstance(node, ua.NodeId)}
        results = await ask([self._item(handle, node) for handle, node in there.items()], self.at_once)
        status = {handle: code for handle, code in nodes.items() if isinstance(code, int)}
        status |= dict(zip(there, results, strict=True))
        self.absent |= {handle: code for handle, code in status.items() if Status.severity(code) == BAD}

    async def look_again(self, session: Session, monitored: Monitored | Asked) -> dict[int, int]:
        """Look for the nodes that are not there; an item whose node has vanished is made anew.

        Returns the StatusCode of those that have another one now. NotConnectedError.
        """
        before, self.absent = self.absent, {}
        await monitored.remove(before, self.at_once)
        await self.bind(session, sorted(before), monitored.create)
        return {handle: code for handle, code in self.absent.items() if before[handle] != code}

    async def held(self, session: Session, handles: Sequence[int], at_once: int) -> dict[int, Held | None]:
        """What the server holds of these tags; it is read within the budget of requests. NotConnectedError."""
        asked = [handle for handle in handles if handle in self._points]
        nodes = await resolve(session, [self._points[handle].address for handle in asked])
        there = [node for node in nodes if isinstance(node, ua.NodeId)]
        found = iter(await silence.held(session, there, at_once))
        return {
            handle: next(found) if isinstance(node, ua.NodeId) else Held(node, np.nan)
            for handle, node in zip(asked, nodes, strict=True)
        }

    async def renew(
        self, handles: Iterable[int], session: Session, monitored: Monitored | Asked
    ) -> dict[int, int]:
        """Monitor these anew: the server tells their values then. Returns the StatusCode of each that cannot be.

        NotConnectedError.
        """
        mine = [handle for handle in handles if handle in self._points]
        await monitored.remove(mine, self.at_once)
        await self.bind(session, mine, monitored.create)
        return {handle: self.absent[handle] for handle in mine if handle in self.absent}

    def tolerances(self, monitored: Mapping[int, int]) -> dict[int, float]:
        """How far the number of each item may move without being told. `monitored`: handle -> MonitoredItemId."""
        return {
            handle: silence.ANY if mine.deadband_percent is not None else mine.deadband or 0.0
            for handle in monitored
            if handle in self._points and handle not in self.absent and (mine := self._points[handle].options)
        }

    def addresses(self, handles: Iterable[int]) -> list[str]:
        """Of the tags that these handles stand for."""
        return [self._points[handle].tag.address for handle in handles if handle in self._points]

    def vanished(self, part: Changes) -> None:
        """Note which nodes the server says are not there any more."""
        gone = part.handles[part.status == Status.BAD_NODE_ID_UNKNOWN].tolist()
        self.absent |= dict.fromkeys((one for one in gone if one in self._points), Status.BAD_NODE_ID_UNKNOWN)

    def change(self, tags: Sequence[TagBinding]) -> Change | None:
        """What it takes to read these tags; None where that takes a new subscription. ValueError for a wrong tag."""
        known = {point.tag.id: (handle, point) for handle, point in self._points.items()}
        points, retuned, given = dict[int, Point](), list[int](), self._given
        for tag in tags:
            handle, before = known.get(tag.id, (-1, None))
            if before is not None and before.tag == tag:
                points[handle] = before
            elif before is not None and (before.tag.address, before.tag.datatype) == (tag.address, tag.datatype):
                points[handle] = Point.of(tag)
                retuned.append(handle)
            else:
                points[given] = Point.of(tag)
                given += 1
        if given > 2 * len(tags) + SPENT:
            return None
        return Change(points, given, tuple(self._points.keys() - points.keys()), tuple(retuned))

    async def apply(self, change: Change, session: Session, monitored: Monitored | Asked) -> dict[int, int]:
        """Monitor what the change says; returns the StatusCode of each new tag that cannot be. NotConnectedError."""
        fresh = sorted(change.points.keys() - self._points.keys())
        self._begin(change.points, change.given)
        self.absent = {handle: code for handle, code in self.absent.items() if handle in change.points}
        before = set(self.absent)
        retuned = {handle: self._parameters(handle) for handle in change.retuned if handle in monitored.ids}
        for handle, code in zip(retuned, await monitored.modify(retuned, self.at_once), strict=True):
            if Status.severity(code) == BAD:
                address = self._points[handle].tag.address
                message = f"the server does not change how it monitors {address} ({code:#010x}): connecting anew"
                raise NotConnectedError(message)
        await monitored.remove(change.gone, self.at_once)
        await self.bind(session, fresh, monitored.create)
        return {handle: code for handle, code in self.absent.items() if handle not in before}

    def missing(self, absent: Mapping[int, int], now: int, alive_ns: int, revision: int) -> Batch | None:
        """One reading, with the server's own StatusCode, for each tag that cannot be monitored: it is seen Bad."""
        if not absent:
            return None
        tags = np.array([self._points[handle].tag.id for handle in absent], dtype=np.int64)
        times = np.full(len(tags), now, dtype=np.int64)
        status, nothing = np.array(list(absent.values()), dtype=np.uint32), np.full(len(tags), np.nan)
        return Batch(tags, times, nothing, {}, status, now, alive_ns, revision)

    def _item(self, handle: int, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor.NodeId = node
        item.ItemToMonitor.AttributeId = AttributeIds.Value
        item.MonitoringMode = ua.MonitoringMode.Reporting
        item.RequestedParameters = self._parameters(handle)
        if item.RequestedParameters.Filter == ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValue):
            # What is the default need not be said, and not every server knows filters.
            item.RequestedParameters.Filter = None
        return item

    def _parameters(self, handle: int) -> ua.MonitoringParameters:
        mine, parameters = self._points[handle].options, ua.MonitoringParameters()
        wanted = mine.sampling_interval_ms
        parameters.ClientHandle = ua.IntegerId(handle)
        parameters.SamplingInterval = self._options.sampling_interval_ms if wanted is None else wanted
        parameters.QueueSize = ua.Counter(mine.queue_size or self._options.queue_size)
        parameters.DiscardOldest = True
        parameters.Filter = _filter(mine)
        return parameters


@dataclass(frozen=True, slots=True)
class Change:
    """From one set of tags to another on the same subscription."""

    points: dict[int, Point]
    """All tags by handle, in their order."""
    given: int
    gone: tuple[int, ...]
    """Handles that stand for nothing any more."""
    retuned: tuple[int, ...]
    """Handles whose node stays, but is monitored differently."""


def _filter(mine: TagOptions) -> ua.DataChangeFilter:
    """What the server is asked to leave out (IEC 62541-4, 7.22.2)."""
    wanted = ua.DataChangeFilter(Trigger=TRIGGERS[mine.trigger])
    if mine.deadband is not None:
        wanted.DeadbandType, wanted.DeadbandValue = ua.DeadbandType.Absolute, mine.deadband
    elif mine.deadband_percent is not None:
        wanted.DeadbandType, wanted.DeadbandValue = ua.DeadbandType.Percent, mine.deadband_percent
    return wanted
