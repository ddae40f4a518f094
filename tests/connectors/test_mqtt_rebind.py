"""Other tags on a living MQTT connection: only topics that changed are subscribed to, and nothing comes twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from app.launcher import servers
from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, NotConnectedError, TagBinding
from connectors.mqtt.source import FILTERS_FILE, MqttSource
from tests.connectors.message_gate import MessageGate
from tests.connectors.mqtt_publisher import publish
from tests.connectors.peer_mqtt import PACKETS
from tests.connectors.test_mqtt_source import gather, refusals

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(params=["3.1.1", "5"])
def version(request: pytest.FixtureRequest) -> str:
    """Both versions of the protocol."""
    return str(request.param)


@pytest.fixture
def topic(tmp_path: Path) -> str:
    """A topic of the test's own."""
    return f"rebind/{tmp_path.name}"


def config(
    broker: servers.Broker, data_dir: str, *tags: TagBinding, port: int = 0, **options: object
) -> ConnectionConfig:
    """A connection of the test's own."""
    access = {"username": broker.user, "password": broker.password, "timeout_s": 3}
    given = {"url": f"mqtt://{broker.host}:{port or broker.port}", **access, **options}
    return ConnectionConfig(Path(data_dir).parent.name, given, tags, 1, data_dir)


def of(batches: Sequence[Batch], number: int) -> list[float]:
    """All values of one tag."""
    return [v for b in batches for v in b.values[b.tags == number].tolist()]


def body(**values: float) -> bytes:
    """A payload."""
    return json.dumps(values).encode()


async def test_only_what_changed_is_subscribed_to(
    broker: servers.Broker, data_dir: str, topic: str, version: str
) -> None:
    """What is retained comes for new tags, on new topics and on old ones, and not again for those that stay."""
    a, b = TagBinding(1, f"{topic}/a#/x"), TagBinding(2, f"{topic}/b#/x")
    a_too, c = TagBinding(3, f"{topic}/a#/y"), TagBinding(4, f"{topic}/c#/x")
    d = TagBinding(5, f"{topic}/d#/x")
    for name in "abcd":
        await publish(broker, f"{topic}/{name}", body(x=1, y=2), retain=True)
    source = MqttSource(wanted := config(broker, data_dir, a, b, d, version=version))
    await source.connect()
    batches = await gather(source, lambda found: bool(of(found, 1) and of(found, 2) and of(found, 5)))
    assert await source.rebind(replace(wanted, tags=(a, a_too, c, d), revision=2))
    batches += await gather(source, lambda found: bool(of(found, 3) and of(found, 4)))
    await publish(broker, f"{topic}/b", body(x=9))
    await publish(broker, f"{topic}/a", body(x=5, y=6))
    batches += await gather(source, lambda found: bool(of(found, 3)))
    assert (of(batches, 1), of(batches, 2), of(batches, 3), of(batches, 4)) == ([1, 5], [1], [2, 6], [1])
    await publish(broker, f"{topic}/d", body(x=3))
    batches += await gather(source, lambda found: bool(of(found, 5)))
    assert of(batches, 5) == [1, 3]
    assert [one.revision for one in batches if len(one)][-1] == 2
    assert not refusals(batches)
    assert json.loads((Path(data_dir) / FILTERS_FILE).read_text()) == [f"{topic}/{one}" for one in "acd"]
    await source.close()
    await publish(broker, f"{topic}/b", body(x=10), retain=True)
    await publish(broker, f"{topic}/a", body(x=7, y=8), retain=True)
    again = MqttSource(replace(wanted, tags=(a, a_too, c, d), revision=2))
    await again.connect()
    found = await gather(again, lambda found: 7.0 in of(found, 1))
    assert all(one.continues for one in found), "the session was kept"
    assert not refusals(found)
    await again.close()


async def test_the_revision_changes_between_two_messages(
    broker: servers.Broker, data_dir: str, topic: str, version: str
) -> None:
    """What had arrived before is read with the tags and under the revision of before, what arrives later is not."""
    before, after = TagBinding(1, f"{topic}#/x"), TagBinding(2, f"{topic}#/y")
    source = MqttSource(wanted := config(broker, data_dir, before, version=version))
    await source.connect()
    await gather(source, lambda _: True)
    await publish(broker, topic, *(body(x=n, y=n) for n in range(10)))
    async with asyncio.timeout(10):
        while len(source._waiting) < 10:  # noqa: SLF001 - they have arrived, and nobody has read them
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.01)
    assert await source.rebind(replace(wanted, tags=(after,), revision=2))
    await publish(broker, topic, *(body(x=n, y=n) for n in range(10, 20)))
    batches = await gather(source, lambda found: 19.0 in of(found, 2))
    assert of([b for b in batches if b.revision == 1], 1) == [float(n) for n in range(10)]
    assert of([b for b in batches if b.revision == 2], 2) == [float(n) for n in range(10, 20)]
    assert len(of(batches, 1) + of(batches, 2)) == 20
    await source.close()


