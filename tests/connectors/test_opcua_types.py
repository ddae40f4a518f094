"""Every built-in type, arrays, matrices, structures and enumerations, from two real servers of different makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_to_binary

from connectors import Batch, ConnectionConfig, Refusal, TagBinding
from connectors.opcua import browse, look
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_open62541 import open62541
from tests.connectors.opcua_open62541_types import MISSING
from tests.connectors.opcua_open62541_types import URI as OTHER_URI
from tests.connectors.opcua_plant import URI, Plant
from tests.connectors.opcua_typed import UNKNOWN, add, typed_plant
from tests.connectors.opcua_values import KINDS, MOMENT_NS, SHAPES, TEXT, node_name

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 20.0


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    uri: str

    def tag(self, number: int, name: str, datatype: str = "any") -> TagBinding:
        """A tag on one of its nodes."""
        return TagBinding(number, f"nsu={self.uri};s={name}", datatype)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ours(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """The asyncua server."""
    async with typed_plant(tmp_path_factory.mktemp("typed")) as plant:
        yield plant


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asyncua_server(ours: Plant) -> Server:
    """How to reach it."""
    return Server(ours.url, URI)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The open62541 server."""
    folder = tmp_path_factory.mktemp("open62541")
    async with open62541(folder, "tests.connectors.opcua_open62541_types") as running:
        yield Server(running.url, OTHER_URI)


