"""An asyncua server with a node per built-in type and shape, and with data types of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from asyncua.ua.object_ids import ObjectIds

from tests.connectors.opcua_plant import URI, Plant, opcua_plant, string_node
from tests.connectors.opcua_values import KINDS, MOMENT, SHAPES, Kind, nested, node_name

V = ua.VariantType
EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
UNKNOWN = 54321
"""Of a type that the server does not describe."""


def converted(kind: str, value: Any) -> Any:  # noqa: ANN401 - a value of any type
    """A value of `opcua_values` as asyncua takes it."""
    if kind == "DateTime":
        # asyncua sends everything from the end of 9999 on as the greatest DateTime.
        return EPOCH + timedelta(microseconds=value // 10) if value < 2**62 else datetime.max.replace(tzinfo=UTC)
    makers: dict[str, Any] = {
        "XmlElement": ua.XmlElement,
        "NodeId": ua.NodeId.from_string,
        "ExpandedNodeId": lambda text: ua.ExpandedNodeId(*_parts(text)),
        "StatusCode": lambda code: ua.StatusCode(ua.UInt32(code)),
        "QualifiedName": lambda pair: ua.QualifiedName(pair[1], pair[0]),
        "LocalizedText": lambda pair: ua.LocalizedText(pair[1], pair[0]),
    }
    return makers[kind](value) if kind in makers else value


def _parts(text: str) -> tuple[Any, Any, Any]:
    node = ua.NodeId.from_string(text)
    return node.Identifier, node.NamespaceIndex, node.NodeIdType


def variant(kind: Kind, shape: tuple[int, ...]) -> ua.Variant:
    """A Variant of this type and shape."""
    items = [converted(kind.name, one) for one in kind.sent(shape)]
    if not shape:
        return ua.Variant(items[0], getattr(V, kind.name))
    if len(shape) == 1:
        return ua.Variant(items, getattr(V, kind.name), is_array=True)
    dimensions = [ua.Int32(one) for one in shape]
    return ua.Variant(nested(items, shape), getattr(V, kind.name), Dimensions=dimensions, is_array=True)


@asynccontextmanager
async def typed_plant(folder: Path) -> AsyncIterator[Plant]:
    """The server, with every node below Objects."""
    async with opcua_plant(folder, [ua.SecurityPolicyType.NoSecurity]) as plant:
        index = await plant.server.get_namespace_index(URI)
        for kind in KINDS:
            for shape in SHAPES:
                await add(plant, node_name(kind.name, shape), variant(kind, shape))
        await _own_types(plant, index)
        yield plant


async def add(plant: Plant, name: str, value: ua.Variant, datatype: ua.NodeId | None = None) -> None:
    """One variable."""
    index = await plant.server.get_namespace_index(URI)
    node = await plant.server.nodes.objects.add_variable(string_node(name, index), name, value, datatype=datatype)
    plant.nodes[name] = node


async def _own_types(plant: Plant, index: int) -> None:
    """Types that only this server knows: nested, with an optional field, a union, an enumeration."""
    server = plant.server
    mode = await new_enum(server, index, "Mode", ["Idle", "Running", "停止"])
    point, _ = await new_struct(server, index, "Point", [
        new_struct_field("X", V.Double),
        new_struct_field("Serial", V.UInt64),
        new_struct_field("Name", V.LocalizedText),
    ])
    shape, _ = await new_struct(server, index, "Shape", [
        new_struct_field("Label", V.String), new_struct_field("Number", V.Int64),
    ], is_union=True)
    result, _ = await new_struct(server, index, "Result", [
        new_struct_field("Mode", mode),
        new_struct_field("When", V.DateTime),
        new_struct_field("Centre", point),
        new_struct_field("Path", point, array=True),
        new_struct_field("Range", ua.NodeId(ua.Int32(ObjectIds.Range))),
        new_struct_field("Curve", V.Float, array=True),
    ])
    note, _ = await new_struct(server, index, "Note", [
        new_struct_field("Text", V.String), new_struct_field("By", V.String, optional=True),
        new_struct_field("Part", shape, optional=True),
    ])
    made = await server.load_data_type_definitions()
    own = {name: made[name] for name in ("Mode", "Point", "Shape", "Result", "Note")}
    centre = own["Point"](X=0.1, Serial=2**63 + 1, Name=ua.LocalizedText("阀", "zh-CN"))
    whole = own["Result"](
        Mode=own["Mode"](2), When=MOMENT, Centre=centre, Path=[centre, centre], Range=ua.Range(Low=1.0, High=2.0),
        Curve=[0.5, 1.5],
    )
    union = own["Shape"]()
    union.Number = 2**62 + 1
    await add(plant, "Result", ua.Variant(whole, V.ExtensionObject), result.nodeid)
    await add(plant, "Results", ua.Variant([whole, whole], V.ExtensionObject, is_array=True), result.nodeid)
    await add(plant, "Note", ua.Variant(own["Note"](Text="见", By=None, Part=union), V.ExtensionObject), note.nodeid)
    await add(plant, "Mode", ua.Variant(1, V.Int32), mode.nodeid)
    await add(plant, "Range", ua.Variant(ua.Range(Low=-1.0, High=1.0), V.ExtensionObject))
    nobodys = ua.NodeId(ua.Int32(UNKNOWN), ua.Int16(index))
    stranger = ua.ExtensionObject(TypeId=nobodys, Body=ua.ByteString(b"\x01\x02\x03"))
    structure, anything = (ua.NodeId(ua.Int32(one)) for one in (ObjectIds.Structure, ObjectIds.BaseDataType))
    await add(plant, "Stranger", ua.Variant(stranger, V.ExtensionObject), structure)
    mixed = [ua.Variant(7, V.Int16), ua.Variant("七", V.String), ua.Variant([1.5, 2.5], V.Double, is_array=True)]
    await add(plant, "Mixed", ua.Variant(mixed, V.Variant, is_array=True), anything)
