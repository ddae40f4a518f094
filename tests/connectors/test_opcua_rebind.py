"""Other tags on a living OPC UA subscription: what stays misses nothing and gets nothing twice, while values flow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asyncua import ua

from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, NotConnectedError, Status, TagBinding
from connectors.opcua.columns import Table
from connectors.opcua.decode import Changes
from connectors.opcua.items import SPENT, Items
from connectors.opcua.options import Options
from connectors.opcua.resume import FILE, Handles
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import URI, Plant, opcua_plant, string_node
from tests.connectors.test_opcua_source import gather, refusals, tag, values
from tests.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
LINES = 10
RATE = 5000
CHANGES = 20
AT_A_TIME = 5
DOUBLE = ua.VariantType.Double


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """A server of its own with ten counters."""
    async with opcua_plant(tmp_path_factory.mktemp("line"), [ua.SecurityPolicyType.NoSecurity]) as running:
        index = await running.server.get_namespace_index(URI)
        for number in range(LINES):
            name = f"Counter{number}"
            running.nodes[name] = await running.server.nodes.objects.add_variable(
                string_node(name, index), name, ua.Variant(0.0, DOUBLE)
            )
        yield running


def config(url: str, data_dir: str, *tags: TagBinding, revision: int = 1, **options: object) -> ConnectionConfig:
    """A connection with these tags."""
    given = {"url": url, "security": "None", "publishing_interval_ms": 20, "timeout_s": 3, **options}
    return ConnectionConfig("line", given, tags, revision, data_dir)


@asynccontextmanager
async def connected(wanted: ConnectionConfig) -> AsyncIterator[OpcUaSource]:
    """A source that is connected, and closed in the end."""
    source = OpcUaSource(wanted)
    await source.connect()
    try:
        yield source
    finally:
        await source.close()


def monitored(plant: Plant) -> dict[int, Any]:
    """The newest subscription's items by client handle."""
    service = max(plant.subscriptions().items())[1].monitored_item_srv
    return {int(one.client_handle): one for one in service._monitored_items.values()}  # noqa: SLF001 - looking into the peer


async def flow(plant: Plant, enough: asyncio.Event) -> int:
    """All counters count up together until it is enough; returns how far they came.

    `RATE` values a second, fewer on a machine that is too busy for them.
    """
    began, count = time.monotonic(), 0
    while not enough.is_set():
        due = int((time.monotonic() - began) * RATE / LINES) - count
        for _ in range(min(due, AT_A_TIME)):
            count += 1
            for number in range(LINES):
                node = plant.nodes[f"Counter{number}"]
                await plant.server.write_attribute_value(node.nodeid, ua.DataValue(ua.Variant(float(count), DOUBLE)))
        await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.005)
    return count


async def test_nothing_is_lost_or_doubled_while_values_flow(line: Plant, data_dir: str) -> None:
    """Tags come and go under 5,000 values a second: those that stay count on without a hole or a repeat."""
    stay = [tag(n, f"Counter{n}", queue_size=2000) for n in range(1, LINES - 2)]
    come = [tag(100 + n, f"Counter{n}", queue_size=2000) for n in (0, LINES - 2, LINES - 1)]
    wanted = config(line.url, data_dir, *stay)
    batches: list[Batch] = []
    async with connected(wanted) as source:
        before = set(line.subscriptions())
        enough = asyncio.Event()
        flowing = asyncio.create_task(flow(line, enough))
        for number in range(1, CHANGES + 1):
            # In another order each time, some of them new, some of them gone.
            tags = [*stay[number % 3 :], *come[: number % 4], *stay[: number % 3]]
            assert await source.rebind(replace(wanted, tags=tuple(tags), revision=1 + number))
            for _ in range(2):
                batches.append(await source.read())
                await batches[-1].ack()
        enough.set()
        end = float(await flowing)
        left = {one.id for one in stay if end not in values(batches, one.id)}
        batches += await gather(source, lambda b: all(end in values(b, one) for one in left))
        assert set(line.subscriptions()) == before
    assert end > CHANGES, "values flowed between the changes"
    for one in stay:
        assert values(batches, one.id) == [float(n) for n in range(int(end) + 1)]
    assert sum(b.lost for b in batches) == 0
    assert not refusals(batches)
    revisions = [b.revision for b in batches]
    assert revisions == sorted(revisions)
    for batch in batches:
        allowed = {one.id for one in come[: (batch.revision - 1) % 4]} if batch.revision > 1 else set()
        assert {int(t) for t in batch.tags if t >= 100} <= allowed
    firsts = {one.id: [v for b in batches for v in b.values[b.tags == one.id].tolist()][:1] for one in come}
    assert all(firsts.values()), "each that came had a value"


