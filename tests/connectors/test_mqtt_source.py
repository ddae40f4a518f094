"""The MQTT source against a real broker: sessions, acknowledgements, limits, TLS, outages."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.launcher import servers
from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, NotConnectedError, Refusal, RefusedError, TagBinding
from connectors.mqtt.source import MqttSource
from tests.connectors.mqtt_publisher import publish

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 10.0


@pytest.fixture(params=["3.1.1", "5"])
def version(request: pytest.FixtureRequest) -> str:
    """Both versions of the protocol."""
    return str(request.param)


@pytest.fixture
def topic(tmp_path: Path) -> str:
    """A topic of the test's own."""
    return f"source/{tmp_path.name}"


def source_of(broker: servers.Broker, data_dir: str, tags: Sequence[TagBinding], **options: object) -> MqttSource:
    """A source on the broker; its client id is the test's own."""
    name = Path(data_dir).parent.name
    given = {
        "url": f"mqtt://{broker.host}:{broker.port}",
        "username": broker.user,
        "password": broker.password,
        "timeout_s": 3,
        **options,
    }
    return MqttSource(ConnectionConfig(name, given, tuple(tags), 1, data_dir))


@asynccontextmanager
async def connected(
    broker: servers.Broker, data_dir: str, tags: Sequence[TagBinding], **options: object
) -> AsyncIterator[MqttSource]:
    """A source that is connected, and closed in the end."""
    source = source_of(broker, data_dir, tags, **options)
    await source.connect()
    try:
        yield source
    finally:
        await source.close()


async def gather(source: MqttSource, enough: Callable[[list[Batch]], bool], *, ack: bool = True) -> list[Batch]:
    """Batches until there are enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not enough(batches):
            batches.append(await source.read())
            if ack:
                await batches[-1].ack()
    return batches


def values(batches: Sequence[Batch]) -> list[float]:
    """All values."""
    return [v for b in batches for v in b.values.tolist()]


def refusals(batches: Sequence[Batch]) -> list[Refusal]:
    """All that was refused."""
    return [r for b in batches for r in b.refused]


def numbers(count: int) -> list[bytes]:
    """As many payloads, counting from 0."""
    return [json.dumps({"x": n}).encode() for n in range(count)]


async def test_while_away(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """What is published while we are away is kept by the broker and comes at the next connect, in order."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with connected(broker, data_dir, tags, version=version) as source:
        first = await source.read()
        assert not first.continues, "a session that is new"
        await first.ack()
    await publish(broker, topic, *numbers(200))
    async with connected(broker, data_dir, tags, version=version) as source:
        batches = await gather(source, lambda b: len(values(b)) >= 200)
    assert all(one.continues for one in batches)
    assert values(batches) == [float(n) for n in range(200)]


