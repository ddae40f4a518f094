"""WebSocket, shared subscriptions, the will, and QoS 2 asked for: a real Mosquitto, both versions of MQTT."""

from __future__ import annotations

import asyncio
import getpass
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from app.launcher.ports import Port
from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, NotConnectedError, Publication, RefusedError, TagBinding, Tended
from connectors._commands import Writing
from connectors.mqtt import SCHEMES, plant_writer
from connectors.mqtt.options import Options
from connectors.mqtt.sink import MqttSink
from connectors.mqtt.source import MqttSource
from connectors.mqtt.websocket import SHORT, frame, masked
from tests.connectors.tls_broker import _listens, _write
from tests.waiting import wait_for

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(MOSQUITTO is None, reason="only Mosquitto has all of this"),
]
VERSIONS = pytest.mark.parametrize("version", ["3.1.1", "5"])
SOON_S = 15.0
BIG = "9" * 70_000


@dataclass(frozen=True)
class WebBroker:
    """Where it listens, and whom to trust."""

    tcp: int
    ws: int
    wss: int
    ca: Path

    def url(self, scheme: str) -> str:
        """Its address over this transport."""
        port = {"mqtt": self.tcp, "ws": self.ws, "wss": self.wss}[scheme]
        return f"{scheme}://127.0.0.1:{port}" + ("" if scheme == "mqtt" else "/mqtt")


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[WebBroker]:
    _write(folder, "server", _write(folder, "ca", None))
    with Port() as tcp, Port() as ws, Port() as wss:
        lines = (
            "per_listener_settings true",
            f"listener {tcp.number} 127.0.0.1\nallow_anonymous true",
            f"listener {ws.number} 127.0.0.1\nprotocol websockets\nallow_anonymous true",
            f"listener {wss.number} 127.0.0.1\nprotocol websockets\nallow_anonymous true",
            f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key",
            f"user {getpass.getuser()}\nlog_dest none",
        )
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        process = await asyncio.create_subprocess_exec(str(MOSQUITTO), "-c", str(folder / "mosquitto.conf"))
        try:
            for one in (tcp, ws, wss):
                await wait_for(partial(_listens, one.number), what="the broker listens")
            yield WebBroker(tcp.number, ws.number, wss.number, folder / "ca.pem")
        finally:
            process.terminate()
            await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def web(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebBroker]:
    """One broker for this file, over TCP, WebSocket and WebSocket with TLS."""
    async with _running(tmp_path_factory.mktemp("web")) as running:
        yield running


def config(web: WebBroker, name: str, scheme: str, *tags: TagBinding, **options: object) -> ConnectionConfig:
    """A connection over this transport."""
    given: dict[str, object] = {"url": web.url(scheme), "timeout_s": 3, **options}
    if scheme == "wss":
        given.setdefault("ca_file", web.ca)
    return ConnectionConfig(name, given, tags, 1, str(web.ca.parent / name))


