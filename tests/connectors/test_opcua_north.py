"""Our own OPC UA server, read by a real client and our own look: nodes, times, units, who may read, none may write."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import BadNotWritable, BadUserAccessDenied

from app.launcher.ports import Port
from connectors import ConnectionConfig, NodeValue, NotConnectedError, Publication, RefusedError, Status, TagBinding
from connectors.opcua.look import look
from connectors.opcua.own import make
from connectors.opcua.security import POLICIES, trust
from connectors.opcua.server import HEARTBEAT, OpcUaSink
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import PASSWORD, Plant, string_node
from tests.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
NAMESPACE = "urn:headrace:north"
SECRET = "battery staple"  # noqa: S105 - of a server on 127.0.0.1 that lives for one test run
NOW = time.time_ns() // 1000 * 1000


@dataclass(frozen=True)
class North:
    """A running sink and how to reach it."""

    sink: OpcUaSink
    url: str
    folder: Path

    @property
    def certificate(self) -> Path:
        """What its clients trust."""
        return self.folder / "own" / "certificate.der"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def north(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[North]:
    """A server that offers None and Basic256Sha256 to one user."""
    folder = tmp_path_factory.mktemp("north")
    with Port() as held:
        url = f"opc.tcp://127.0.0.1:{held.number}/headrace"
    options = {"endpoint": url, "security": ["Basic256Sha256", "None"], "username": "scada", "password": SECRET}
    sink = OpcUaSink(ConnectionConfig("north", options, (), 1, str(folder)))
    await sink.connect()
    yield North(sink, url, folder)
    await sink.close()


def shown(*nodes: NodeValue) -> list[Publication]:
    """One publication that shows these."""
    return [Publication("1", "k", "t", b"", "application/json", nodes)]


def reader(north: North, data_dir: str, tags: tuple[TagBinding, ...], **options: object) -> OpcUaSource:
    """Our own source as a client of our own server."""
    given = {
        "url": north.url,
        "username": "scada",
        "password": SECRET,
        "trusted_certificates": [north.certificate],
        "publishing_interval_ms": 20,
        **options,
    }
    return OpcUaSource(ConnectionConfig("reader", given, tags, 1, data_dir))


async def values_of(north: North, *paths: str) -> list[ua.DataValue]:
    """What a client reads at these paths."""
    client = Client(north.url)
    client.set_user("scada")
    client.set_password(SECRET)
    async with client:
        index = await client.get_namespace_index(NAMESPACE)
        nodes = [client.get_node(string_node(path, index)) for path in paths]
        return [await node.read_data_value(raise_on_bad_status=False) for node in nodes]


async def test_values(north: North) -> None:
    """Each kind of value stands under its path, with its type, status and source time; a Bad one shows no value."""
    await north.sink.publish(
        shown(
            NodeValue("A/score", 1.5, 0, NOW),
            NodeValue("A/fault", 3, Status.UNCERTAIN, NOW),
            NodeValue("A/id", "x-1", 0, NOW),
            NodeValue("A/on", value=True, status=0, source_time=NOW),
            NodeValue("A/old", 9.0, Status.BAD, NOW),
        )
    )
    score, fault, text, on, old = await values_of(north, "A/score", "A/fault", "A/id", "A/on", "A/old")
    found = [(v.Value.Value, v.Value.VariantType) for v in (score, fault, text, on) if v.Value]
    assert found == [
        (1.5, ua.VariantType.Double),
        (3, ua.VariantType.Int64),
        ("x-1", ua.VariantType.String),
        (True, ua.VariantType.Boolean),
    ]
    assert [int(v.StatusCode.value) for v in (score, fault, old) if v.StatusCode] == [0, Status.UNCERTAIN, Status.BAD]
    assert old.Value is not None
    assert old.Value.Value is None
    assert score.SourceTimestamp is not None
    assert round(score.SourceTimestamp.timestamp() * 1e6) * 1000 == NOW


async def test_types_stay(north: North) -> None:
    """A node keeps its type: a whole number fits a float, a text does not and shows as Bad instead of as a number."""
    await north.sink.publish(shown(NodeValue("B/x", 1.5, 0, NOW)))
    await north.sink.publish(shown(NodeValue("B/x", 2, 0, NOW)))
    assert (await values_of(north, "B/x"))[0].Value == ua.Variant(2.0, ua.VariantType.Double)
    await north.sink.publish(shown(NodeValue("B/x", "text", 0, NOW)))
    (found,) = await values_of(north, "B/x")
    assert found.StatusCode == ua.StatusCode(ua.UInt32(Status.BAD_TYPE_MISMATCH))


async def test_read_only(north: North) -> None:
    """No client may write, not even the one that may read."""
    await north.sink.publish(shown(NodeValue("C/x", 1.5, 0, NOW)))
    client = Client(north.url)
    client.set_user("scada")
    client.set_password(SECRET)
    async with client:
        node = client.get_node(string_node("C/x", await client.get_namespace_index(NAMESPACE)))
        with pytest.raises((BadNotWritable, BadUserAccessDenied)):
            await node.write_value(9.9)
        assert await node.read_value() == 1.5


async def test_subscription(north: North, data_dir: str) -> None:
    """Another Headrace can subscribe: every published change arrives."""
    await north.sink.publish(shown(NodeValue("D/x", 0.0, 0, NOW)))
    source = reader(north, data_dir, (TagBinding(1, f"nsu={NAMESPACE};s=D/x"),), security="None")
    await source.connect()
    for number in range(1, 20):
        await north.sink.publish(shown(NodeValue("D/x", float(number), 0, NOW + number)))
    found: list[float] = []
    async with asyncio.timeout(10):
        while 19.0 not in found:
            batch = await source.read()
            found += batch.values.tolist()
            await batch.ack()
    assert found[-19:] == [float(n) for n in range(1, 20)]
    await source.close()


async def test_heartbeat(north: North, data_dir: str) -> None:
    """A node that counts proves that we live."""
    source = reader(north, data_dir, (TagBinding(1, f"nsu={NAMESPACE};s={HEARTBEAT}", "integer"),), security="None")
    await source.connect()
    found: list[float] = []
    async with asyncio.timeout(10):
        while len(found) < 2:
            batch = await source.read()
            found += batch.values.tolist()
            await batch.ack()
    assert found[1] == found[0] + 1
    await source.close()


async def test_secured_client(north: North, data_dir: str) -> None:
    """A secured client is let in once its certificate has been trusted, and not before."""
    source = reader(north, data_dir, (TagBinding(1, f"nsu={NAMESPACE};s={HEARTBEAT}"),))
    with pytest.raises(RefusedError, match="does not trust our certificate"):
        await source.connect()
    (shown,) = trust(ConnectionConfig("north", {}, (), 1, str(north.folder))).peers()
    assert shown.state == "pending"
    trust(ConnectionConfig("north", {}, (), 1, str(north.folder))).decide(shown.certificate.fingerprint, "trusted")
    await source.connect()
    await source.close()


async def test_what_the_operator_is_told(tmp_path: Path) -> None:
    """Clients that wait, and a switched certificate; one that ended keeps the server shut until the switch."""
    with Port() as held:
        options = {"endpoint": f"opc.tcp://127.0.0.1:{held.number}/x", "anonymous": True, "application_uri": "urn:us"}
    config = ConnectionConfig("scada", options, (), 1, str(tmp_path))
    make(tmp_path / "own", "urn:us", since=datetime.now(UTC) - timedelta(2), lifetime=timedelta(1))
    sink, keys = OpcUaSink(config), trust(config)
    with pytest.raises(RefusedError, match="headrace trust switch --connection 'scada'"):
        await sink.connect()
    assert not sink.mended()
    keys.switch()
    assert sink.mended()
    await sink.connect()
    try:
        assert sink.tend() == ()
        source = OpcUaSource(ConnectionConfig("reader", {"url": options["endpoint"]}, (), 1, str(tmp_path / "reader")))
        with pytest.raises(RefusedError):
            await source.connect()
        (theirs,) = trust(ConnectionConfig("reader", {}, (), 1, str(tmp_path / "reader"))).peers()
        trust(ConnectionConfig("reader", {}, (), 1, str(tmp_path / "reader"))).decide(
            theirs.certificate.fingerprint, "trusted"
        )
        with pytest.raises(RefusedError, match="does not trust our certificate"):
            await source.connect()
        assert sink.tend() == ("certificates of clients that wait in the trust inbox: 1; see headrace trust",)
        make(tmp_path / "own" / "next", "urn:us")
        keys.switch()
        with pytest.raises(NotConnectedError, match="switched"):
            sink.tend()
    finally:
        await sink.close()


async def test_who_may_read(north: North, data_dir: str) -> None:
    """Neither a stranger nor a wrong password is let in."""
    for access in ({"username": None, "password": None}, {"password": "wrong"}):
        source = reader(north, data_dir, (), security="None", **access)
        with pytest.raises(RefusedError):
            await source.connect()


async def test_port_taken(north: North, data_dir: str) -> None:
    """A port that is taken is NotConnectedError, seen before the server is prepared."""
    options = {"endpoint": north.url, "anonymous": True}
    second = OpcUaSink(ConnectionConfig("second", options, (), 1, data_dir))
    with pytest.raises(NotConnectedError, match="cannot listen"):
        await second.connect()
    await second.close()


async def test_look_at_ourselves(north: North) -> None:
    """A look shows unit and path of our own nodes, the clock's offset and what looking cost."""
    await north.sink.publish(shown(NodeValue("E/p", 1.5, 0, NOW, "bar", "A pressure")))
    access = {"username": "scada", "password": SECRET, "trusted_certificates": [north.certificate]}
    found = await look(north.url, 2.0, security="None", **access)
    (node,) = [f for f in found.found if f.name == "E/p"]
    assert (node.address, node.unit, node.datatype, node.value) == (f"nsu={NAMESPACE};s=E/p", "bar", "Double", "1.5")
    assert found.peer.startswith("Headrace Headrace")
    assert found.clock_offset_ns is not None
    assert abs(found.clock_offset_ns) < 1_000_000_000
    assert found.requests > 5
    assert found.bytes_received > 1000
    assert any("neither signed nor encrypted" in note for note in found.notes)


