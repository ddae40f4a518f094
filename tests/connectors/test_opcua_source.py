"""The OPC UA source against a real server: what is kept, refused, missed, acknowledged and lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from asyncua import ua

from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, NotConnectedError, Refusal, Status, TagBinding
from connectors.opcua.options import TagOptions
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import URI, Plant

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_S = 10.0


def tag(number: int, node: str, datatype: str = "float", **options: object) -> TagBinding:
    """A tag on one of the plant's nodes."""
    return TagBinding(number, f"nsu={URI};s={node}", datatype, options)


@asynccontextmanager
async def connected(
    url: str, data_dir: str, tags: Sequence[TagBinding], **options: object
) -> AsyncIterator[OpcUaSource]:
    """A source that is connected, and closed in the end."""
    given = {"url": url, "security": "None", "publishing_interval_ms": 20, "timeout_s": 3, **options}
    source = OpcUaSource(ConnectionConfig("plant", given, tuple(tags), 1, data_dir))
    await source.connect()
    try:
        yield source
    finally:
        await source.close()


async def gather(source: OpcUaSource, enough: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Acknowledged batches until there are enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not enough(batches):
            batch = await source.read()
            await batch.ack()
            batches.append(batch)
    return batches


def values(batches: list[Batch], number: int) -> list[float]:
    """All values of one tag."""
    return [v for b in batches for v in b.values[b.tags == number].tolist()]


def refusals(batches: list[Batch]) -> list[Refusal]:
    """All that was refused."""
    return [r for b in batches for r in b.refused]


async def test_status_and_source_time_are_kept(plant: Plant, data_dir: str) -> None:
    """The server's StatusCode, info bits included, and its source time arrive as they were written."""
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
    async with connected(plant.url, data_dir, [tag(1, "Level")]) as source:
        await plant.write("Level", 17.25, 0x40930000, moment)
        batches = await gather(source, lambda b: 17.25 in values(b, 1))
    batch = next(b for b in batches if 17.25 in b.values)
    row = batch.values.tolist().index(17.25)
    assert batch.status[row] == 0x40930000
    assert batch.source_time[row] == 1772366400123456000


async def test_types(plant: Plant, data_dir: str) -> None:
    """Numbers and booleans are values, text and arrays others, and a serial number is never rounded."""
    kinds = [
        ("Count", "integer"),
        ("Running", "boolean"),
        ("Small", "float"),
        ("Serial", "integer"),
        ("Curve", "array"),
        ("When", "integer"),
    ]
    tags = [tag(n, name, kind) for n, (name, kind) in enumerate(kinds)]
    await plant.write("Serial", 2**63 + 1)
    await plant.write("Curve", [1.0, 2.5])
    async with connected(plant.url, data_dir, tags) as source:
        batches = await gather(source, lambda b: sum(len(x) for x in b) >= len(tags))
    found = {int(t): b.others.get(row, float(b.values[row])) for b in batches for row, t in enumerate(b.tags)}
    assert (found[0], found[1], found[2], found[3]) == (0.0, 0.0, 0.5, 2**63 + 1)
    assert np.array_equal(found[4], [1.0, 2.5])  # type: ignore[arg-type]
    assert found[5] == 1767225600_000_000_000
    assert not refusals(batches)


async def test_missing_node(plant: Plant, data_dir: str) -> None:
    """A node the server does not know, or whose namespace it does not know, is seen to be Bad; the others go on."""
    tags = [tag(1, "Level"), tag(2, "NoSuchNode"), TagBinding(3, "nsu=urn:nobody;s=Level")]
    async with connected(plant.url, data_dir, tags) as source:
        batches = await gather(source, lambda b: bool(values(b, 1)))
    bad = {int(t): int(s) for b in batches for t, s in zip(b.tags, b.status, strict=True) if t != 1}
    assert bad == {2: Status.BAD_NODE_ID_UNKNOWN, 3: Status.BAD_NODE_ID_UNKNOWN}


async def test_node_that_appears_later(plant: Plant, data_dir: str) -> None:
    """A node that was missing is asked for again at the next connect."""
    late = TagBinding(5, f"nsu={URI};s=Late")
    async with connected(plant.url, data_dir, [late]) as source:
        await gather(source, lambda b: bool(values(b, 5)))
        index = await plant.server.get_namespace_index(URI)
        await plant.server.nodes.objects.add_variable(f"ns={index};s=Late", "Late", 9.5)
        await source.connect()
        await gather(source, lambda b: 9.5 in values(b, 5))


async def test_no_number(plant: Plant, data_dir: str) -> None:
    """NaN with a Good status is refused with a reason; a Bad reading without a value is a reading."""
    async with connected(plant.url, data_dir, [tag(1, "Level"), tag(2, "Small")]) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        await plant.write("Level", float("nan"))
        await plant.write("Small", None, 0x808C0000)
        batches = await gather(source, lambda b: bool(refusals(b)) and bool(values(b, 2)))
    assert {(r.address, r.reason) for r in refusals(batches)} == {(f"nsu={URI};s=Level", "not_finite")}
    assert not values(batches, 1)
    bad = [int(s) for b in batches for t, s in zip(b.tags, b.status, strict=True) if t == 2]
    assert bad[-1] == 0x808C0000
    await plant.write("Level", 1.0)
    await plant.write("Small", 0.5)


async def test_boolean_in_a_number(plant: Plant, data_dir: str) -> None:
    """Each refused tag is named once per batch, with the number of readings."""
    async with connected(plant.url, data_dir, [tag(1, "Running", "float"), tag(2, "Level", "string")]) as source:
        batches = await gather(source, lambda b: len(refusals(b)) >= 2)
    reasons = {r.address: (r.reason, "Boolean" in r.detail, r.readings) for r in refusals(batches)}
    assert reasons == {f"nsu={URI};s=Running": ("wrong_type", True, 1), f"nsu={URI};s=Level": ("wrong_type", False, 1)}


async def test_every_change_arrives(plant: Plant, data_dir: str) -> None:
    """Two hundred changes within one publishing interval all arrive, in order: none is merged."""
    async with connected(plant.url, data_dir, [tag(1, "Level", queue_size=500)]) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        for number in range(200):
            await plant.write("Level", 1000.0 + number)
        batches = await gather(source, lambda b: len(values(b, 1)) >= 200)
    assert values(batches, 1) == [1000.0 + number for number in range(200)]


async def test_received_time(plant: Plant, data_dir: str) -> None:
    """With `use_received_time` a server's wrong clock is not believed."""
    async with connected(plant.url, data_dir, [tag(1, "Level")], use_received_time=True) as source:
        before = time.time_ns()
        await plant.write("Level", 33.5, 0, datetime(1970, 1, 2, tzinfo=UTC))
        batches = await gather(source, lambda b: 33.5 in values(b, 1))
    batch = next(b for b in batches if 33.5 in b.values)
    assert before <= batch.source_time.min() <= batch.received_time


async def test_timestamp_trigger(plant: Plant, data_dir: str) -> None:
    """`trigger: status_value_timestamp` reports the same value again when its source time is new."""
    async with connected(plant.url, data_dir, [tag(1, "Level", trigger="status_value_timestamp")]) as source:
        for second in range(3):
            await plant.write("Level", 77.0, 0, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC))
        batches = await gather(source, lambda b: values(b, 1).count(77.0) >= 3)
    times = [int(t) for b in batches for t, v in zip(b.source_time, b.values, strict=True) if v == 77.0]
    assert len(set(times)) == 3