async def test_more_waits_than_may(broker: servers.Broker, data_dir: str, topic: str) -> None:
    """A connection that reads no more because too much waits takes other tags all the same: the answer is behind it."""
    tag, other = TagBinding(1, f"{topic}#/x"), TagBinding(2, f"{topic}/other#/x")
    source = MqttSource(wanted := config(broker, data_dir, tag, max_waiting=5))
    await source.connect()
    await publish(broker, topic, *(body(x=n) for n in range(15)))
    async with asyncio.timeout(10):
        while len(source._waiting) < 5:  # noqa: SLF001 - it has paused
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.01)
    assert await source.rebind(replace(wanted, tags=(tag, other), revision=2))
    await publish(broker, f"{topic}/other", body(x=99))
    batches = await gather(source, lambda found: 99.0 in of(found, 2) and 14.0 in of(found, 1))
    assert of(batches, 1) == [float(n) for n in range(15)]
    await source.close()


async def test_values_flow_meanwhile(broker: servers.Broker, data_dir: str, topic: str, version: str) -> None:
    """Topics come and go while messages flow on one that stays: each of them arrives once, in order."""
    stays = TagBinding(1, f"{topic}/stays#/x")
    source = MqttSource(wanted := config(broker, data_dir, stays, version=version))
    await source.connect()
    flowing = asyncio.create_task(publish(broker, f"{topic}/stays", *(body(x=n) for n in range(3000))))
    batches: list[Batch] = []
    number = 0
    while not flowing.done():
        number += 1
        comes = TagBinding(1 + number, f"{topic}/{number}#/x")
        assert await source.rebind(replace(wanted, tags=(stays, comes), revision=1 + number))
        batches.append(await source.read())
        await batches[-1].ack()
    batches += await gather(source, lambda found: 2999.0 in of([*batches, *found], 1))
    assert number > 3
    assert of(batches, 1) == [float(n) for n in range(3000)]
    await source.close()


async def test_what_takes_a_new_connection(broker: servers.Broker, data_dir: str, topic: str) -> None:
    """Under `subscriptions` a new tag has no topic to subscribe to; one that is taken away needs none."""
    a, b = TagBinding(1, f"{topic}/a#/x"), TagBinding(2, f"{topic}/b#/x")
    wanted = config(broker, data_dir, a, subscriptions=[{"filter": f"{topic}/#"}])
    source = MqttSource(wanted)
    assert not await source.rebind(replace(wanted, tags=(), revision=2)), "not connected"
    await source.connect()
    assert not await source.rebind(replace(wanted, tags=(a, b), revision=2))
    assert await source.rebind(replace(wanted, tags=(), revision=2))
    await publish(broker, f"{topic}/a", body(x=1))
    await publish(broker, f"{topic}/b", body(x=1))
    batches = await gather(source, lambda found: bool(refusals(found)))
    assert [one.address for one in refusals(batches)] == [f"{topic}/b"], "nobody wants what a tag has left"
    await source.close()


async def test_lost_half_way(broker: servers.Broker, broker_gate: Gate, data_dir: str, topic: str) -> None:
    """A broker that does not answer ends it with NotConnectedError; the filters of both are remembered until then."""
    a, b = TagBinding(1, f"{topic}/a#/x"), TagBinding(2, f"{topic}/b#/x")
    source = MqttSource(wanted := config(broker, data_dir, a, port=broker_gate.port, timeout_s=1))
    await source.connect()
    await gather(source, lambda _: True)
    broker_gate.freeze()
    with pytest.raises(NotConnectedError):
        await source.rebind(replace(wanted, tags=(b,), revision=2))
    assert json.loads((Path(data_dir) / FILTERS_FILE).read_text()) == [f"{topic}/a", f"{topic}/b"]
    await broker_gate.cut()
    await source.close()
    with pytest.raises(ValueError, match="does not begin"):
        await source.rebind(replace(wanted, tags=(TagBinding(3, f"{topic}#x"),), revision=3))


async def test_exactly_once_is_subscribed_as_one_for_new_tags_too(
    broker: servers.Broker, data_dir: str, topic: str, version: str
) -> None:
    """What a device publishes at QoS 2 comes to a topic of a living connection at QoS 1, acknowledged after us."""
    gate = MessageGate(broker.host, broker.port, PACKETS)
    await gate.start()
    a, b = TagBinding(1, f"{topic}/a#/x"), TagBinding(2, f"{topic}/b#/x")
    source = MqttSource(wanted := config(broker, data_dir, a, port=gate.port, version=version, qos=2))
    await source.connect()
    assert await source.rebind(replace(wanted, tags=(a, b), revision=2))
    await twice_sure(broker, f"{topic}/b", body(x=4))
    assert of(await gather(source, lambda found: bool(of(found, 2))), 2) == [4]
    await source.close()
    await gate.close()
    assert not [str(step) for step in gate.steps if "PUBREC" in str(step)]


async def twice_sure(broker: servers.Broker, topic: str, payload: bytes) -> None:
    """Publish at QoS 2."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(broker.user, broker.password)
    client.connect(broker.host, broker.port)
    client.loop_start()
    sent = client.publish(topic, payload, qos=2)
    await asyncio.to_thread(sent.wait_for_publish, 10)
    client.disconnect()
    client.loop_stop()
