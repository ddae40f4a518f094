"""Values are written and methods called in the server's own types, exactly or not at all, on two real servers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.methods import uamethod

from connectors import ConnectionConfig, NotConnectedError, RefusedError
from connectors._commands import Calling, Writing
from connectors.opcua import plant_caller, plant_writer
from connectors.opcua.command import OpcUaCommands
from connectors.opcua.exact import variant
from tests.connectors.opcua_open62541 import open62541
from tests.connectors.opcua_open62541_types import URI as OTHER_URI
from tests.connectors.opcua_plant import URI, Plant, opcua_plant, string_node
from tests.connectors.opcua_values import KINDS, node_name

pytestmark = pytest.mark.asyncio(loop_scope="session")
V = ua.VariantType
GUID = "72962b91-fa75-4ae6-8d28-b404dc7daf63"
WRITABLE: dict[str, tuple[V, Any, Any]] = {
    "Bit": (V.Boolean, False, True),
    "Tiny": (V.SByte, 0, -128),
    "Word": (V.UInt16, 0, 65535),
    "Whole": (V.Int32, 0, -(2**31)),
    "Wide": (V.Int64, 0, 2**53 + 1),
    "Widest": (V.UInt64, 0, 2**64 - 1),
    "Single": (V.Float, 0.0, 0.1),
    "Real": (V.Double, 0.0, 0.1),
    "Words": (V.String, "", "液位"),
    "Raw": (V.ByteString, b"", b"\x00\xff"),
    "Moment": (V.DateTime, datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000_001_000),
    "Id": (V.Guid, uuid.UUID(int=0), GUID),
    "Label": (V.LocalizedText, ua.LocalizedText(""), "液位"),
    "Row": (V.Int16, [0], [1, -2, 3]),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """A server with nodes that may be written, one that may not, and a method."""
    async with opcua_plant(tmp_path_factory.mktemp("target"), [ua.SecurityPolicyType.NoSecurity]) as plant:
        objects, index = plant.server.nodes.objects, await plant.server.get_namespace_index(URI)
        for name, (kind, first, _) in WRITABLE.items():
            node = await objects.add_variable(string_node(name, index), name, ua.Variant(first, kind))
            await node.set_writable()
            plant.nodes[name] = node
        either = await objects.add_variable(string_node("Either", index), "Either", ua.Variant(0, V.Int32))
        await either.write_value_rank(ua.ValueRank.Any)
        await either.set_writable()
        plant.nodes["Either"] = either

        @uamethod
        def scale(_parent: object, value: int, factor: float) -> float:
            return value * factor

        await objects.add_method(string_node("Scale", index), "Scale", scale, [V.UInt16, V.Double], [V.Double])
        yield plant


def config(url: str, data_dir: str) -> ConnectionConfig:
    """Of a connection to this server."""
    return ConnectionConfig("plant", {"url": url, "security": "None", "timeout_s": 5}, (), 1, data_dir)


@pytest_asyncio.fixture(loop_scope="session")
async def commands(target: Plant, data_dir: str) -> AsyncIterator[OpcUaCommands]:
    """Connected to it."""
    made = OpcUaCommands(config(target.url, data_dir))
    await made.connect()
    yield made
    await made.close()


@pytest.mark.parametrize("name", WRITABLE)
async def test_written_exactly(target: Plant, commands: OpcUaCommands, name: str) -> None:
    """A value arrives in the node's own type, as it was given."""
    kind, _, value = WRITABLE[name]
    await commands.write(f"nsu={URI};s={name}", value)
    held = (await target.nodes[name].read_data_value()).Value
    assert held.VariantType == kind
    wanted = variant(int(kind), value, is_array=isinstance(value, list)).Value
    assert held.Value == wanted


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (V.Boolean, 1), (V.SByte, 128), (V.Byte, -1), (V.Int16, 2**15), (V.UInt32, 2**32), (V.Int64, 2**63),
        (V.UInt64, -1), (V.Int32, 1.5), (V.Int32, True), (V.Int32, "1"), (V.Float, 16_777_217), (V.Float, 1e39),
        (V.Float, 0.123456789), (V.Double, 2**53 + 1), (V.Double, float("nan")), (V.Float, float("inf")),
        (V.String, 5), (V.ByteString, "x"), (V.Guid, "no guid"), (V.DateTime, 1), (V.DateTime, 2**80),
        (V.String, "x" * 1_048_577), (V.ExtensionObject, {}), (V.NodeId, "i=85"),
    ],
)  # fmt: skip
async def test_nothing_is_rounded(kind: V, value: object) -> None:
    """What the type does not hold exactly is refused, and why is said."""
    with pytest.raises(ValueError, match=r"is no|not written"):
        variant(int(kind), value, is_array=False)


