"""The plant as a gateway meets it: real OPC UA, a real broker, and a log that equals what was published."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds

pytest.importorskip("tep_studio", reason="the extra `demo` is not installed: pip install headrace[demo]")

from app.launcher import servers
from examples.tep.compare import compare, read_log
from examples.tep.server import NAMESPACE, POINTS
from examples.tep.tags import ANALYSERS, COLUMNS, N_FAST
from tests.examples.peers import Listener, Running, free_port, running

if TYPE_CHECKING:
    from pathlib import Path

    from asyncua.common.node import Node
    from asyncua.common.subscription import DataChangeNotif

    from examples.ownlog import Entry

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLANT = "examples.tep.plant"
SECONDS = 60
FAST = [tag.name for tag in COLUMNS[:N_FAST]]

Start = Callable[..., Running]
Listen = Callable[[servers.Broker, str], Listener]


class Notes:
    """Keeps every data change of a subscription, and lets a test wait for one."""

    def __init__(self) -> None:
        """Nothing noted yet."""
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self._changed = asyncio.Event()

    def datachange_notification(self, node: Node, _: object, data: DataChangeNotif) -> None:
        """Called by asyncua."""
        value = data.monitored_item.Value
        time = (value.SourceTimestamp.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) * 1000
        self.entries[str(node.nodeid.Identifier)].append((time, value.Value.Value, value.StatusCode.value))
        self._changed.set()

    def numbers(self, name: str) -> list[float]:
        """The numbers this variable has had."""
        return [value for _, value, _ in self.entries[name] if isinstance(value, float)]

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until what was noted meets a condition."""
        async with asyncio.timeout(SECONDS):
            while not met():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def connected(plant: Running) -> AsyncIterator[tuple[Client, Callable[[str], Node]]]:
    """A client of the plant's server, and how to find a variable by its name."""
    async with Client(plant.ready) as client:
        index = await client.get_namespace_index(NAMESPACE)
        yield client, lambda name: client.get_node(ua.NodeId(ua.String(name), ua.Int16(index)))