async def test_deadband(plant: Plant, data_dir: str) -> None:
    """The server leaves out what moved by no more than `deadband`."""
    async with connected(plant.url, data_dir, [tag(1, "Level", deadband=2.0)]) as source:
        await plant.write("Level", 100.0)
        await gather(source, lambda b: 100.0 in values(b, 1))
        for value in (101.0, 100.5, 110.0):
            await plant.write("Level", value)
        batches = await gather(source, lambda b: 110.0 in values(b, 1))
    assert values(batches, 1) == [110.0]


async def test_a_deadband_in_percent_is_asked_for(plant: Plant, data_dir: str) -> None:
    """With its type and value, as the server was told."""
    async with connected(plant.url, data_dir, [tag(1, "Level", deadband_percent=5)]) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        service = max(plant.subscriptions().items())[1].monitored_item_srv
        (asked,) = [one.filter for one in service._monitored_items.values()]  # noqa: SLF001 - looking into the peer
    assert (asked.DeadbandType, asked.DeadbandValue) == (ua.DeadbandType.Percent, 5.0)


async def test_one_deadband_or_the_other() -> None:
    """Both are a mistake, and so is none at all of a size."""
    for wrong in ({"deadband": 1, "deadband_percent": 1}, {"deadband": 0}, {"deadband_percent": 101}):
        with pytest.raises(ValueError, match="deadband"):
            TagOptions.model_validate(wrong)


