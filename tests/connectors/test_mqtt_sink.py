"""The MQTT sink against a real broker: taken means taken, order is kept, an outage is told."""

from __future__ import annotations

import asyncio

import pytest

from app.launcher import servers
from app.selftest.gate import Gate
from connectors import ConnectionConfig, NotConnectedError, Publication, TagBinding
from connectors.mqtt.look import look
from connectors.mqtt.sink import MqttSink
from connectors.mqtt.source import MqttSource
from tests.connectors.mqtt_publisher import north, publish

pytestmark = pytest.mark.asyncio(loop_scope="session")


def publications(topic: str, count: int, **options: bool) -> list[Publication]:
    """Numbers in order."""
    return [Publication(str(n), topic, topic, str(n).encode(), "application/json", **options) for n in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_taken_in_order(broker: servers.Broker, data_dir: str, version: str) -> None:
    """A thousand publications with ten under way at once arrive completely and in order."""
    topic = f"sink/order/{version}"
    options = north(broker, f"reader-{version}").options
    source = MqttSource(ConnectionConfig(f"reader-{version}", options, (TagBinding(1, topic),), 1, data_dir))
    await source.connect()
    sink = MqttSink(north(broker, f"writer-{version}", version=version, in_flight=10))
    await sink.connect()
    await sink.publish(publications(topic, 1000))
    found: list[float] = []
    async with asyncio.timeout(10):
        while len(found) < 1000:
            batch = await source.read()
            found += batch.values.tolist()
            await batch.ack()
    assert found == [float(n) for n in range(1000)]
    await sink.close()
    await source.close()


@pytest.mark.parametrize(("everything", "one"), [(True, False), (False, True)])
async def test_retained(broker: servers.Broker, data_dir: str, *, everything: bool, one: bool) -> None:
    """What is retained is there for whoever comes later, whether the sink or the publication asks for it."""
    topic = f"sink/retained/{everything}"
    sink = MqttSink(north(broker, "retainer", retain=everything))
    await sink.connect()
    await sink.publish(publications(topic, 2, retain=one))
    await sink.close()
    options = {**north(broker, "late").options, "clean_session": True}
    late = MqttSource(ConnectionConfig("late", options, (TagBinding(1, topic),), 1, data_dir))
    await late.connect()
    async with asyncio.timeout(10):
        while not len(batch := await late.read()):
            pass
    assert batch.values.tolist() == [1.0]
    await late.close()
    await publish(broker, topic, b"", retain=True)


async def test_outage(broker: servers.Broker, broker_gate: Gate) -> None:
    """Publications under way when the broker is lost end in NotConnectedError, and so does the next attempt."""
    sink = MqttSink(north(broker, "unlucky", url=f"mqtt://127.0.0.1:{broker_gate.port}"))
    await sink.connect()
    broker_gate.freeze()
    publishing = asyncio.create_task(sink.publish(publications("sink/outage", 10)))
    await asyncio.sleep(0)
    await broker_gate.cut()
    with pytest.raises(NotConnectedError):
        await publishing
    with pytest.raises(NotConnectedError):
        await sink.publish(publications("sink/outage", 1))
    await broker_gate.start()
    await sink.connect()
    await sink.publish(publications("sink/outage", 10))
    await sink.close()


async def test_never_taken(broker: servers.Broker, broker_gate: Gate) -> None:
    """A broker that takes nothing is an outage after the time-out: publish does not wait for ever."""
    sink = MqttSink(north(broker, "patient", url=f"mqtt://127.0.0.1:{broker_gate.port}", timeout_s=0.5))
    await sink.connect()
    broker_gate.freeze()
    with pytest.raises(NotConnectedError):
        await sink.publish(publications("sink/never", 1))
    await broker_gate.cut()
    await sink.close()


async def test_look(broker: servers.Broker) -> None:
    """A look lists topics and values with types, proposes the source time, and says what is not JSON."""
    for body in (
        b'{"t": 1795500000000, "v": {"a/b": 1.5, "on": true}, "s": [1, 2]}',
        b'{"t": 1795500000001, "v": {"a/b": 2, "on": false}}',
    ):
        await publish(broker, "look/a", body, retain=True)
    await publish(broker, "look/b", b"RUNNING", retain=True)
    found = await look(
        f"mqtt://{broker.host}:{broker.port}", 0.5, username=broker.user, password=broker.password, filter="look/#"
    )
    shown = {f.address: (f.datatype, f.value) for f in found.found}
    assert shown == {
        "look/a#/v/a~1b": ("float", "2"),
        "look/a#/v/on": ("boolean", "false"),
        "look/b": ("string", "RUNNING"),
    }
    assert any("look/a: /t looks like the source time, `time_format: ms`" in note for note in found.notes)
    assert "look/b: text" in found.notes
    assert found.bytes_received > 0
    assert found.clock_offset_ns is None
    for topic in ("look/a", "look/b"):
        await publish(broker, topic, b"", retain=True)


async def test_look_at_nobody(broker_gate: Gate) -> None:
    """Looking at nobody says so."""
    await broker_gate.cut()
    with pytest.raises(NotConnectedError):
        await look(f"mqtt://127.0.0.1:{broker_gate.port}", 0.2)