async def test_a_restart_finds_what_was_changed(line: Plant, data_dir: str) -> None:
    """After a change the subscription is taken up by the next gateway: every tag under its own handle."""
    one, two, three = tag(1, "Level"), tag(2, "Small"), tag(3, "Count", "integer")
    async with connected(config(line.url, data_dir, one, two)) as source:
        await gather(source, lambda b: bool(values(b, 1) and values(b, 2)))
        wanted = config(line.url, data_dir, three, two, revision=2)
        assert await source.rebind(wanted)
        await gather(source, lambda b: bool(values(b, 3)))
    held = set(line.subscriptions())
    await line.write("Level", 11.0)
    await line.write("Small", 12.0)
    await line.write("Count", 13)
    async with connected(wanted) as again:
        batches = await gather(again, lambda b: bool(values(b, 2) and values(b, 3)))
        assert (values(batches, 2), values(batches, 3), values(batches, 1)) == ([12.0], [13.0], [])
        assert all(b.continues and b.revision == 2 for b in batches)
        assert set(line.subscriptions()) == held
        assert await again.rebind(config(line.url, data_dir, three, revision=3))
        assert [item.read_value_id.NodeId.Identifier for item in monitored(line).values()] == ["Count"]
    async with connected(config(line.url, data_dir, one, two, revision=4)) as other:
        assert not (await other.read()).continues


async def test_a_tag_that_is_monitored_differently_keeps_its_item(line: Plant, data_dir: str) -> None:
    """A deadband comes and goes on the same monitored item, which is not sent again for it."""
    plain, rough = tag(1, "Level"), tag(1, "Level", deadband=5.0)
    wanted = config(line.url, data_dir, plain)
    await line.write("Level", 100.0)
    async with connected(wanted) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        (before,) = monitored(line).values()
        assert await source.rebind(replace(wanted, tags=(rough,), revision=2))
        (now,) = monitored(line).values()
        assert (now.monitored_item_id, now.filter.DeadbandValue) == (before.monitored_item_id, 5.0)
        for value in (101.0, 102.0, 120.0):
            await line.write("Level", value)
        assert values(await gather(source, lambda b: 120.0 in values(b, 1)), 1) == [120.0]
        assert await source.rebind(replace(wanted, revision=3))
        await line.write("Level", 121.0)
        assert values(await gather(source, lambda b: 121.0 in values(b, 1)), 1) == [121.0]
        assert monitored(line).keys() == {0}


async def test_a_tag_that_moves_to_another_node(line: Plant, data_dir: str) -> None:
    """What had arrived is of the node before, under the revision before; nothing of it is taken for it afterwards."""
    wanted = config(line.url, data_dir, tag(1, "Level"))
    async with connected(wanted) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        await line.write("Small", 0.25)
        await line.write("Level", 77.0)
        await wait_for(lambda: source._subscription is not None and source._subscription.something_waits)  # noqa: SLF001
        assert await source.rebind(replace(wanted, tags=(tag(1, "Small"),), revision=2))
        await line.write("Level", 78.0)
        batches = await gather(source, lambda b: 0.25 in values(b, 1))
        await line.write("Small", 0.5)
        batches += await gather(source, lambda b: 0.5 in values(b, 1))
    assert values([b for b in batches if b.revision == 1], 1) == [77.0], "it had arrived before"
    assert values([b for b in batches if b.revision == 2], 1) == [0.25, 0.5]
    assert not refusals(batches)