async def test_gap_is_republished(plant: Plant, data_dir: str) -> None:
    """A notification the server sent but we never saw is asked for again and delivered in its place."""
    async with connected(plant.url, data_dir, [tag(1, "Level")]) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        newest = max(plant.subscriptions().items())[1]
        await plant.write("Level", 501.0)
        hidden = newest._pop_publish_result()  # noqa: SLF001 - the peer forgets to send one
        assert hidden.NotificationMessage.NotificationData
        await plant.write("Level", 502.0)
        batches = await gather(source, lambda b: 502.0 in values(b, 1))
    assert values(batches, 1) == [501.0, 502.0]
    assert sum(b.lost for b in batches) == 0


async def test_gap_is_counted(plant: Plant, data_dir: str) -> None:
    """A notification the server no longer has is counted as lost."""
    async with connected(plant.url, data_dir, [tag(1, "Level")]) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        newest = max(plant.subscriptions().items())[1]
        newest._notification_seq += 2  # noqa: SLF001 - the peer lost two
        await plant.write("Level", 503.0)
        batches = await gather(source, lambda b: 503.0 in values(b, 1))
    assert sum(b.lost for b in batches) == 2


async def test_overflow_is_counted(plant: Plant, data_dir: str) -> None:
    """The overflow bit of a value says that the server dropped older ones: counted, and the status kept whole."""
    async with connected(plant.url, data_dir, [tag(1, "Level")]) as source:
        await plant.write("Level", 601.0, 0x00000480)
        batches = await gather(source, lambda b: 601.0 in values(b, 1))
    assert sum(b.lost for b in batches) == 1
    assert 0x480 in [int(s) for b in batches for s in b.status]


async def test_silent_server(plant_gate: Gate, data_dir: str) -> None:
    """A server that keeps the connection but says nothing is an outage after the watchdog's time."""
    url = f"opc.tcp://127.0.0.1:{plant_gate.port}/tests"
    async with connected(url, data_dir, [tag(1, "Level")], timeout_s=1) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        plant_gate.freeze()
        start = time.monotonic()
        with pytest.raises(NotConnectedError, match="sent nothing"):
            await gather(source, lambda _: False)
        assert 1 < time.monotonic() - start < SOON_S
        await plant_gate.cut()


async def test_deleted_subscription(plant: Plant, data_dir: str) -> None:
    """A server that forgets our subscription ends the connection, so that it is made anew."""
    async with connected(plant.url, data_dir, [tag(1, "Level")]) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        await plant.server.iserver.subscription_service.delete_subscriptions([max(plant.subscriptions())])
        with pytest.raises(NotConnectedError):
            await gather(source, lambda _: False)


async def test_acknowledgement_is_void_after_the_end(plant: Plant, data_dir: str) -> None:
    """An acknowledgement given after a reconnect does not acknowledge the new connection's notifications."""
    async with connected(plant.url, data_dir, [tag(1, "Level")], resume=False) as source:
        async with asyncio.timeout(SOON_S):
            while not len(old := await source.read()):
                pass
        await source.connect()
        async with asyncio.timeout(SOON_S):
            while not len(await source.read()):
                pass
        await old.ack()
        kept = plant.unacknowledged()
        assert kept
        for _ in range(3):
            await source.read()
        assert kept <= plant.unacknowledged()


async def test_closing_leaves_nothing_at_the_server(plant: Plant, data_dir: str) -> None:
    """Without `resume`, close deletes the subscription: the server is not left to find out by itself."""
    before = set(plant.subscriptions())
    async with connected(plant.url, data_dir, [tag(1, "Level")], resume=False) as source:
        await source.read()
        assert len(set(plant.subscriptions()) - before) == 1
    assert set(plant.subscriptions()) - before == set()


async def test_no_tags(plant: Plant, data_dir: str, tmp_path: Path) -> None:
    """A connection without tags stands and beats."""
    assert not (tmp_path / "nothing").exists()
    async with connected(plant.url, data_dir, []) as source:
        assert len(await source.read()) == 0
