"""Events and conditions of a real server become events of the contract, each once, and are never acknowledged by us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, PlantEvent, TagBinding
from connectors.opcua.alarms import FIELDS, Alarms
from connectors.opcua.notification import EventFields
from connectors.opcua.options import EventOptions, Options
from connectors.opcua.source import OpcUaSource
from connectors.opcua.variant import Text
from tests.connectors.opcua_alarms import LEVEL, alarm, tell
from tests.connectors.opcua_open62541 import open62541
from tests.connectors.opcua_plant import URI, Plant, opcua_plant

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 15.0
LEVEL_TAG = TagBinding(1, f"nsu={URI};s=Level")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def alarming(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """A server that has alarms and tells their states when asked."""
    none = [ua.SecurityPolicyType.NoSecurity]
    async with opcua_plant(tmp_path_factory.mktemp("alarming"), none, conditions=True) as plant:
        yield plant


def made(url: str, data_dir: str, *tags: TagBinding, **events: object) -> OpcUaSource:
    """A source that takes events; not connected."""
    options = {"url": url, "security": "None", "publishing_interval_ms": 20, "timeout_s": 3, "events": events}
    return OpcUaSource(ConnectionConfig("plant", options, tags, 1, data_dir))


@asynccontextmanager
async def connected(
    url: str, data_dir: str, *tags: TagBinding, **events: object
) -> AsyncIterator[OpcUaSource]:
    """A source that takes events, connected, and closed in the end."""
    source = made(url, data_dir, *tags, **events)
    await source.connect()
    try:
        yield source
    finally:
        await source.close()


async def gather(source: OpcUaSource, enough: Callable[[list[PlantEvent]], bool]) -> list[Batch]:
    """Acknowledged batches until their events are enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not enough([one for batch in batches for one in batch.events]):
            batch = await source.read()
            await batch.ack()
            batches.append(batch)
    return batches


def events(batches: list[Batch]) -> list[PlantEvent]:
    """All of them."""
    return [one for batch in batches for one in batch.events]


async def test_a_plain_event(alarming: Plant, data_dir: str) -> None:
    """An event arrives with its own id, type, source, time, text and severity, beside the readings."""
    async with connected(alarming.url, data_dir, LEVEL_TAG) as source:
        wanted = await tell(alarming, "pump started", 300)
        await alarming.write("Level", 3.5)
        batches = await gather(source, lambda found: any(one.id == wanted for one in found))
    event = next(one for one in events(batches) if one.id == wanted)
    assert (event.message, event.severity, event.source) == ({"en": "pump started"}, 300, "Server")
    assert (event.type, event.source_node, event.condition) == ("i=2041", "i=2253", None)
    now = datetime.now(UTC).timestamp() * 1e9
    assert abs(event.time - now) < SOON_S * 1e9
    assert abs(event.receive_time - now) < SOON_S * 1e9


async def test_states_of_a_condition(alarming: Plant, data_dir: str) -> None:
    """An alarm's states arrive one after the other, with its name, its id by namespace URI, and Chinese text whole."""
    high = await alarm(alarming, "Tank1")
    async with connected(alarming.url, data_dir) as source:
        ids = [await high.tell(active=True, acked=False), await high.tell(active=True, acked=True)]
        ids.append(await high.tell(active=False, acked=True, retain=False))
        batches = await gather(source, lambda found: {one.id for one in found} >= set(ids))
    told = [one for one in events(batches) if one.id in ids]
    assert [one.id for one in told] == ids
    states = [one.condition for one in told]
    assert all(one is not None for one in states)
    assert [(one.active, one.acked, one.retain) for one in states if one] == [
        (True, False, True), (True, True, True), (False, True, False),
    ]  # fmt: skip
    first = states[0]
    assert first is not None
    assert (first.id, first.name, first.branch) == (f"nsu={URI};s=Tank1.Alarm", "Tank1 high", "")
    assert (first.enabled, first.confirmed) == (True, None)
    assert {tuple(one.message.items()) for one in told} == {(("zh-CN", LEVEL),)}


async def test_present_states_after_connecting(alarming: Plant, data_dir: str) -> None:
    """What was active before we came is told at once, under the id it had, each time we come anew."""
    high = await alarm(alarming, "Tank2")
    wanted = await high.tell(active=True, acked=False)
    for _ in range(2):
        async with connected(alarming.url, data_dir, severity=100) as source:
            batches = await gather(source, lambda found: any(one.id == wanted for one in found))
        assert [one.id for one in events(batches) if one.id == wanted] == [wanted]
    await high.tell(active=False, acked=True, retain=False)


async def test_severity_and_types(alarming: Plant, data_dir: str) -> None:
    """Only events of the chosen types, subtypes included, and from the chosen severity on are taken."""
    high = await alarm(alarming, "Tank3")
    chosen = {"severity": 500, "types": [f"i={ObjectIds.AcknowledgeableConditionType}"]}
    async with connected(alarming.url, data_dir, **chosen) as source:
        other = [await tell(alarming, "not of this type", 900), await high.tell(active=True, acked=False, severity=499)]
        wanted = await high.tell(active=True, acked=True, severity=500)
        batches = await gather(source, lambda found: any(one.id == wanted for one in found))
    assert not {one.id for one in events(batches)} & set(other)
    await high.tell(active=False, acked=True, retain=False, severity=500)


