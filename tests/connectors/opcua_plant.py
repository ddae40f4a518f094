"""A real OPC UA server for the tests: a few nodes, secured and unsecured endpoints, one user."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server

from app.launcher.ports import Port
from connectors.opcua.own import Own

URI = "urn:headrace:tests"
PASSWORD = "correct horse"  # noqa: S105 - of a server on 127.0.0.1 that lives for one test run
NODES: dict[str, tuple[Any, ua.VariantType]] = {
    "Level": (1.0, ua.VariantType.Double),
    "Count": (0, ua.VariantType.Int32),
    "Running": (False, ua.VariantType.Boolean),
    "State": ("IDLE", ua.VariantType.String),
    "Serial": (0, ua.VariantType.UInt64),
    "When": (datetime(2026, 1, 1, tzinfo=UTC), ua.VariantType.DateTime),
    "Curve": ([1.0, 2.0], ua.VariantType.Double),
    "Small": (0.5, ua.VariantType.Float),
}


def string_node(name: str, index: int) -> ua.NodeId:
    """A NodeId with a string identifier."""
    return ua.NodeId(ua.String(name), ua.Int16(index))


def opc_time(moment: datetime) -> ua.DateTime:
    """A moment as asyncua's types want it."""
    return cast("ua.DateTime", moment)


@dataclass
class Users:
    """`operator` with the right password; then anyone, or only who shows one of these certificates."""

    certificates: set[bytes] | None = None

    def get_user(
        self, _server: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        """None refuses."""
        known = self.certificates is None or certificate in self.certificates
        if username is not None:
            known = username == "operator" and password == PASSWORD
        return User(role=UserRole.User) if known else None


@dataclass
class Plant:
    """The server, its address and its nodes."""

    server: Server
    host: str
    port: int
    certificate: Path
    nodes: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return f"opc.tcp://{self.host}:{self.port}/tests"

    async def write(self, name: str, value: object, status: int = 0, moment: datetime | None = None) -> None:
        """Give a node a new value."""
        kind = NODES[name][1]
        variant = ua.Variant(value, kind) if value is not None else ua.Variant(None, ua.VariantType.Null)
        data = ua.DataValue(variant, ua.StatusCode(ua.UInt32(status)), opc_time(moment or datetime.now(UTC)))
        await self.server.write_attribute_value(self.nodes[name].nodeid, data)

    def subscriptions(self) -> dict[int, Any]:
        """The subscriptions the server holds now."""
        return self.server.iserver.subscription_service.subscriptions

    def channels(self) -> list[Any]:
        """The secure channels the server has now."""
        clients = self.server.bserver.clients if self.server.bserver is not None else []
        return [one.processor._connection for one in clients if one.processor]  # noqa: SLF001 - looking into the peer

    def unacknowledged(self) -> set[int]:
        """Sequence numbers of notifications of the newest subscription that its client has not acknowledged."""
        newest = max(self.subscriptions().items())[1]
        return set(newest._not_acknowledged_results)  # noqa: SLF001 - looking into the peer


@asynccontextmanager
async def opcua_plant(
    folder: Path,
    policies: Sequence[ua.SecurityPolicyType],
    users: Users | None = None,
    tokens: Sequence[type] = (ua.AnonymousIdentityToken, ua.UserNameIdentityToken),
    inner: InternalServer | None = None,
    *,
    conditions: bool = False,
) -> AsyncIterator[Plant]:
    """A server with these endpoints, for as long as this context.

    `inner`: what it is made of, with its own users. `conditions`: it tells their states when asked.
    """
    logging.getLogger("asyncua.server").setLevel(logging.ERROR)
    mine = Own(folder, "urn:headrace:tests:server", "server").use()
    server = Server(inner, user_manager=users or Users())  # type: ignore[arg-type]
    # 1 is the severity of the events that begin and end the telling.
    server.iserver.bind_condition_methods = int(conditions)
    await server.init()
    with Port() as held:
        port = held.number
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/tests")
    await server.set_application_uri(mine.application_uri)
    await server.load_certificate(mine.certificate)
    await server.load_private_key(mine.key)
    server.set_security_policy(list(policies))
    server.set_identity_tokens(list(tokens))
    index = await server.register_namespace(URI)
    plant = Plant(server, "127.0.0.1", port, mine.certificate)
    for name, (value, kind) in NODES.items():
        plant.nodes[name] = await server.nodes.objects.add_variable(
            string_node(name, index), name, ua.Variant(value, kind)
        )
    await plant.nodes["Level"].add_property(
        index, "EngineeringUnits", ua.EUInformation(DisplayName=ua.LocalizedText("m"))
    )
    await server.start()
    try:
        yield plant
    finally:
        await server.stop()
