"""Browsing an OPC UA server: what each node is, within the server's limits, and without running in circles."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from app.launcher.ports import Port
from app.selftest.gate import Gate
from connectors import Browser, Node, NotConnectedError, RefusedError, Status
from connectors.opcua import browse
from connectors.opcua.browse import OpcUaBrowser
from connectors.opcua.describe import unit_of
from connectors.opcua.options import Options
from connectors.opcua.session import Session
from connectors.opcua.space import Space, ns0
from tests.connectors.opcua_machines import MACHINES, Machines, limit, machines
from tests.connectors.opcua_plant import Plant

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROOT = Path(__file__).parents[2]
SOON_S = 20.0
HERE = MACHINES.replace(";", "%3B")
UNIT = f"path:/Objects/nsu={HERE};Press/nsu={HERE};Unit&.1"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plant_of_machines() -> AsyncIterator[Machines]:
    """One server for these tests."""
    async with machines() as made:
        yield made


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Browser]:
    """A browser that is connected, and closed in the end."""
    browser = browse(url)
    await browser.connect()
    try:
        yield browser
    finally:
        await browser.close()


async def below(browser: Browser, address: str) -> dict[str, Node]:
    """The children of one address by name; nothing is wrong with the answer."""
    (branch,) = await browser.children([address])
    assert branch.notes == ()
    return {node.name: node for node in branch.nodes}


async def test_what_a_variable_is(plant_of_machines: Machines) -> None:
    """Type, unit, access, description and both addresses are told; a property of an object is a child of it."""
    async with browsing(plant_of_machines.url) as browser:
        found = await below(browser, UNIT)
    temperature = found["Temp"]
    assert temperature == Node(
        f"nsu={HERE};s=Temp",
        "Temp",
        "Variable",
        "float",
        "Double",
        "°C",
        readable=True,
        description="Oil",
        by_path=f"{UNIT}/nsu={HERE};Temp",
    )
    assert {name: (node.datatype, node.peer_type) for name, node in found.items() if node.datatype} == {
        "Temp": ("float", "Double"),
        "Count": ("integer", "UInt16"),
        "On": ("boolean", "Boolean"),
        "Text": ("string", "String"),
        "Curve": ("array", "Float[]"),
        "Pressure": ("float", "Bar"),
        "Serial": ("string", "String"),
    }
    assert (found["Count"].writable, found["Pressure"].unit, found["Inner"].has_children) == (True, "BAR", True)


async def test_a_walk_begins_at_objects(plant_of_machines: Machines) -> None:
    """Without an address the children of Objects are told, and each tells by itself where its own are."""
    async with browsing(plant_of_machines.url) as browser:
        top = await below(browser, "")
        press = await below(browser, top["Press"].address)
        unit = await below(browser, press["Unit.1"].address)
        inner = await below(browser, unit["Inner"].address)
    assert {"Press", "Many", "Server"} <= top.keys()
    assert unit["Temp"].by_path == f"{UNIT}/nsu={HERE};Temp"
    assert inner["Press"].address == top["Press"].address, "the circle is the server's; a walk sees where it closes"


async def test_the_servers_limits_are_kept(plant_of_machines: Machines) -> None:
    """No request is larger than the server says it takes, and the answer is the same."""
    async with browsing(plant_of_machines.url) as browser:
        whole = await below(browser, f"nsu={HERE};s=Many")
        assert len(whole) == 30
        few = requests(browser)
    await limit(plant_of_machines, 7, 11)
    try:
        async with browsing(plant_of_machines.url) as browser:
            assert await below(browser, f"nsu={HERE};s=Many") == whole
            # 30 nodes of 5 attributes: 14 requests of 11; 30 of 7: 5 requests, and 5 for the types and units.
            assert requests(browser) > few + 14
    finally:
        await limit(plant_of_machines, 0, 0)


def requests(browser: Browser) -> int:
    """How many requests were sent."""
    assert isinstance(browser, OpcUaBrowser)
    return browser.requests


@asynccontextmanager
async def open62541(tags: int) -> AsyncIterator[str]:
    """A server of another stack, in a process of its own; it has few continuation points for a session."""
    with Port() as port:  # held until the server ends: else whoever asks for any port may be given it first
        words = (str(ROOT / "bench" / "opcua_plant.py"), "--port", str(port.number), "--tags", str(tags))
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe, stderr=nothing)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(SOON_S):
                while b"ready" not in await process.stdout.readline():
                    assert not process.stdout.at_eof(), "open62541 did not start"
            yield f"opc.tcp://127.0.0.1:{port.number}"
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_many_children_come_by_continuation_point(data_dir: str) -> None:
    """What does not fit into an answer is asked for until it is whole, also where the server runs out of points."""
    async with open62541(60) as url:
        session = Session(Options.model_validate({"url": url, "security": "None"}), "space", data_dir)
        await session.open()
        try:
            space = Space(session, per_answer=10)
            await space.open()
            objects = ns0(ObjectIds.ObjectsFolder)
            several = await space.references([objects] * 80)
            cut, nobody = await space.peek([objects, ns0(4_000_000)], 0, 5)
            again = await space.peek([objects] * 80, 0, 5)
        finally:
            await session.close()
    for one in several:
        assert {f"T{n}" for n in range(60)} <= {str(r.BrowseName.Name) for r in one.found}
        assert (one.status, one.more, len(one.found)) == (0, False, len(several[0].found))
    assert (len(cut.found), cut.more, nobody.status) == (5, True, Status.BAD_NODE_ID_UNKNOWN)
    assert all(one.more for one in again)


async def test_a_wrong_address_costs_the_others_nothing(plant_of_machines: Machines) -> None:
    """Each address that is wrong, unknown or of an unknown namespace has a note; the rest has its children."""
    async with browsing(plant_of_machines.url) as browser:
        wrong, unknown, stranger, right = await browser.children(
            ["no address", f"nsu={HERE};s=Nobody", "path:/Objects/nsu=urn:nobody;X", f"nsu={HERE};s=Press"]
        )
    assert "is not a NodeId" in wrong.notes[0]
    assert unknown.notes[0].startswith(f"nsu={HERE};s=Nobody: BadNodeId")
    assert "BadNodeIdUnknown" in stranger.notes[0]
    assert [node.name for node in right.nodes] == ["Unit.1"]


async def test_values_are_read_once(plant_of_machines: Machines) -> None:
    """Type, value, status, source time and unit of each address, in order; one that is not there is Bad."""
    async with browsing(plant_of_machines.url) as browser:
        there, nobody, curve = await browser.read([f"{UNIT}/nsu={HERE};Temp", "i=4294967295", f"nsu={HERE};s=Curve"])
    assert (there.name, there.datatype, there.value, there.status, there.unit) == ("Temp", "Double", "20.5", 0, "°C")
    assert there.source_time > 0
    assert Status.severity(nobody.status) == 2
    assert (curve.datatype, curve.value) == ("Float[]", "[1.0, 2.0]")


async def test_a_connection_that_is_cut(plant_gate: Gate) -> None:
    """What is asked of a server that is gone is NotConnectedError, as for a source."""
    async with browsing(f"opc.tcp://127.0.0.1:{plant_gate.port}/tests") as browser:
        await below(browser, "")
        await plant_gate.cut()
        with pytest.raises(NotConnectedError):
            await browser.children([""])
    with pytest.raises(NotConnectedError, match="not connected"):
        await browser.read(["i=2258"])


async def test_a_user_is_never_shown_unsecured(plant: Plant) -> None:
    """With a user name the connection is secured, and an unknown certificate refused."""
    browser = browse(plant.url, username="operator", password="x")  # noqa: S106
    with pytest.raises(RefusedError, match="not trusted"):
        await browser.connect()
    await browser.close()


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        (ua.EUInformation(DisplayName=ua.LocalizedText("bar(g)"), UnitId=ua.Int32(1)), "bar(g)"),
        (ua.EUInformation("http://www.opcfoundation.org/UA/units/un/cefact", ua.Int32(4408652)), "CEL"),
        (ua.EUInformation("http://example.com/units", ua.Int32(4408652)), ""),
        (ua.EUInformation("http://www.opcfoundation.org/UA/units/un/cefact", ua.Int32(-1)), ""),
        ("kN", ""),
    ],
)
async def test_units(unit: object, shown: str) -> None:
    """A unit is what the server shows, else the UNECE code in it."""
    assert unit_of(unit) == shown


async def test_types_of_the_server_itself(plant_of_machines: Machines) -> None:
    """Enumerations, times and structures of OPC UA's own address space have the datatype of what they derive from."""
    async with browsing(plant_of_machines.url) as browser:
        status = await below(browser, ns0(ObjectIds.Server_ServerStatus).to_string())
        server = await below(browser, ns0(ObjectIds.Server).to_string())
    assert (status["State"].datatype, status["State"].peer_type) == ("integer", "ServerState")
    assert (status["CurrentTime"].datatype, status["BuildInfo"].datatype) == ("integer", "any")
    assert status["BuildInfo"].has_children
    assert server["GetMonitoredItems"].kind == "Method"
    assert (server["NamespaceArray"].datatype, server["NamespaceArray"].peer_type) == ("array", "String[]")