async def subscribe(client: Client, nodes: list[Node]) -> Notes:
    """Every change of these variables from now on."""
    notes = Notes()
    subscription = await client.create_subscription(50, notes)
    await subscription.subscribe_data_change(nodes, queuesize=100, sampling_interval=ua.Double(0.0))
    return notes


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A plant without a broker whose transmitters never falter, for tests that touch only their own switches."""
    options = ("--opcua-port", str(free_port()), "--mqtt-port", str(free_port()), "--glitches-per-minute", "0")
    with running(PLANT, tmp_path_factory.mktemp("log"), *options) as made:
        yield made
        assert made.stop() == 0


async def test_every_variable_says_what_it_is(plant: Running) -> None:
    """Each variable has a value, a source time, a description; the measured ones their engineering unit."""
    async with connected(plant) as (_, node):
        for point in POINTS:
            variable = node(point.name)
            value = await variable.read_data_value(raise_on_bad_status=False)
            assert value.SourceTimestamp is not None
            assert await variable.read_data_type_as_variant_type() == point.kind
            if point.unit is not None:
                unit = await (await variable.get_child("0:EngineeringUnits")).read_value()
                assert (unit.DisplayName.Text, unit.UnitId) == (point.unit.text, point.unit.id)
        description = await node("XMEAS_07").read_attribute(AttributeIds.Description)
        assert description.Value is not None
        assert description.Value.Value.Text == "Reactor pressure, gauge"
        celsius = await (await node("XMEAS_09").get_child("0:EngineeringUnits")).read_value()
        assert celsius.UnitId == 4408652, "UN/CEFACT CEL as IEC 62541-8 numbers it"


async def test_a_fault_switch_is_read_back_and_acts(plant: Running) -> None:
    """Switching IDV(6) on over OPC UA reads back as on, and the flow of feed A goes away."""
    async with connected(plant) as (client, node):
        notes = await subscribe(client, [node("XMEAS_01")])
        await notes.until(lambda: len(notes.entries["XMEAS_01"]) > 3)
        assert all(flow > 0.2 for flow in notes.numbers("XMEAS_01"))
        assert await node("IDV_06").read_value() is False
        await node("IDV_06").write_value(value=True)
        assert await node("IDV_06").read_value() is True
        await notes.until(lambda: notes.numbers("XMEAS_01")[-1] < 0.05)
    assert [value for _, value, _ in read_log(plant.log)["IDV_06"]] == [False, True]


async def test_what_no_switch_can_take_is_refused(plant: Running) -> None:
    """A speed out of range, a number for a switch, a write to a measurement are refused; a good speed is taken."""
    async with connected(plant) as (_, node):
        with pytest.raises(ua.uaerrors.BadOutOfRange):
            await node("Speed").write_value(1000.5)
        with pytest.raises(ua.uaerrors.BadOutOfRange):
            await node("Speed").write_value(float("nan"))
        with pytest.raises(ua.uaerrors.BadTypeMismatch):
            await node("IDV_01").write_value(1.0)
        with pytest.raises(ua.uaerrors.BadUserAccessDenied):
            await node("XMEAS_07").write_value(2000.0)
        assert await node("Speed").read_value() == 360.0
        await node("Speed").write_value(720.0)
        assert await node("Speed").read_value() == 720.0


async def test_the_log_equals_what_was_published(
    start: Start, listen: Listen, broker: servers.Broker, port: int
) -> None:
    """Over both protocols every value arrives as the log has it, moments of Uncertain and Bad included."""
    inbox = listen(broker, "plant/tep/analyser/#")
    plant = start(PLANT, broker, "--opcua-port", str(port), "--period-ms", "50", "--glitches-per-minute", "1200")
    async with connected(plant) as (client, node):
        notes = await subscribe(client, [node(name) for name in [*FAST, "SimTime", "PlantState", "IDV_03"]])
        await node("IDV_03").write_value(value=True)
        await notes.until(lambda: len(notes.entries["SimTime"]) >= 60)
        messages = [await asyncio.to_thread(inbox.next) for _ in range(7)]
    assert plant.stop() == 0
    log = read_log(plant.log)
    last = min(entries[-1][0] for name, entries in notes.entries.items() if name in ("XMEAS_01", "SimTime"))
    found = compare(log, notes.entries, end=last)
    assert found.equal, (found.missing[:5], found.extra[:5])
    assert found.compared > 60 * 20
    severities = {status >> 30 for entries in notes.entries.values() for _, _, status in entries}
    assert severities == {0, 1, 2}
    stored: dict[str, list[Entry]] = defaultdict(list)
    for _, payload in messages:
        message = json.loads(payload)
        for name, value in message["values"].items():
            stored[name].append((message["t"] * 1_000_000, value, message["status"]))
    for name, entries in stored.items():
        assert compare(log, {name: entries}, end=max(entry[0] for entry in entries)).equal
    assert len(stored) == sum(len(analyser.tags) for analyser in ANALYSERS)


async def test_an_outage_of_the_broker_loses_no_analysis(
    start: Start, listen: Listen, tmp_path: Path, port: int
) -> None:
    """While the broker is gone the analyses wait; when it is back they all arrive, none missing in the sequence."""
    async with servers.broker(tmp_path) as broker:
        inbox = await asyncio.to_thread(listen, broker, "plant/tep/analyser/feed")
        plant = start(PLANT, broker, "--opcua-port", str(port), "--speed", "1000", "--glitches-per-minute", "0")
        numbers = {await _sequence_number(inbox) for _ in range(2)}
    async with connected(plant) as (client, node):
        notes = await subscribe(client, [node("SimTime")])
        began = (await node("SimTime").read_value()) + 0.5
        await notes.until(lambda: notes.numbers("SimTime")[-1] > began)
    async with servers.broker(tmp_path) as again:
        assert again == broker
        while max(numbers) < 12:
            numbers.add(await _sequence_number(inbox))
        assert plant.stop() == 0
    assert numbers == set(range(1, max(numbers) + 1))


async def _sequence_number(inbox: Listener) -> int:
    """That of the next analysis."""
    _, payload = await asyncio.to_thread(inbox.next)
    return int(json.loads(payload)["seq"])