async def test_look_at_a_plant(plant: Plant) -> None:
    """A look at a foreign plant counts changes, names Bad variables, and leaves nothing behind."""
    before = set(plant.subscriptions())
    looking = asyncio.create_task(look(plant.url, 1.0))
    await wait_for(
        lambda: set(plant.subscriptions()) - before and plant.unacknowledged(), what="the first values are sent"
    )
    await plant.write("Small", None, Status.BAD)
    for number in range(5):
        await plant.write("Level", 2000.0 + number)
    found = await looking
    by_name = {f.name: f for f in found.found}
    assert by_name["Level"].changes >= 5
    assert (by_name["Level"].unit, by_name["Curve"].datatype) == ("m", "Double[]")
    assert any("1 of" in note and "Bad" in note for note in found.notes)
    assert set(plant.subscriptions()) == before
    await plant.write("Small", 0.5)


async def test_look_secured(plant: Plant) -> None:
    """With a user name a look is secured by default; a server is trusted by the fingerprint given, and no other."""
    access = {"username": "operator", "password": PASSWORD}
    shown = hashlib.sha256(plant.certificate.read_bytes()).hexdigest()
    for fingerprint in (None, "ab" * 32, shown[:32]):
        with pytest.raises(RefusedError, match=f"--trust {shown}"):
            await look(plant.url, 0.2, fingerprint=fingerprint, **access)
    found = await look(plant.url, 1.0, fingerprint=shown.upper(), **access)
    assert "(Basic256Sha256, SignAndEncrypt)" in found.peer
    assert POLICIES["Basic256Sha256"] is SecurityPolicyBasic256Sha256
