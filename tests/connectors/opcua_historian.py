"""A real OPC UA server that keeps a past: asyncua's history service over values the test has written into it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from asyncua import ua
from asyncua.server.history import HistoryDict, HistoryManager
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from app.launcher.ports import Port
from tests.connectors.opcua_plant import opc_time, string_node

URI = "urn:headrace:tests:historian"
BEGIN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MAX_NODES = ua.NodeId(ua.Int32(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData))


class History(HistoryManager):
    """Asyncua's own, which notes what it is asked, and lets continuation points be released as the standard says."""

    def __init__(self, iserver: Any, page: int) -> None:  # noqa: ANN401 - asyncua's server
        """`page`: values of one node in one answer, at most."""
        super().__init__(iserver)
        self.asked: list[ua.HistoryReadParameters] = []
        self.refuses = 0
        """StatusCode that every node is answered with; 0: none."""
        self.circles = False
        """Whether every page says that there is more, and begins again."""
        self.generous = False
        """Whether it gives an hour more than was asked for, at both ends."""
        self.set_storage(HistoryDict(page))

    async def read_history(self, params: ua.HistoryReadParameters) -> list[ua.HistoryReadResult]:
        """See `HistoryManager`."""
        self.asked.append(params)
        if self.refuses:
            return [ua.HistoryReadResult(StatusCode=ua.StatusCode(ua.UInt32(self.refuses))) for _ in params.NodesToRead]
        if params.ReleaseContinuationPoints:
            return [ua.HistoryReadResult() for _ in params.NodesToRead]
        if self.generous:
            details = cast("ua.ReadRawModifiedDetails", params.HistoryReadDetails)
            details.StartTime -= timedelta(hours=1)
            details.EndTime += timedelta(hours=1)
        found = await super().read_history(params)
        if self.circles:
            for one in found:
                one.ContinuationPoint = ua.ua_binary.Primitives.DateTime.pack(BEGIN)
        return found

    def open_points(self) -> int:
        """How many continuation points were given back to be released."""
        released = [one for one in self.asked if one.ReleaseContinuationPoints]
        return sum(bool(node.ContinuationPoint) for one in released for node in one.NodesToRead)


@dataclass
class Historian:
    """The server and what it keeps."""

    server: Server
    history: History
    port: int
    index: int
    nodes: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return f"opc.tcp://127.0.0.1:{self.port}/tests"

    async def add(self, name: str, kind: ua.VariantType, initial: object, *, kept: bool = True) -> None:
        """A variable; `kept`: its past may be read."""
        node = await self.server.nodes.objects.add_variable(
            string_node(name, self.index), name, ua.Variant(initial, kind)
        )
        self.nodes[name] = node
        if kept:
            await self.server.historize_node_data_change(node, period=timedelta(days=36_500))

    async def remember(self, name: str, values: list[object], kind: ua.VariantType, step_ms: int = 1000) -> None:
        """Values one after the other from `BEGIN` on; None has a Bad status and no value."""
        for number, value in enumerate(values):
            at = BEGIN + timedelta(milliseconds=number * step_ms)
            variant = ua.Variant(None, ua.VariantType.Null) if value is None else ua.Variant(value, kind)
            status = ua.StatusCode(ua.UInt32(0x808C0000 if value is None else 0))
            data = ua.DataValue(variant, status, opc_time(at), opc_time(at))
            await self.history.storage.save_node_value(self.nodes[name].nodeid, data)

    async def most_nodes(self, number: int) -> None:
        """Tell how many nodes one request may name; 0 for no limit."""
        await self.server.get_node(MAX_NODES).write_value(ua.Variant(number, ua.VariantType.UInt32))


@asynccontextmanager
async def historian(page: int = 10_000) -> AsyncIterator[Historian]:
    """`page`: values of one node in one answer, at most."""
    logging.getLogger("asyncua.server").setLevel(logging.ERROR)
    server = Server()
    await server.init()
    with Port() as held:
        port = held.number
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/tests")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    history = server.iserver.history_manager = History(server.iserver, page)
    index = await server.register_namespace(URI)
    await server.start()
    try:
        yield Historian(server, history, port, index)
    finally:
        await server.stop()


def ns(moment: datetime) -> int:
    """A moment as ns since 1970 UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
