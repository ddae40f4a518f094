"""An OPC UA server with a small plant to be browsed: folders, units, types of its own, a circle, many children."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from app.launcher.ports import Port
from tests.connectors.opcua_plant import string_node

MACHINES = "http://example.com/machines;v1"
OTHER = "urn:example:other"
CELSIUS = 4408652
"""CEL as UNECE packs it."""


@dataclass
class Machines:
    """The server and its nodes by name."""

    server: Server
    url: str
    nodes: dict[str, Node] = field(default_factory=dict)

    async def write(self, name: str, value: object) -> None:
        """Give a variable another value."""
        await self.nodes[name].write_value(value)


@asynccontextmanager
async def machines(
    port: int | None = None, names: Mapping[str, str] | None = None, *, other_first: bool = False
) -> AsyncIterator[Machines]:
    """The server, for as long as this context; `names` are other identifiers for its nodes, as after a download."""
    logging.getLogger("asyncua.server").setLevel(logging.ERROR)
    server = Server()
    await server.init()
    with Port() as held:
        port = port or held.number
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/machines")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    for uri in (OTHER, MACHINES) if other_first else (MACHINES, OTHER):
        await server.register_namespace(uri)
    made = Machines(server, f"opc.tcp://127.0.0.1:{port}/machines")
    await _fill(made, await server.get_namespace_index(MACHINES), names or {})
    await server.start()
    try:
        yield made
    finally:
        await server.stop()


async def _fill(made: Machines, index: int, names: Mapping[str, str]) -> None:
    def node(name: str) -> ua.NodeId:
        return string_node(names.get(name, name), index)

    objects = made.server.nodes.objects
    press = made.nodes["Press"] = await objects.add_folder(node("Press"), ua.QualifiedName("Press", index))
    unit = await press.add_object(node("Unit.1"), ua.QualifiedName("Unit.1", index))
    made.nodes["Unit.1"] = unit
    variables: dict[str, tuple[Any, ua.VariantType]] = {
        "Temp": (20.5, ua.VariantType.Double),
        "Count": (7, ua.VariantType.UInt16),
        "On": (True, ua.VariantType.Boolean),
        "Text": ("idle", ua.VariantType.String),
        "Curve": ([1.0, 2.0], ua.VariantType.Float),
    }
    for name, (value, variant) in variables.items():
        made.nodes[name] = await unit.add_variable(
            node(name), ua.QualifiedName(name, index), ua.Variant(value, variant)
        )
    await made.nodes["Temp"].write_attribute(
        AttributeIds.Description, ua.DataValue(ua.Variant(ua.LocalizedText("Oil")))
    )
    await made.nodes["Temp"].add_property(
        0, "EngineeringUnits", ua.EUInformation(UnitId=ua.Int32(CELSIUS), DisplayName=ua.LocalizedText("°C"))
    )
    await made.nodes["Count"].set_writable()
    parent = made.server.get_node(ObjectIds.Float)
    kind = await parent.add_data_type(node("Bar"), ua.QualifiedName("Bar", index))
    made.nodes["Pressure"] = await unit.add_variable(
        node("Pressure"), ua.QualifiedName("Pressure", index), 1.5, ua.VariantType.Float, kind.nodeid
    )
    await made.nodes["Pressure"].add_property(
        0,
        "EngineeringUnits",
        ua.EUInformation(
            NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
            UnitId=ua.Int32(int.from_bytes(b"BAR", "big")),
        ),
    )
    await unit.add_property(node("Serial"), ua.QualifiedName("Serial", index), "A-1")
    # A circle, as vendors' address spaces have.
    inner = await unit.add_object(node("Inner"), ua.QualifiedName("Inner", index))
    await inner.add_reference(press, ObjectIds.Organizes)
    many = made.nodes["Many"] = await objects.add_folder(node("Many"), ua.QualifiedName("Many", index))
    for number in range(30):
        await many.add_variable(node(f"M{number:02}"), ua.QualifiedName(f"M{number:02}", index), float(number))


async def limit(made: Machines, per_browse: int, per_read: int) -> None:
    """Let the server tell these operation limits."""
    limits = ObjectIds
    for identifier, most in (
        (limits.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse, per_browse),
        (limits.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead, per_read),
    ):
        await made.server.get_node(identifier).write_value(ua.Variant(most, ua.VariantType.UInt32))