async def test_a_server_without_filters() -> None:
    """What a server sends although it was not asked for is left out; an event without its fields is told of."""
    alarms = Alarms(EventOptions(severity=500), "opc.tcp://x:4840")
    told = {"event_id": b"\x01", "type": "ns=1;i=7", "source": "Tank", "time": 5_000, "message": Text("", "full")}
    names = [name for name, _, _ in FIELDS]
    mild, strong = (EventFields(0, tuple({**told, "severity": n}.get(name) for name in names)) for n in (499, 500))
    found, refused = alarms.events([mild, strong, EventFields(0, (1, 2))], ["", "urn:x"], 9)
    assert [(one.id, one.severity, one.type, one.time) for one in found] == [("01", 500, "nsu=urn:x;i=7", 5_000)]
    assert (found[0].message, found[0].condition) == ({"": "full"}, None)
    assert [(one.reason, one.readings) for one in refused] == [("event_undecodable", 0)]
    nameless = EventFields(0, tuple({**told, "event_id": None, "time": None}.get(name) for name in names))
    twice, _ = alarms.events([nameless, nameless], [], 9)
    assert (twice[0], twice[0].time, len(twice[0].id)) == (twice[1], 9, 64)


async def test_off_by_default(alarming: Plant, data_dir: str) -> None:
    """Without `events:` no event item is made."""
    options = {"url": alarming.url, "security": "None", "publishing_interval_ms": 20}
    source = OpcUaSource(ConnectionConfig("plant", options, (LEVEL_TAG,), 1, data_dir))
    await source.connect()
    try:
        newest = max(alarming.subscriptions().items())[1]
        assert not newest.monitored_item_srv._monitored_events  # noqa: SLF001 - looking into the peer
    finally:
        await source.close()


async def test_acknowledged_after_the_journal(alarming: Plant, data_dir: str) -> None:
    """A notification of events alone stays at the server until its batch is acknowledged."""
    async with connected(alarming.url, data_dir) as source:
        wanted = await tell(alarming, "kept")
        async with asyncio.timeout(SOON_S):
            batch = await source.read()
            while wanted not in {one.id for one in batch.events}:
                await batch.ack()
                batch = await source.read()
        assert alarming.unacknowledged()
        await batch.ack()
        batches = await gather(source, lambda _: not alarming.unacknowledged())
        # The server also forgets what it was asked for again: nothing may have been missed to that end.
        batches += await gather(source, lambda _: True)
        await tell(alarming, "next")
        batches += await gather(source, bool)
    assert not any(one.lost for one in batches)


async def test_an_outage(alarming: Plant, data_dir: str) -> None:
    """What happens while the connection is cut arrives after it; what is told again has the id it had."""
    gate = Gate(alarming.host, alarming.port)
    await gate.start()
    source = made(f"opc.tcp://127.0.0.1:{gate.port}/tests", data_dir)
    await source.connect()
    try:
        before = await tell(alarming, "before")
        batches = await gather(source, lambda found: any(one.id == before for one in found))
        await gate.cut()
        meanwhile = await tell(alarming, "meanwhile")
        await gate.start()
        await source.connect()
        batches += await gather(source, lambda found: any(one.id == meanwhile for one in found))
    finally:
        await source.close()
        await gate.cut()
    assert {one.id for one in events(batches)} == {before, meanwhile}


async def test_a_notifier_that_is_none(alarming: Plant, data_dir: str) -> None:
    """A node that tells of no events is named to the operator, and the readings go on."""
    async with connected(alarming.url, data_dir, LEVEL_TAG, notifiers=[f"nsu={URI};s=Nobody"]) as source:
        batches = await gather(source, lambda _: True)
        async with asyncio.timeout(SOON_S):
            while not any(len(batch) for batch in batches):
                batches.append(await source.read())
        assert any("Nobody" in note for note in source.tend())


async def test_what_runs_over(alarming: Plant, data_dir: str) -> None:
    """Events that the server's queue could not hold are told of among the dead letters, and cost no reading."""
    overflow = ObjectIds.EventQueueOverflowEventType
    found: list[Any] = []
    async with connected(alarming.url, data_dir) as source:
        await tell(alarming, "overflow", 500, overflow)
        async with asyncio.timeout(SOON_S):
            while not found:
                found += (await source.read()).refused
    assert [(one.reason, one.readings) for one in found] == [("events_lost", 0)]


async def test_another_make_of_server(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> None:
    """Events of open62541, which keeps no conditions, arrive as well, from the wanted severity on."""
    folder = tmp_path_factory.mktemp("other")
    async with open62541(folder, "tests.connectors.opcua_open62541_types") as other:
        async with connected(other.url, data_dir, severity=200) as source:
            other.say("199 too mild")
            other.say(f"800 {LEVEL}")
            batches = await gather(source, bool)
            assert any("present state" in note for note in source.tend())
        (event,) = events(batches)
    assert (event.message, event.severity, event.type, event.source_node) == ({"zh-CN": LEVEL}, 800, "i=2041", "i=2253")
    assert len(event.id) == 32
    assert event.condition is None


@pytest.mark.parametrize("wrong", [{"severity": 0}, {"notifiers": []}, {"types": ["Alarm"]}, {"acknowledge": True}])
async def test_options(wrong: dict[str, object]) -> None:
    """What cannot be meant is refused with the options, before anything is opened."""
    with pytest.raises(ValueError, match="events"):
        Options.model_validate({"url": "opc.tcp://127.0.0.1:4840", "events": wrong})
