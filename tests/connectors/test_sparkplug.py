"""The Sparkplug host against a real broker and real edge nodes: state, births, deaths, outages, requests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from app.launcher import servers
from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, NotConnectedError, Status, TagBinding
from connectors.sparkplug.source import SparkplugSource
from tests.connectors.mqtt_publisher import publish
from tests.connectors.sparkplug_edge import DOUBLE, INT64, STRING, Edge, metric, payload
from tests.connectors.sparkplug_listener import Heard, listening
from tests.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 10.0
BAD = Status.BAD_NO_COMMUNICATION


@pytest.fixture(params=["3.1.1", "5"])
def version(request: pytest.FixtureRequest) -> str:
    """Both versions of MQTT."""
    return str(request.param)


@pytest.fixture
def group(tmp_path: Path) -> str:
    """A group of the test's own, which is its host's name too."""
    return f"sparkplug-{tmp_path.name}"


@pytest_asyncio.fixture(loop_scope="session")
async def edge(broker: servers.Broker, group: str) -> AsyncIterator[Edge]:
    """A node that has two metrics and a device with one; not connected yet."""
    made = Edge(
        broker,
        group,
        metrics={"a": (DOUBLE, 1.0), "n": (INT64, 2**60 + 1)},
        devices={"Press": {"Motor/State": (STRING, "停")}},
    )
    yield made
    await asyncio.to_thread(made.die)


def source_of(broker: servers.Broker, group: str, port: int = 0, **options: object) -> SparkplugSource:
    """A host with a tag on each of the node's metrics."""
    given = {
        "url": f"sparkplug://{broker.host}:{port or broker.port}",
        "username": broker.user,
        "password": broker.password,
        "timeout_s": 3,
        "host_id": group,
        "client_id": group,
        "groups": [group],
        **options,
    }
    tags = (
        TagBinding(1, f"{group}/edge#a"),
        TagBinding(2, f"{group}/edge#n", "integer"),
        TagBinding(3, f"{group}/edge/Press#Motor/State", "string"),
    )
    return SparkplugSource(ConnectionConfig(group, given, tags, 1, ""))


@asynccontextmanager
async def connected(
    broker: servers.Broker, group: str, port: int = 0, **options: object
) -> AsyncIterator[SparkplugSource]:
    """A host that is online, and says goodbye in the end."""
    source = source_of(broker, group, port, **options)
    await source.connect()
    try:
        yield source
    finally:
        await source.close()


async def begin(edge: Edge) -> None:
    """The node connects, and its births are over when this returns: who comes later has to ask."""
    async with listening(edge.broker, f"spBv1.0/{edge.group}/#") as heard:
        await asyncio.to_thread(edge.connect)
        await wait_for(lambda: len(heard) == 2)