@pytest.fixture(params=["asyncua_server", "other"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both, one after the other."""
    found: Server = request.getfixturevalue(request.param)
    return found


def source_of(server: Server, tags: Sequence[TagBinding], data_dir: str) -> OpcUaSource:
    """A source that has not connected yet."""
    options = {"url": server.url, "security": "None", "publishing_interval_ms": 20, "timeout_s": 5}
    return OpcUaSource(ConnectionConfig("plant", options, tuple(tags), 1, data_dir))


async def first_of(source: OpcUaSource, tags: Sequence[TagBinding]) -> tuple[dict[int, object], list[Refusal]]:
    """The first value of each tag, and what was refused."""
    found: dict[int, object] = {}
    refused: list[Refusal] = []
    await source.connect()
    async with asyncio.timeout(SOON_S):
        while len(found) + len(refused) < len(tags):
            batch: Batch = await source.read()
            await batch.ack()
            refused += batch.refused
            for row, tag in enumerate(batch.tags.tolist()):
                found.setdefault(tag, batch.others.get(row, float(batch.values[row])))
    return found, refused


async def values_of(
    server: Server, names: Sequence[str], data_dir: str, datatype: str = "any"
) -> tuple[dict[str, object], list[Refusal]]:
    """The value of each node, and what was refused."""
    tags = [server.tag(number, name, datatype) for number, name in enumerate(names)]
    source = source_of(server, tags, data_dir)
    try:
        found, refused = await first_of(source, tags)
    finally:
        await source.close()
    return {names[number]: value for number, value in found.items()}, refused


def same(found: object, wanted: object) -> bool:
    """Equal in type, shape and every element; a number that float64 holds arrives as one."""
    if isinstance(wanted, np.ndarray):
        if not isinstance(found, np.ndarray):
            return False
        return (found.dtype, found.shape) == (wanted.dtype, wanted.shape) and bool((found == wanted).all())
    if isinstance(found, float) and isinstance(wanted, bool | int | float):
        return found == wanted and (isinstance(wanted, float) or int(found) == wanted)
    return type(found) is type(wanted) and found == wanted


async def test_built_in_types(server: Server, data_dir: str) -> None:
    """Every built-in type arrives as scalar, array and matrix, exactly as the server holds it."""
    names = {node_name(kind.name, shape): kind.expected(shape) for kind in KINDS for shape in SHAPES}
    if server.uri == OTHER_URI:
        names = {name: value for name, value in names.items() if name not in MISSING}
    found, refused = await values_of(server, list(names), data_dir)
    assert not refused
    assert {name: found.get(name) for name, wanted in names.items() if not same(found.get(name), wanted)} == {}


async def test_own_structures(asyncua_server: Server, data_dir: str) -> None:
    """A server's own structures are opened: nested, arrays, optional fields, unions, 64 bits and 100 ns kept."""
    found, refused = await values_of(asyncua_server, ["Result", "Results", "Note", "Mode", "Range", "Mixed"], data_dir)
    assert not refused
    centre = {"type": "Point", "X": 0.1, "Serial": 2**63 + 1, "Name": "阀"}
    result = found["Result"]
    assert isinstance(result, dict)
    curve = result.pop("Curve")
    assert same(curve, np.array([0.5, 1.5], dtype="f4"))
    assert result == {
        "type": "Result", "Mode": 2, "When": MOMENT_NS, "Centre": centre, "Path": [centre, centre],
        "Range": {"type": "Range", "Low": 1.0, "High": 2.0},
    }  # fmt: skip
    results = found["Results"]
    assert isinstance(results, list)
    assert [one["Centre"] for one in results] == [centre, centre]
    assert found["Note"] == {
        "type": "Note", "Text": "见", "By": None, "Part": {"type": "Shape", "Number": 2**62 + 1},
    }  # fmt: skip
    assert found["Mode"] == 1.0
    assert found["Range"] == {"type": "Range", "Low": -1.0, "High": 1.0}
    mixed = found["Mixed"]
    assert isinstance(mixed, list)
    assert mixed[:2] == [7, "七"]
    assert same(mixed[2], np.array([1.5, 2.5]))


async def test_companion_specification(other: Server, data_dir: str) -> None:
    """The structures of a published companion specification, with unions and optional fields, are opened too."""
    found, refused = await values_of(other, ["Scan", "Scans", "Settings", "Status", "Range"], data_dir)
    assert not refused
    sighting = {
        "type": "RfidSighting", "antenna": 1, "strength": -40, "timestamp": MOMENT_NS, "currentPowerLevel": 2,
    }  # fmt: skip
    scan = {
        "type": "RfidScanResult", "codeType": "UID", "scanData": {"type": "ScanData", "string": "零件 17"},
        "timestamp": MOMENT_NS, "location": None, "sighting": [sighting, sighting],
    }  # fmt: skip
    assert found["Scan"] == scan
    assert found["Scans"] == [scan, scan]
    assert found["Settings"] == {
        "type": "ScanSettings", "duration": 0.5, "cycles": 3, "dataAvailable": True, "locationType": None,
    }  # fmt: skip
    assert found["Status"] == 2.0
    assert found["Range"] == {"type": "Range", "Low": -1.0, "High": 1.0}


async def test_unknown_structure(server: Server, data_dir: str) -> None:
    """A structure that its server does not describe is kept as bytes with its type, counted, and told the operator."""
    source = source_of(server, [server.tag(1, "Stranger")], data_dir)
    try:
        found, refused = await first_of(source, [server.tag(1, "Stranger")])
        assert not refused
        assert found[1] == {"type": f"nsu={server.uri};i={UNKNOWN}", "body": b"\x01\x02\x03"}
        assert any(f"1 or more structures of type nsu={server.uri};i={UNKNOWN}" in note for note in source.tend())
    finally:
        await source.close()


@pytest.mark.parametrize(
    "change",
    [lambda body: body + b"\0", lambda body: body[:-1], lambda _: b"", lambda _: b"\xff" * 64],
    ids=["longer", "shorter", "empty", "noise"],
)
async def test_not_by_its_definition(
    ours: Plant, asyncua_server: Server, data_dir: str, change: Callable[[bytes], bytes]
) -> None:
    """A body that is longer, shorter or other than its definition says is kept whole, and never read as something."""
    node = ours.server.get_node(ours.nodes["Result"].nodeid)
    encoding = ua.typeid_by_extension_objects[type((await node.read_value()).Centre)]
    body = change(struct_to_binary((await node.read_value()).Centre))
    held = ua.ExtensionObject(TypeId=encoding, Body=ua.ByteString(body))
    name = f"Odd{len(body)}"
    structure = ua.NodeId(ua.Int32(ObjectIds.Structure))
    await add(ours, name, ua.Variant([held, held], ua.VariantType.ExtensionObject, is_array=True), structure)
    found, refused = await values_of(asyncua_server, [name, "Double0"], data_dir)
    assert not refused
    kept = found[name]
    assert isinstance(kept, list)
    assert [one["body"] for one in kept] == [body, body]
    assert found["Double0"] == 0.1


async def test_enumeration_names(server: Server) -> None:
    """Where a person looks at a value, an enumerated one shows its name, and a structure its fields."""
    name, wanted = ("Mode", "1 (Running)") if server.uri == URI else ("Status", "2 (Scanning)")
    browser = browse(server.url)
    await browser.connect()
    try:
        shown, ranged = await browser.read([f"nsu={server.uri};s={name}", f"nsu={server.uri};s=Range"])
    finally:
        await browser.close()
    assert shown.value == wanted
    assert "'High': 1.0" in ranged.value
    looked = await look(server.url, 5.0)
    assert {one.value for one in looked.found if one.address == f"nsu={server.uri};s={name}"} == {wanted}


async def test_what_is_nothing(ours: Plant, asyncua_server: Server, data_dir: str) -> None:
    """A null Variant, NaN and infinity with a Good status are refused by name; empty arrays are values."""
    held = {
        "Null": ua.Variant(None, ua.VariantType.Null),
        "NaN": ua.Variant(float("nan"), ua.VariantType.Double),
        "Infinite": ua.Variant(float("-inf"), ua.VariantType.Float),
        "NoNumbers": ua.Variant([], ua.VariantType.Double, is_array=True),
        "NoTexts": ua.Variant([], ua.VariantType.String, is_array=True),
    }
    for name, value in held.items():
        if name not in ours.nodes:
            await add(ours, name, value, ua.NodeId(ua.Int32(ObjectIds.BaseDataType)))
    found, refused = await values_of(asyncua_server, list(held), data_dir)
    reasons = {one.address.rpartition("=")[2]: one.reason for one in refused}
    assert reasons == {"Null": "missing_value", "NaN": "not_finite", "Infinite": "not_finite"}
    assert same(found["NoNumbers"], np.zeros(0))
    assert found["NoTexts"] == []


async def test_large_values(ours: Plant, asyncua_server: Server, data_dir: str) -> None:
    """A text of 4 MB is a reading; a larger one is refused with a reason, and the nodes beside it go on."""
    texts = {"Long": TEXT[0] * 1_000_000, "TooLong": "x" * (4 * 1024 * 1024 + 1), "Short": "x"}
    for name, text in texts.items():
        if name not in ours.nodes:
            await add(ours, name, ua.Variant(text, ua.VariantType.String))
    found, refused = await values_of(asyncua_server, list(texts), data_dir)
    assert found == {"Long": texts["Long"], "Short": "x"}
    assert [(one.reason, len(one.excerpt) <= 256) for one in refused] == [("too_large", True)]


async def test_another_charset(ours: Plant, asyncua_server: Server, data_dir: str) -> None:
    """A text that is not UTF-8 is refused as such, never altered."""
    if "GBK" not in ours.nodes:
        # asyncua sends what is no UTF-8 as it was.
        text = "报警".encode("gbk").decode("utf-8", errors="surrogateescape")
        await add(ours, "GBK", ua.Variant(text, ua.VariantType.String))
        await add(ours, "GBKs", ua.Variant([text], ua.VariantType.String, is_array=True))
    found, refused = await values_of(asyncua_server, ["GBK", "GBKs"], data_dir)
    assert not found
    assert {one.reason for one in refused} == {"wrong_charset"}
