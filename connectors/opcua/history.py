"""The past of an OPC UA connection's tags (IEC 62541-11): raw values, read in pages a server can bear."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors import NO_TIME, Batch, ConnectorError, NotConnectedError, Refusal, Status
from connectors.opcua.address import place
from connectors.opcua.binding import resolve
from connectors.opcua.border import TOO_MUCH, border
from connectors.opcua.clock import clock_offset
from connectors.opcua.columns import Table, joined
from connectors.opcua.decode import TYPE_BITS, Changes, UndecodableError
from connectors.opcua.pages import Result, results
from connectors.opcua.space import value_of
from connectors.opcua.variant import STRUCTURE

if TYPE_CHECKING:
    from connectors import ConnectionConfig
    from connectors.opcua.session import Session
    from connectors.opcua.structures import Structures

MOST_NODES: Final = ua.NodeId(
    ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData)
)
MOST_READ: Final = ua.NodeId(ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead))
NODES_AT_ONCE: Final = 50
READS_AT_ONCE: Final = 500
PAGE: Final = 10_000
"""Values of one answer, over all its nodes."""
FEWEST: Final = 100
"""Values of one node that are asked for at least."""
PATIENCE_S: Final = 30.0
"""A history may lie on a disk: it is waited for longer than a value."""
MOST_STALLS: Final = 10
"""Pages of one node in a row that bring nothing newer; then it is believed to go round in circles."""
BAD: Final = 2
HISTORY_READ: Final = 0x04
"""Bit of an AccessLevel (IEC 62541-3, 8.57)."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_POINTS: Final = int(StatusCodes.BadNoContinuationPoints)
POINT_INVALID: Final = int(StatusCodes.BadContinuationPointInvalid)
UNSUPPORTED: Final = frozenset(
    int(getattr(StatusCodes, name))
    for name in (
        "BadServiceUnsupported",
        "BadNotImplemented",
        "BadHistoryOperationUnsupported",
        "BadHistoryOperationInvalid",
        "BadUserAccessDenied",
    )
)
"""Answers to the whole request that mean: no past for us, of any node."""
NOT_RECORDED: Final = "the server records no history of it now (Historizing)"
ATTRIBUTES: Final = (AttributeIds.UserAccessLevel, AttributeIds.Historizing)


@dataclass(slots=True)
class _Ask:
    """One node that is still asked for."""

    index: int
    node: ua.NodeId
    start: int
    """ns, the server's time."""
    point: bytes = b""
    newest: int = -1
    """ns: the newest source time it has brought."""
    stalls: int = 0
    put_off: int = 0
    """How often the server had no continuation point left for it."""