async def test_new_tags_by_path_and_of_nobody(line: Plant, data_dir: str) -> None:
    """A browse path is followed for a new tag alone; a node that is not there is Bad, and found later."""
    by_path = TagBinding(2, "path:/Objects/Level")
    later = tag(3, "Later")
    wanted = config(line.url, data_dir, tag(1, "Small"), retry_bad_s=1)
    async with connected(wanted) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        assert await source.rebind(replace(wanted, tags=(*wanted.tags, by_path, later), revision=2))
        batches = await gather(source, lambda b: bool(values(b, 2) and values(b, 3)))
        status = {int(t): int(s) for b in batches for t, s in zip(b.tags, b.status, strict=True)}
        assert status == {2: Status.GOOD, 3: Status.BAD_NODE_ID_UNKNOWN}
        assert {b.revision for b in batches if len(b)} == {2}
        index = await line.server.get_namespace_index(URI)
        await line.server.nodes.objects.add_variable(string_node("Later", index), "Later", 8.5)
        await gather(source, lambda b: 8.5 in values(b, 3))
        assert await source.rebind(replace(wanted, revision=3))
        await line.write("Small", time.monotonic() % 100)
        batches = await gather(source, lambda b: bool(values(b, 1)))
        assert not values(batches, 3)
        assert len(monitored(line)) == 1


async def test_lost_half_way(line: Plant, data_dir: str) -> None:
    """A connection that is lost in the middle is given up: nobody resumes what is half the old, half the new."""
    gate = Gate(line.host, line.port)
    await gate.start()
    wanted = config(f"opc.tcp://127.0.0.1:{gate.port}/tests", data_dir, tag(1, "Level"), timeout_s=1)
    async with connected(wanted) as source:
        await gather(source, lambda b: bool(values(b, 1)))
        assert (Path(data_dir) / FILE).exists()
        gate.freeze()
        changed = replace(wanted, tags=(tag(2, "Small"),), revision=2)
        with pytest.raises(NotConnectedError):
            await source.rebind(changed)
        await gate.cut()
        await source.close()
        assert not (Path(data_dir) / FILE).exists()
        await gate.start()
        async with connected(changed) as again:
            batches = await gather(again, lambda b: bool(values(b, 2)))
            assert not batches[0].continues
    await gate.cut()


async def test_not_connected(data_dir: str) -> None:
    """What does not stand cannot be changed; a tag that cannot be is refused before anything is touched."""
    source = OpcUaSource(config("opc.tcp://127.0.0.1:1/x", data_dir, tag(1, "Level")))
    assert not await source.rebind(config("opc.tcp://127.0.0.1:1/x", data_dir, tag(2, "Level"), revision=2))
    with pytest.raises(ValueError, match="not a NodeId"):
        await source.rebind(config("opc.tcp://127.0.0.1:1/x", data_dir, TagBinding(2, "nonsense"), revision=2))


async def test_handles_are_spent_at_last() -> None:
    """A handle is never given twice; when too many stand for nothing, it takes a new subscription."""
    options = Options(url="opc.tcp://127.0.0.1:4840", security="None")
    items = Items([tag(1, "Level"), tag(2, "Small")], options)
    change = items.change([tag(2, "Small"), tag(3, "Count")])
    assert change is not None
    assert (list(change.points), change.gone, change.given) == ([1, 2], (0,), 3)
    items.number(Handles((7, 4), 2 * 2 + SPENT, {}, {}))
    assert items.change([tag(2, "Small"), tag(1, "Level")]) is not None
    assert items.change([tag(2, "Small"), tag(3, "Count")]) is None


async def test_what_comes_late_for_a_tag_that_is_gone() -> None:
    """It is passed over, its overflow too; what was never asked for is refused."""
    table = Table({0: tag(5, "Level"), 2: tag(6, "Small")}, 3)
    n = 4
    found = table.columns(
        Changes(
            np.array([0, 1, 2, 9], dtype=np.uint32), np.arange(n, dtype=np.float64),
            np.array([0, 0x480, 0, 0], dtype=np.uint32), np.zeros(n, dtype=np.int64),
            np.full(n, 11, dtype=np.uint8), {},
        )
    )  # fmt: skip
    assert (found.tags.tolist(), found.values.tolist(), found.lost) == ([5, 6], [0.0, 2.0], 0)
    assert [(one.address, one.reason) for one in found.refused] == [("handle 9", "unknown_handle")]
    quiet = table.columns(
        Changes(np.zeros(1, "u4"), np.zeros(1), np.zeros(1, "u4"), np.zeros(1, "i8"), np.full(1, 11, "u1"), {})
    )
    assert quiet.tags.tolist() == [5]