async def test_a_gap_outlives_us(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """Killed after the broker had made a session and before a first batch was safe: the next one says the gap, once."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with connected(broker, data_dir, tags, version=version) as source:
        assert not (await source.read()).continues
    for gap in (True, False):
        async with connected(broker, data_dir, tags, version=version) as source:
            first = await source.read()
            assert first.continues != gap
            await first.ack()


async def test_clean_session(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """`clean_session` forgets what came while we were away, as asked."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with connected(broker, data_dir, tags, version=version, clean_session=True):
        pass
    await publish(broker, topic, *numbers(5))
    async with connected(broker, data_dir, tags, version=version, clean_session=True) as source:
        await publish(broker, topic, json.dumps({"x": 99}).encode())
        batches = await gather(source, lambda b: bool(values(b)))
    assert values(batches) == [99.0]
    assert [one.continues for one in batches] == [False, *(True for _ in batches[1:])]


@pytest.mark.parametrize("asked", [{"qos": 0}, {"subscriptions": [{"filter": "{topic}", "qos": 0}]}])
async def test_at_qos_0_nothing_is_kept(
    broker: servers.Broker, data_dir: str, topic: str, asked: dict[str, object]
) -> None:
    """A session that is kept holds no message of QoS 0: what came meanwhile is missing, and that is said."""
    options = json.loads(json.dumps(asked).replace("{topic}", topic))
    for _ in range(2):
        async with connected(broker, data_dir, [TagBinding(1, f"{topic}#/x")], **options) as source:
            assert not (await source.read()).continues


async def test_acknowledged_in_part(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """Only what was not acknowledged comes again."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with connected(broker, data_dir, tags, version=version) as source:
        await publish(broker, topic, b'{"x": 1}')
        await gather(source, lambda b: values(b) == [1.0])
        await publish(broker, topic, b'{"x": 2}')
        await gather(source, lambda b: values(b) == [2.0], ack=False)
    async with connected(broker, data_dir, tags, version=version) as source:
        assert values(await gather(source, lambda b: bool(values(b)))) == [2.0]


async def test_last_words(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """What was acknowledged just before closing does not come again, however soon we are back."""
    tags = [TagBinding(1, f"{topic}#/x")]
    for _ in range(5):
        async with connected(broker, data_dir, tags, version=version) as source:
            await publish(broker, topic, *numbers(200))
            batches = await gather(source, lambda b: len(values(b)) >= 200, ack=False)
            assert values(batches) == [float(n) for n in range(200)]
            for batch in batches:
                await batch.ack()


async def test_ack_is_void_after_the_end(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """An acknowledgement given after a reconnect is void: message ids begin anew and would hit another message."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with connected(broker, data_dir, tags, version=version) as source:
        await publish(broker, topic, b'{"x": 1}')
        (old,) = [b for b in await gather(source, lambda b: bool(values(b)), ack=False) if len(b)]
        await source.connect()
        await gather(source, lambda b: bool(values(b)), ack=False)
        await old.ack()
    async with connected(broker, data_dir, tags, version=version) as source:
        assert values(await gather(source, lambda b: bool(values(b)))) == [1.0]


async def test_bad_payloads_stop_nothing(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """Broken, too large and unmapped messages are refused by name and acknowledged; the good ones arrive."""
    tags = [TagBinding(1, f"{topic}#/x")]
    bodies = [
        b'{"x": 1}',
        b"{broken",
        b"[" + b" " * 3000 + b"]",
        b'{"x": ' + b" " * 200_000 + b"1}",
        b'{"y": 1}',
        b'{"x": 2}',
    ]
    async with connected(broker, data_dir, tags, version=version, max_payload_bytes=2000) as source:
        await publish(broker, topic, *bodies)
        batches = await gather(source, lambda b: len(values(b)) >= 2 and sum(r.readings for r in refusals(b)) >= 4)
    assert values(batches) == [1.0, 2.0]
    counted: dict[str, int] = {}
    for refusal in refusals(batches):
        counted[refusal.reason] = counted.get(refusal.reason, 0) + refusal.readings
    assert counted == {"broken_json": 1, "too_large": 2, "missing_value": 1}
    async with connected(broker, data_dir, tags, version=version, max_payload_bytes=2000) as source:
        assert not refusals([await source.read()])


async def test_wrong_layouts_stop_nothing(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """Whatever a layout cannot read is refused by name and acknowledged, and the right messages around it arrive."""
    options = {"format": "senml", "compression": "gzip", "max_unpacked_bytes": 1000}
    bodies = [
        gzip.compress(b'[{"n": "a", "v": 1, "t": -5}]'),
        b"\xff\xd8\xff no gzip",
        gzip.compress(b" " * 1_000_000),
        gzip.compress(b'{"n": "a"}'),
        gzip.compress('[{"n": "a", "vs": "温度"}]'.encode("gbk")),
        gzip.compress(b'[{"n": "a", "v": 2}]'),
    ]
    before = time.time_ns()
    tags = [TagBinding(1, f"{topic}#/a", options=options)]
    async with connected(broker, data_dir, tags, version=version) as source:
        await publish(broker, topic, *bodies)
        batches = await gather(source, lambda b: len(values(b)) >= 2)
    assert values(batches) == [1.0, 2.0]
    assert [r.reason for r in refusals(batches)] == ["broken_gzip", "too_large", "wrong_layout", "wrong_charset"]
    first = next(b for b in batches if len(b))
    assert before - 5 * 10**9 <= first.source_time[0] <= first.received_time - 5 * 10**9
    async with connected(broker, data_dir, tags, version=version) as source:
        assert not refusals([await source.read()])


async def test_little_memory(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """With room for few messages the socket is not read until they are taken, and none is lost."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with connected(broker, data_dir, tags, version=version, max_waiting=5) as source:
        await publish(broker, topic, *numbers(100))
        batches = await gather(source, lambda b: len(values(b)) >= 100)
    assert values(batches) == [float(n) for n in range(100)]
    assert max(len(b) for b in batches) <= 5


async def test_filters(broker: servers.Broker, data_dir: str, topic: str) -> None:
    """Configured filters replace the tags' topics; what they bring without a tag is counted as refused."""
    tags = [TagBinding(1, f"{topic}/a#/x")]
    async with connected(broker, data_dir, tags, subscriptions=[{"filter": f"{topic}/#", "qos": 1}]) as source:
        await publish(broker, f"{topic}/b", b'{"x": 1}')
        await publish(broker, f"{topic}/a", b'{"x": 2}')
        batches = await gather(source, lambda b: bool(values(b)))
    assert [(r.address, r.reason) for r in refusals(batches)] == [(f"{topic}/b", "unknown_topic")]


async def test_changed_tags(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """A kept session lets go of topics that no tag is on any more."""
    async with connected(broker, data_dir, [TagBinding(1, f"{topic}/old#/x")], version=version):
        pass
    new = [TagBinding(2, f"{topic}/new#/x")]
    async with connected(broker, data_dir, new, version=version) as source:
        await publish(broker, f"{topic}/old", b'{"x": 1}')
        await publish(broker, f"{topic}/new", b'{"x": 2}')
        batches = await gather(source, lambda b: bool(values(b)))
    assert (values(batches), refusals(batches)) == ([2.0], [])


async def test_received_time(broker: servers.Broker, data_dir: str, topic: str) -> None:
    """With `use_received_time` the publisher's clock is not believed."""
    tags = [TagBinding(1, f"{topic}#/x", options={"time": "/t", "time_format": "ms"})]
    before = time.time_ns()
    async with connected(broker, data_dir, tags, use_received_time=True) as source:
        await publish(broker, topic, b'{"x": 1, "t": 5}')
        (batch,) = [b for b in await gather(source, lambda b: bool(values(b))) if len(b)]
    assert before < batch.source_time[0] <= batch.received_time


async def test_silent_broker(broker: servers.Broker, broker_gate: Gate, data_dir: str, topic: str) -> None:
    """A broker that answers no ping is an outage, though the connection stands."""
    url = f"mqtt://127.0.0.1:{broker_gate.port}"
    async with connected(broker, data_dir, [TagBinding(1, f"{topic}#/x")], url=url, timeout_s=1) as source:
        await gather(source, lambda b: len(b) >= 2)
        broker_gate.freeze()
        with pytest.raises(NotConnectedError, match="silent"):
            await gather(source, lambda _: False)
        await broker_gate.cut()


async def test_no_answer(broker: servers.Broker, broker_gate: Gate, data_dir: str, topic: str) -> None:
    """A peer that accepts the connection and never answers is NotConnectedError within the time-out."""
    broker_gate.freeze()
    source = source_of(
        broker, data_dir, [TagBinding(1, f"{topic}#/x")], url=f"mqtt://127.0.0.1:{broker_gate.port}", timeout_s=0.5
    )
    with pytest.raises(NotConnectedError, match="no answer within"):
        await source.connect()
    await broker_gate.cut()


async def test_taken_over(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """A second client with our id ends the first connection: that is told, not hidden."""
    tags = [TagBinding(1, f"{topic}#/x")]
    async with (
        connected(broker, data_dir, tags, version=version) as first,
        connected(broker, data_dir, tags, version=version),
    ):
        with pytest.raises(NotConnectedError):
            await gather(first, lambda _: False)


async def test_tls_of_a_stranger(data_dir: str, topic: str, tmp_path: Path) -> None:
    """A broker whose certificate nobody vouches for is refused, as is one whose CA file is not there."""
    with pytest.raises(RefusedError, match="cannot be used"):
        await MqttSource(
            ConnectionConfig(
                "tls",
                {"url": "mqtts://127.0.0.1:1", "ca_file": tmp_path / "absent"},
                (TagBinding(1, topic),),
                1,
                data_dir,
            )
        ).connect()