class OpcUaPast:
    """See `connectors.Past`.

    A node is read to its end before others are begun, so that few continuation points are open at the server. A
    server that cuts a page off and gives none (which IEC 62541-11, 6.5.3.2, does not allow) is asked again from the
    last value's time on.
    """

    def __init__(self, session: Session, config: ConnectionConfig, structures: Structures) -> None:
        """Nothing is asked yet. `structures`: those the server has described."""
        self._session, self._config, self._structures = session, config, structures
        self._table = Table(dict(enumerate(config.tags)), len(config.tags))
        self._addresses = [place(tag.address) for tag in config.tags]
        self._since = self._until = self._offset = 0
        """ns, the server's time; its clock minus ours."""
        self._nodes: dict[int, ua.NodeId] | None = None
        """By the index of their tags, those that have a past."""
        self._silent: set[int] = set()
        """Indices of those that the server does not record now, and that have brought nothing so far."""
        self._asks: deque[_Ask] = deque()
        self._at_once, self._page = NODES_AT_ONCE, PAGE
        self._lacking: dict[int, str] = {}

    @property
    def lacking(self) -> Mapping[int, str]:
        """See `connectors.Past`."""
        return {**dict.fromkeys((self._config.tags[index].id for index in self._silent), NOT_RECORDED), **self._lacking}

    async def begin(self, since: int, until: int) -> None:
        """See `connectors.Past`."""
        await self.close()
        if self._nodes is None:
            self._nodes = await self._prepare()
        self._since, self._until = since + self._offset, until + self._offset
        self._asks = deque(
            _Ask(index, node, self._since)
            for index, node in self._nodes.items()
            if self._config.tags[index].id not in self._lacking
        )

    async def read(self) -> Batch | None:
        """See `connectors.Past`."""
        asks = self._asks
        while asks:
            some = self._next(asks)
            parts: list[Changes] = []
            broken: list[Refusal] = []
            most = self._most(len(some))
            found = await self._ask(some, broken)
            if found is None:
                asks.extendleft(reversed(some))
                continue
            for ask, result in zip(some, found, strict=True):
                parts += self._taken(ask, result, asks, most)
            return await self._batch(parts, broken)
        return None

    async def close(self) -> None:
        """See `connectors.Past`: releases the continuation points that are open (IEC 62541-4, 5.11.3.2)."""
        asks, self._asks = self._asks, deque()
        open_ones = [ask for ask in asks if ask.point]
        for start in range(0, len(open_ones), self._at_once):
            request = self._request(open_ones[start : start + self._at_once], 0)
            request.Parameters.ReleaseContinuationPoints = True
            with suppress(ConnectorError):
                async with border("leaving the history"):
                    await self._session.request(request)

    async def _prepare(self) -> dict[int, ua.NodeId]:
        """Nodes that are there and have a past that we may read, by the index of their tags; others are `lacking`."""
        self._offset = await clock_offset(self._session) or 0
        nodes_at_once, reads_at_once = [
            value_of(one) if isinstance(value_of(one), int) else 0
            for one in await self._session.read_values([MOST_NODES, MOST_READ])
        ]
        self._at_once = min(nodes_at_once or NODES_AT_ONCE, NODES_AT_ONCE)
        nodes = await resolve(self._session, self._addresses)
        there = {index: node for index, node in enumerate(nodes) if isinstance(node, ua.NodeId)}
        for index, node in enumerate(nodes):
            if isinstance(node, int):
                self._lack(index, _said(node))
        said = await self._access(list(there.values()), min(reads_at_once or READS_AT_ONCE, READS_AT_ONCE))
        for index, (access, historizing) in zip(list(there), said, strict=True):
            if access.StatusCode is not None and access.StatusCode.value == Status.BAD_NODE_ID_UNKNOWN:
                self._lack(index, _said(Status.BAD_NODE_ID_UNKNOWN))
                del there[index]
            elif isinstance(value_of(access), int) and not value_of(access) & HISTORY_READ:
                self._lack(index, "the server lets us read no history of it (UserAccessLevel)")
                del there[index]
            elif value_of(historizing) is False:
                self._silent.add(index)
        return there

    async def _access(self, nodes: Sequence[ua.NodeId], at_once: int) -> list[tuple[ua.DataValue, ua.DataValue]]:
        """Per node its access level and whether it is historizing, as far as the server says."""
        found: list[list[ua.DataValue]] = []
        for attribute in ATTRIBUTES:
            column: list[ua.DataValue] = []
            for start in range(0, len(nodes), at_once):
                column += await self._session.read_values(nodes[start : start + at_once], attribute)
            found.append(column)
        return list(zip(*found, strict=True))

    def _most(self, nodes: int) -> int:
        """How many values of each are asked for."""
        return max(FEWEST, self._page // nodes)

    def _next(self, asks: deque[_Ask]) -> list[_Ask]:
        """Take out those of the next request: they begin at the same time, since a request has one."""
        first = asks[0]
        some: list[_Ask] = []
        most = 1 if first.put_off else self._at_once
        while asks and len(some) < most and asks[0].start == first.start and bool(asks[0].point) == bool(first.point):
            some.append(asks.popleft())
        return some

    async def _ask(self, some: Sequence[_Ask], broken: list[Refusal]) -> list[Result] | None:
        """One request; None where it was too much, and less is asked for from now on.

        Where the server reads no history at all, that is the result of each.
        """

        def on_broken(why: str, values: int) -> None:
            broken.append(Refusal(self._config.name, "undecodable", why, readings=values))

        try:
            async with border("reading the history"):
                answer = await self._session.request(self._request(some, self._most(len(some))), timeout_s=PATIENCE_S)
                found = results(answer, on_broken)
        except UndecodableError as error:
            message = f"the server sent what is no history: {error}"
            raise NotConnectedError(message) from error
        except ConnectorError as error:
            code = error.__cause__.code if isinstance(error.__cause__, UaStatusCodeError) else 0
            if code in TOO_MUCH and (len(some) > 1 or self._page > FEWEST):
                self._at_once, self._page = max(1, len(some) // 2), max(FEWEST, self._page // 2)
                return None
            if code in UNSUPPORTED:
                return [Result(code, b"", None) for _ in some]
            raise
        if len(found) != len(some):
            message = f"the server sent {len(found)} histories of {len(some)}"
            raise NotConnectedError(message)
        return found

    def _request(self, some: Sequence[_Ask], most: int) -> ua.HistoryReadRequest:
        details = ua.ReadRawModifiedDetails()
        details.IsReadModified = False
        details.StartTime = _moment(some[0].start)
        details.EndTime = _moment(self._until + 1000)
        details.NumValuesPerNode = ua.Counter(most)
        details.ReturnBounds = False
        request = ua.HistoryReadRequest()
        request.Parameters.HistoryReadDetails = details
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
        request.Parameters.ReleaseContinuationPoints = False
        request.Parameters.NodesToRead = [
            ua.HistoryReadValueId(NodeId=ask.node, ContinuationPoint=ask.point or None) for ask in some
        ]
        return request

    def _taken(self, ask: _Ask, result: Result, asks: deque[_Ask], most: int) -> Iterator[Changes]:
        """The values of one page, and the node asked for again where there is more."""
        if Status.severity(result.status) == BAD:
            self._failed(ask, result.status, asks)
            return
        values = result.values
        count = 0 if values is None else len(values.source_time)
        newest = int(values.source_time.max()) if values is not None and count else NO_TIME
        if newest <= ask.newest:
            ask.stalls += 1
        else:
            ask.stalls, ask.newest = 0, newest
        ask.point = result.point
        if ask.stalls >= MOST_STALLS or (not result.point and count >= most and newest == ask.start):
            self._lack(ask.index, "the server's history goes on without getting any further")
        elif result.point:
            asks.appendleft(ask)
        elif count >= most and ask.newest < self._until:
            asks.appendleft(replace(ask, start=ask.newest))
        if values is not None and count:
            self._silent.discard(ask.index)
            yield from self._inside(ask.index, values)

    def _failed(self, ask: _Ask, status: int, asks: deque[_Ask]) -> None:
        """What cannot be read now is put off, the rest is lacking."""
        if status == NO_POINTS and ask.put_off < MOST_STALLS:
            ask.put_off += 1
            asks.append(ask)
        elif status == POINT_INVALID and ask.put_off < MOST_STALLS:
            again = replace(ask, start=max(ask.start, ask.newest), point=b"", put_off=ask.put_off + 1)
            asks.append(again)
        else:
            self._lack(ask.index, _said(status))

    def _inside(self, index: int, values: Changes) -> Iterator[Changes]:
        inside = (values.source_time >= self._since) & (values.source_time <= self._until)
        rows = np.flatnonzero(inside)
        if not len(rows):
            return
        others = {new: values.others[old] for new, old in enumerate(rows.tolist()) if old in values.others}
        handles = np.full(len(rows), index, dtype=np.uint32)
        columns = (values.values[rows], values.status[rows], values.source_time[rows], values.kinds[rows])
        yield Changes(handles, *columns, others)

    async def _batch(self, parts: Sequence[Changes], broken: Sequence[Refusal]) -> Batch:
        for part in parts:
            await self._structures.open(part.others, np.flatnonzero((part.kinds & TYPE_BITS) >= STRUCTURE).tolist())
        nothing = np.zeros(0, dtype=np.int64)
        columns = self._table.columns(
            joined(parts)
            if parts
            else Changes(
                nothing.astype(np.uint32), np.zeros(0), nothing.astype(np.uint32), nothing, nothing.astype(np.uint8), {}
            )
        )
        return Batch(
            columns.tags,
            columns.source_time,
            columns.values,
            columns.others,
            columns.status,
            time.time_ns(),
            0,
            self._config.revision,
            columns.refused + tuple(broken),
        )

    def _lack(self, index: int, why: str) -> None:
        self._lacking[self._config.tags[index].id] = why


def _said(status: int) -> str:
    name, said = get_name_and_doc(status)
    return f"the server answers {name}: {said.rstrip('.')}"


def _moment(ns: int) -> datetime:
    """A time as asyncua takes it, to the microsecond below."""
    return EPOCH + timedelta(microseconds=ns // 1000)