async def gather(source: MqttSource, enough: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Acknowledged batches until there are enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not enough(batches):
            batches.append(await source.read())
            await batches[-1].ack()
    return batches


def readings(batches: list[Batch]) -> int:
    """How many there are."""
    return sum(len(one) for one in batches)


async def published(web: WebBroker, topic: str, bodies: list[bytes], scheme: str = "mqtt", **options: object) -> None:
    """Publish all of them."""
    sink = MqttSink(config(web, "publisher", scheme, **options))
    await sink.connect()
    await sink.publish([Publication(str(n), topic, topic, body, "text/plain") for n, body in enumerate(bodies)])
    await sink.close()


@VERSIONS
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_websocket_both_ways(web: WebBroker, scheme: str, version: str) -> None:
    """Over WebSocket readings come and publications go, small and large, complete and in order."""
    topic, name = f"web/{scheme}/{version}", f"web-{scheme}-{version}"
    tag = TagBinding(1, topic, "string", {"format": "text"})
    source = MqttSource(config(web, name, scheme, tag, version=version))
    await source.connect()
    bodies = [str(n) for n in range(300)] + [BIG, "x" * 126, "x" * 200]
    await published(web, topic, [one.encode() for one in bodies], scheme, version=version)
    batches = await gather(source, lambda found: readings(found) >= len(bodies))
    await source.close()
    assert [batch.others[row] for batch in batches for row in range(len(batch))] == bodies


async def test_wrong_authority_over_websocket(web: WebBroker) -> None:
    """A broker that our authorities do not vouch for is refused over WebSocket too."""
    with pytest.raises(RefusedError, match="not trusted"):
        await MqttSource(config(web, "stranger", "wss", ca_file=None)).connect()


async def test_no_websocket_there(web: WebBroker) -> None:
    """What speaks no WebSocket is an outage that says so, and costs no more than the time-out."""
    wrong = config(web, "wrong", "ws", url=f"ws://127.0.0.1:{web.tcp}/mqtt", timeout_s=1)
    with pytest.raises(NotConnectedError):
        await MqttSource(wrong).connect()


async def test_an_outage_over_websocket(web: WebBroker) -> None:
    """A WebSocket that breaks is an outage like any other, and what was published meanwhile arrives afterwards."""
    gate = Gate("127.0.0.1", web.ws)
    await gate.start()
    url = f"ws://127.0.0.1:{gate.port}/mqtt"
    source = MqttSource(config(web, "broken", "ws", TagBinding(1, "web/broken"), url=url))
    await source.connect()
    await published(web, "web/broken", [b"1"])
    await gather(source, lambda found: readings(found) == 1)
    await gate.cut()
    with pytest.raises(NotConnectedError):
        await gather(source, lambda _: False)
    await published(web, "web/broken", [b"2"])
    await gate.start()
    await source.connect()
    batches = await gather(source, lambda found: any(2.0 in one.values for one in found))
    assert batches
    await source.close()
    await gate.cut()


async def test_frames() -> None:
    """Every length is framed as RFC 6455 writes it, masked, and masking twice gives the payload back."""
    for size, head in ((0, 2), (SHORT, 2), (126, 4), (65_535, 4), (65_536, 10)):
        data = bytes(n % 256 for n in range(size))
        made = frame(2, data)
        assert len(made) == head + 4 + size
        assert made[0] == 0x82
        assert made[1] & 0x80
        assert masked(made[head + 4 :], made[head : head + 4]) == data


@VERSIONS
async def test_shared_subscription(web: WebBroker, version: str) -> None:
    """Two gateways of one group get each message once between them, and its real topic decides the tag."""
    topic = f"shared/{version}/tank/level"
    options = {"version": version, "subscriptions": [{"filter": f"$share/gateways{version[0]}/shared/{version}/#"}]}
    sources = [MqttSource(config(web, f"share-{version}-{n}", "mqtt", TagBinding(1, topic), **options)) for n in (1, 2)]
    for source in sources:
        await source.connect()
    await published(web, topic, [str(n).encode() for n in range(100)])
    found: list[float] = []

    async def take(source: MqttSource) -> int:
        own = 0
        while len(found) < 100:
            batch = await source.read()
            own += len(batch)
            found.extend(batch.values.tolist())
            await batch.ack()
        return own

    async with asyncio.timeout(SOON_S):
        shares = await asyncio.gather(*(take(source) for source in sources))
    assert sorted(found) == [float(n) for n in range(100)]
    assert all(shares)
    for source in sources:
        await source.close()


@pytest.mark.parametrize("wrong", ["$share/g", "$share//x", "$share/a+/x", "a/#/b", "a/b#", "a+/b"])
async def test_filters(wrong: str) -> None:
    """A filter that no broker takes is refused with the options, with how to write it."""
    with pytest.raises(ValueError, match=r"shared subscription looks like|whole levels"):
        Options.model_validate({"url": "mqtt://x", "subscriptions": [{"filter": wrong}]})
    good = {"url": "mqtt://x", "subscriptions": [{"filter": "$share/g/a/+/#"}, {"filter": "a/+"}, {"filter": "#"}]}
    assert Options.model_validate(good).subscriptions[0].filter == "$share/g/a/+/#"


@VERSIONS
@pytest.mark.parametrize("farewell", [True, False])
async def test_will(web: WebBroker, version: str, *, farewell: bool) -> None:
    """Others are told that the connection stands, and that it does not: whether we go or are lost."""
    gate = Gate("127.0.0.1", web.tcp)
    await gate.start()
    name = f"will-{version}-{farewell}"
    topic = f"gateways/{name}"
    said = MqttSource(config(web, f"{name}-watch", "mqtt", TagBinding(1, topic, "string", {"format": "text"})))
    await said.connect()
    will = {"topic": topic, "online": "在线", "offline": "离线"}
    source = MqttSource(config(web, name, "mqtt", version=version, will=will, url=f"mqtt://127.0.0.1:{gate.port}"))
    await source.connect()

    def texts(batches: list[Batch]) -> list[object]:
        return [value for batch in batches for value in batch.others.values()]

    assert texts(await gather(said, texts)) == ["在线"]  # type: ignore[arg-type]  # truth is enough
    await (source.close() if farewell else gate.cut())
    assert texts(await gather(said, texts)) == ["离线"]  # type: ignore[arg-type]
    await source.close()
    await said.close()
    await gate.cut()


@VERSIONS
async def test_exactly_once_is_asked_for(web: WebBroker, version: str) -> None:
    """QoS 2 is subscribed as 1, the operator is told so, and messages published at 2 arrive."""
    source = MqttSource(config(web, f"two-{version}", "mqtt", TagBinding(1, f"two/{version}"), version=version, qos=2))
    assert isinstance(source, Tended)
    assert any("QoS 2" in note for note in source.tend())
    await source.connect()
    await published(web, f"two/{version}", [b"1", b"2"])
    batches = await gather(source, lambda found: readings(found) == 2)
    assert [value for one in batches for value in one.values.tolist()] == [1.0, 2.0]
    await source.close()
    assert MqttSource(config(web, "one", "mqtt", TagBinding(1, "x"))).tend() == ()


@VERSIONS
async def test_commands(web: WebBroker, version: str) -> None:
    """A value is published to a device at QoS 1, as it is meant; what is no topic or no value never leaves us."""
    topic = f"command/{version}"
    tag = TagBinding(1, topic, "string", {"format": "text"})
    source = MqttSource(config(web, f"device-{version}", "mqtt", tag))
    await source.connect()
    writer = plant_writer(config(web, "operator", "mqtt", version=version))
    assert isinstance(writer, Writing)
    with pytest.raises(NotConnectedError):
        await writer.write(topic, 1)
    await writer.connect()
    for value in (1.5, True, 2**53 + 1, "开", b"raw"):
        await writer.write(topic, value)
    with pytest.raises(ValueError, match="no topic"):
        await writer.write("command/#", 1)
    with pytest.raises(ValueError, match="finite"):
        await writer.write(topic, float("nan"))
    batches = await gather(source, lambda found: readings(found) == 5)
    assert [v for one in batches for v in one.others.values()] == ["1.5", "true", str(2**53 + 1), "开", "raw"]
    await writer.close()
    await source.close()
    assert set(SCHEMES) == {"mqtt", "mqtts", "ws", "wss"}