@pytest.mark.parametrize("value", [5, "text", [[1, 2], [3, 4]], np.zeros((2, 2))])
async def test_no_array(value: object) -> None:
    """What is no array of one dimension is refused where one is wanted."""
    with pytest.raises(ValueError, match="is no"):
        variant(6, value, is_array=True)


async def test_one_or_many(target: Plant, commands: OpcUaCommands) -> None:
    """A node that leaves open whether it is an array takes what it is given."""
    node = target.nodes["Either"]
    for value in (7, [1, 2]):
        await commands.write(f"nsu={URI};s=Either", value)
        assert await node.read_value() == value


async def test_numbers_that_are_kept() -> None:
    """A whole number is a Float or an integer where nothing is lost; numpy's numbers count as numbers."""
    assert variant(10, 16_777_216, is_array=False).Value == 16_777_216.0
    assert variant(10, 0.1, is_array=False).Value == float(np.float32(0.1))
    assert variant(6, 3.0, is_array=False).Value == 3
    assert variant(6, np.int64(7), is_array=False).Value == 7
    assert variant(6, np.array([1, 2]), is_array=True).Value == [1, 2]
    assert variant(9, 2**64 - 1, is_array=False).Value == 2**64 - 1


async def test_refused_by_the_server(target: Plant, commands: OpcUaCommands) -> None:
    """A node that may not be written, or is not there, is refused by name, and nothing has changed."""
    await target.write("Level", 2.5)
    with pytest.raises(RefusedError, match="does not let us write"):
        await commands.write(f"nsu={URI};s=Level", 3.5)
    assert await target.nodes["Level"].read_value() == 2.5
    with pytest.raises(RefusedError, match="BadNodeIdUnknown"):
        await commands.write(f"nsu={URI};s=Nobody", 1)
    with pytest.raises(ValueError, match="no array"):
        await commands.write(f"nsu={URI};s=Row", 1)


async def test_call(commands: OpcUaCommands) -> None:
    """A method takes arguments in its own types and returns what it returns; wrong ones never leave us."""
    of, method = "i=85", f"nsu={URI};s=Scale"
    assert await commands.call(of, method, [40_000, 0.5]) == (20_000.0,)
    with pytest.raises(ValueError, match="0 to 65535"):
        await commands.call(of, method, [70_000, 0.5])
    with pytest.raises(ValueError, match="2 arguments"):
        await commands.call(of, method, [1])
    with pytest.raises(RefusedError, match="Bad"):
        await commands.call(of, f"nsu={URI};s=Level", [])


async def test_another_make_of_server(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> None:
    """The same against open62541: what we write is what a further read finds, and the capability is what it says."""
    async with open62541(tmp_path_factory.mktemp("other"), "tests.connectors.opcua_open62541_types") as other:
        writer, caller = (make(config(other.url, data_dir)) for make in (plant_writer, plant_caller))
        assert isinstance(writer, Writing)
        assert isinstance(caller, Calling)
        await writer.connect()
        try:
            for kind in KINDS:
                if kind.name in {"Int64", "UInt64", "Float", "String", "Boolean"}:
                    await writer.write(f"nsu={OTHER_URI};s={node_name(kind.name, ())}", kind.values[1])
            with pytest.raises(ValueError, match="is no Int16"):
                await writer.write(f"nsu={OTHER_URI};s=Int160", 2**15)
            with pytest.raises(ValueError, match="none of"):
                await writer.write(f"nsu={OTHER_URI};s=Status", 77)
            await writer.write(f"nsu={OTHER_URI};s=Status", 3)
        finally:
            await writer.close()


async def test_not_connected(target: Plant, data_dir: str) -> None:
    """Before a connection, and after it, nothing is sent."""
    commands = OpcUaCommands(config(target.url, data_dir))
    with pytest.raises(NotConnectedError):
        await commands.write(f"nsu={URI};s=Bit", value=True)
    await commands.close()