async def gather(source: SparkplugSource, enough: Callable[[list[Batch]], bool], *, ack: bool = True) -> list[Batch]:
    """Batches until there are enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not enough(batches):
            batches.append(await source.read())
            if ack:
                await batches[-1].ack()
    return batches


def values(batches: Sequence[Batch], tag: int) -> list[object]:
    """What a tag said: its value, or its status where that is Bad."""
    return [
        code if code >> 30 == 2 else batch.others.get(row, batch.values[row])
        for batch in batches
        for row, (of, code) in enumerate(zip(batch.tags.tolist(), batch.status.tolist(), strict=True))
        if of == tag
    ]


def all_three(batches: Sequence[Batch]) -> bool:
    """Each tag has said something."""
    return all(values(batches, tag) for tag in (1, 2, 3))


async def test_a_node_that_was_there_before(broker: servers.Broker, edge: Edge, group: str, version: str) -> None:
    """A node that knows nothing of us is asked for its births, and each tag has its value, exactly; then data comes."""
    await begin(edge)
    async with connected(broker, group, version=version) as source:
        batches = await gather(source, all_three)
        assert [values(batches, tag)[-1] for tag in (1, 2, 3)] == [1.0, 2**60 + 1, "停"]
        assert [one.continues for one in batches].count(False) == 1, "nobody kept what came"
        await asyncio.to_thread(edge.change, "a", 2.5)
        await asyncio.to_thread(edge.change, "Motor/State", "开", "Press")
        batches = await gather(source, lambda b: bool(values(b, 3)))
    assert [values(batches, tag) for tag in (1, 2, 3)] == [[2.5], [], ["开"]]
    assert len(edge.commands) == 1
    assert b"Node Control/Rebirth" in edge.commands[0]


async def test_a_death_and_a_return(broker: servers.Broker, edge: Edge, group: str, version: str) -> None:
    """A node that is cut off: its will makes each tag Bad at once, and its return makes it good again."""
    edge.obedient = False
    async with connected(broker, group, version=version) as source:
        await asyncio.to_thread(edge.connect)
        await gather(source, all_three)
        before = time.time_ns()
        await asyncio.to_thread(edge.die)
        batches = await gather(source, all_three)
        assert [values(batches, tag) for tag in (1, 2, 3)] == [[BAD]] * 3
        died_at = {int(t) for b in batches for t in b.source_time}
        assert all(before <= at <= time.time_ns() for at in died_at)
        await gather(source, lambda b: bool(b) and not len(b[-1]))
        await asyncio.to_thread(edge.connect)
        batches = await gather(source, all_three)
    assert [values(batches, tag) for tag in (1, 2, 3)] == [[1.0], [2**60 + 1], ["停"]]
    assert edge.session == 1


async def test_silence_is_not_life(broker: servers.Broker, group: str) -> None:
    """While nobody told us of the tags nothing is alive; after the wait they are Bad, and that is certain."""
    async with connected(broker, group, birth_wait_s=1) as source:
        begun = time.time_ns()
        (first, *_) = await gather(source, bool)
        assert [values([first], tag) for tag in (1, 2, 3)] == [[BAD]] * 3
        assert first.received_time - begun > 0.5e9
        assert first.alive_until <= first.received_time
        beats = await gather(source, lambda b: len(b) >= 2)
    assert not any(len(b) for b in beats)
    assert beats[0].alive_until < beats[1].alive_until


async def test_a_missing_number(broker: servers.Broker, edge: Edge, group: str) -> None:
    """A message that is lost on the way is counted, the next is not, and the node sends its births again."""
    await begin(edge)
    async with connected(broker, group, reorder_timeout_s=0.2, rebirth_pause_s=1) as source:
        await gather(source, all_three)
        edge.seq = (edge.seq + 2) % 256
        await asyncio.to_thread(edge.change, "a", 7.0)
        batches = await gather(source, lambda b: values(b, 1).count(7.0) == 2 and bool(values(b, 3)))
    assert sum(b.lost for b in batches) == 2
    assert len(edge.commands) == 2
    assert set(values(batches, 3)) == {"停"}


async def test_asking_is_switched_off(broker: servers.Broker, edge: Edge, group: str) -> None:
    """With `rebirth: false` nothing at all goes to a node, not even when its data cannot be understood."""
    await begin(edge)
    async with (
        listening(broker, f"spBv1.0/{group}/NCMD/#") as heard,
        connected(broker, group, rebirth=False, birth_wait_s=1) as source,
    ):
        await asyncio.to_thread(edge.change, "a", 2.0)
        batches = await gather(source, lambda b: bool(values(b, 1)) and any(one.refused for one in b))
        assert values(batches, 1) == [BAD]
        assert {r.reason for b in batches for r in b.refused} == {"unknown_alias"}
    assert heard == []
    assert edge.commands == []


async def test_a_gap_goes_on_until_the_births(broker: servers.Broker, edge: Edge, group: str) -> None:
    """Data before them is refused and no sign of life; they say that something is missing, and end it."""
    edge.obedient = False
    await begin(edge)
    async with connected(broker, group) as source:
        await asyncio.to_thread(edge.change, "a", 2.0)
        (refused,) = await gather(source, bool)
        assert [one.reason for one in refused.refused] == ["unknown_alias"]
        assert (refused.continues, refused.alive_until) == (True, 0)
        await asyncio.to_thread(edge.births)
        batches = await gather(source, all_three)
        (place,) = [i for i, one in enumerate(batches) if not one.continues]
        told = batches[place]
        assert refused.received_time < told.alive_until <= told.received_time
        assert [one.alive_until for one in batches[:place]] == [0] * place
        await asyncio.to_thread(edge.change, "a", 3.0)
        (data,) = await gather(source, lambda b: bool(values(b, 1)))
    assert data.continues
    assert data.alive_until >= told.alive_until


async def test_after_an_outage_the_gap_begins_where_the_last_connection_was_alive(
    broker: servers.Broker, broker_gate: Gate, edge: Edge, group: str
) -> None:
    """Data that comes before the births is no sign of life, though its connection stands."""
    await begin(edge)
    async with connected(broker, group, broker_gate.port) as source:
        before = await gather(source, all_three)
        await broker_gate.cut()
        with pytest.raises(NotConnectedError):
            before += await gather(source, lambda _: False)
        edge.obedient = False
        await broker_gate.start()
        await source.connect()
        await asyncio.to_thread(edge.change, "a", 5.0)
        (refused,) = await gather(source, bool)
        assert (len(refused), refused.continues) == (0, True)
        assert refused.alive_until == before[-1].alive_until
        await asyncio.to_thread(edge.births)
        after = await gather(source, all_three)
    assert [one.continues for one in after].count(False) == 1


async def test_state(broker: servers.Broker, group: str, version: str) -> None:
    """Online with QoS 1 and retained; offline at a later time in a clean stop; and nothing else is ever published."""
    topic = f"spBv1.0/STATE/{group}"
    async with listening(broker, topic) as heard:
        before = time.time_ns() // 1_000_000
        async with connected(broker, group, version=version):
            await wait_for(lambda: len(heard) == 1)
            async with listening(broker, topic) as retained:
                await wait_for(lambda: retained)
                assert retained == [Heard(topic, heard[0].body, qos=1, retain=True)]
        await wait_for(lambda: len(heard) == 2)
    online, offline = (json.loads(one.body) for one in heard)
    assert (set(online), online["online"], offline["online"]) == ({"online", "timestamp"}, True, False)
    assert before <= online["timestamp"] <= offline["timestamp"] <= time.time_ns() // 1_000_000
    assert {one.qos for one in heard} == {1}


async def test_will(broker: servers.Broker, broker_gate: Gate, group: str, version: str) -> None:
    """When we are killed the broker says that we are offline, with the very time of our birth."""
    topic = f"spBv1.0/STATE/{group}"
    async with (
        listening(broker, topic) as heard,
        connected(broker, group, broker_gate.port, version=version, birth_wait_s=600) as source,
    ):
        await wait_for(lambda: len(heard) == 1)
        await broker_gate.cut()
        await wait_for(lambda: len(heard) == 2)
        with pytest.raises(NotConnectedError):
            await gather(source, lambda _: False)
    online, offline = (json.loads(one.body) for one in heard)
    assert (online["online"], offline["online"]) == (True, False)
    assert online["timestamp"] == offline["timestamp"]


async def test_somebody_sets_us_offline(broker: servers.Broker, group: str, version: str) -> None:
    """An old message that says we are offline is answered at once; a newer one makes us connect anew, and later."""
    topic = f"spBv1.0/STATE/{group}"
    async with listening(broker, topic) as heard, connected(broker, group, version=version) as source:
        await wait_for(lambda: len(heard) == 1)
        mine = json.loads(heard[0].body)["timestamp"]
        await publish(broker, topic, json.dumps({"online": False, "timestamp": mine - 5}).encode(), retain=True)
        await wait_for(lambda: len(heard) == 3)
        assert heard[2].body == heard[0].body
        await publish(broker, topic, b"no json", b'{"online": "no"}', json.dumps({"online": True}).encode())
        newer = mine + 60_000
        await publish(broker, topic, json.dumps({"online": False, "timestamp": newer}).encode(), retain=True)
        with pytest.raises(NotConnectedError, match="newer time"):
            await gather(source, lambda _: False)
        await source.connect()
        await wait_for(lambda: json.loads(heard[-1].body) == {"online": True, "timestamp": newer + 1})
        await source.close()
        await wait_for(lambda: json.loads(heard[-1].body) == {"online": False, "timestamp": newer + 1})


async def test_an_outage(broker: servers.Broker, broker_gate: Gate, edge: Edge, group: str, version: str) -> None:
    """After a cut the next connection asks again, and every tag has its value of now."""
    await begin(edge)
    async with connected(broker, group, broker_gate.port, version=version, rebirth_pause_s=1) as source:
        before = await gather(source, all_three)
        await broker_gate.cut()
        with pytest.raises(NotConnectedError):
            await gather(source, lambda _: False)
        await asyncio.to_thread(edge.change, "a", 5.0)
        await broker_gate.start()
        await source.connect()
        after = await gather(source, all_three)
    assert values(after, 1)[-1] == 5.0
    assert after[0].alive_until >= before[-1].alive_until


async def test_nonsense_stops_nothing(broker: servers.Broker, edge: Edge, group: str, version: str) -> None:
    """Broken, too large, foreign and lawless messages are refused by name, and what is right arrives."""
    async with connected(broker, group, version=version, max_payload_bytes=5000, reorder_timeout_s=0.1) as source:
        await asyncio.to_thread(edge.connect)
        await gather(source, all_three)
        for kind, content in (
            ("NDATA", b"\xff\xfe broken"),
            ("NDATA", b"x" * 5001),
            ("NDATA", b"x" * 200_000),
            ("NDATA", payload(metric("a", STRING, "x"), metric("n", STRING, "x"))),
            ("NBIRTH", b"\xff"),
            ("NDEATH", b"\xff"),
            ("NOTHING", b""),
            ("NDATA", payload(metric("a", DOUBLE, 42.0))),
        ):
            await asyncio.to_thread(edge.publish, kind, content)
        batches = await gather(source, lambda b: 42.0 in values(b, 1))
    counted: dict[str, int] = {}
    for refusal in (r for b in batches for r in b.refused):
        counted[refusal.reason] = counted.get(refusal.reason, 0) + refusal.readings
    assert counted == {"broken_payload": 3, "too_large": 2, "wrong_type": 2}


async def test_little_memory(broker: servers.Broker, edge: Edge, group: str, version: str) -> None:
    """With room for few messages the socket is not read until they are taken, and none is lost."""
    edge.obedient = False
    async with connected(broker, group, version=version, max_waiting=5) as source:
        await asyncio.to_thread(edge.connect)
        await gather(source, all_three)
        for n in range(300):
            edge.change("a", float(n))
        batches = await gather(source, lambda b: len(values(b, 1)) >= 300)
    assert values(batches, 1) == [float(n) for n in range(300)]
    assert max(len(b) for b in batches) <= 5
    assert sum(b.lost for b in batches) == 0


async def test_acknowledged_when_told(broker: servers.Broker, group: str) -> None:
    """A message at QoS 1 stays unacknowledged until its batch is safe: the broker sends only so many beyond it."""
    bodies = [payload(metric("a", DOUBLE, float(n))) for n in range(20)]
    async with connected(broker, group, version="5", max_waiting=5, birth_wait_s=0.1) as source:
        await gather(source, all_three)
        await publish(broker, f"spBv1.0/{group}/NDATA/edge", *bodies)
        held = await gather(source, lambda b: len(values(b, 1)) >= 5, ack=False)
        assert len(values(held, 1)) == 5
        reading = asyncio.create_task(gather(source, lambda b: len(values(b, 1)) >= 15))
        await asyncio.sleep(0)
        assert not reading.done()
        for batch in held:
            await batch.ack()
        rest = await reading
    assert values(held + rest, 1) == [float(n) for n in range(20)]


async def test_a_retained_birth(broker: servers.Broker, edge: Edge, group: str) -> None:
    """A birth that the broker kept says what it is: old; the node's own makes it good."""
    await begin(edge)
    kept = payload(metric("a", DOUBLE, 0.5, alias=0), seq=0, time=edge.clock - 5000)
    await publish(broker, edge.topic("NBIRTH"), kept, retain=True)
    try:
        async with connected(broker, group) as source:
            batches = await gather(source, lambda b: len(values(b, 1)) >= 2)
    finally:
        await publish(broker, edge.topic("NBIRTH"), b"", retain=True)
    status = np.concatenate([b.status[b.tags == 1] for b in batches]).tolist()
    assert values(batches, 1) == [0.5, 1.0]
    assert status == [Status.UNCERTAIN_LAST_USABLE, Status.GOOD]
