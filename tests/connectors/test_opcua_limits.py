"""A server with little to give: what it refuses recovers, what it limits is kept to, what it revises is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from connectors import ConnectionConfig, NotConnectedError, TagBinding
from connectors.opcua.browse import OpcUaBrowser
from connectors.opcua.options import Options
from connectors.opcua.pace import Pace
from connectors.opcua.session import Session
from connectors.opcua.source import NAMESPACE_ARRAY, OpcUaSource
from tests.connectors.opcua_plant import NODES, Plant, opcua_plant
from tests.connectors.opcua_stingy import Means, StingyServer
from tests.connectors.test_opcua_source import gather, tag, values

pytestmark = pytest.mark.asyncio(loop_scope="session")
NUMBERS = ("Level", "Small", "Count")
FULL = int(StatusCodes.BadTooManyMonitoredItems)


@pytest.fixture(scope="module")
def means() -> Means:
    """What the server has."""
    return Means()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stingy(tmp_path_factory: pytest.TempPathFactory, means: Means) -> AsyncIterator[Plant]:
    """The server."""
    inner = StingyServer(means)
    async with opcua_plant(
        tmp_path_factory.mktemp("stingy"), [ua.SecurityPolicyType.NoSecurity], inner=inner
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def plenty(means: Means) -> None:
    """Each test begins with all there is."""
    means.__init__()  # type: ignore[misc]  # a dataclass's own defaults again


def config(plant: Plant, data_dir: str, *tags: TagBinding, **options: object) -> ConnectionConfig:
    """A connection to it."""
    given = {"url": plant.url, "security": "None", "publishing_interval_ms": 20, "timeout_s": 3, **options}
    return ConnectionConfig("stingy", given, tags or tuple(tag(n, name) for n, name in enumerate(NUMBERS)), 1, data_dir)


async def test_out_of_sessions(stingy: Plant, means: Means, data_dir: str) -> None:
    """It is an outage, not a refusal: the next try may find one free."""
    means.sessions = 0
    source = OpcUaSource(config(stingy, data_dir))
    for _ in range(2):
        with pytest.raises(NotConnectedError, match="BadTooManySessions"):
            await source.connect()
    means.sessions = 10
    await source.connect()
    await gather(source, lambda b: bool(values(b, 0)))
    await source.close()


async def test_out_of_subscriptions(stingy: Plant, data_dir: str) -> None:
    """The same of subscriptions; the session that was opened in vain is closed, not left."""
    server = stingy.server.iserver
    before, held = server.max_subscriptions, set(server._external_sessions)  # noqa: SLF001 - looking into the peer
    server.max_subscriptions = 0
    source = OpcUaSource(config(stingy, data_dir, resume=False))
    with pytest.raises(NotConnectedError, match="BadTooManySubscriptions"):
        await source.connect()
    assert set(server._external_sessions) == held  # noqa: SLF001
    server.max_subscriptions = before
    await source.connect()
    await gather(source, lambda b: bool(values(b, 0)))
    await source.close()


@pytest.mark.parametrize("whole", [False, True])
async def test_out_of_monitored_items(stingy: Plant, means: Means, data_dir: str, *, whole: bool) -> None:
    """Those there is no room for are Bad and looked for again; the others flow."""
    means.items, means.whole = 2, whole
    source = OpcUaSource(config(stingy, data_dir, retry_bad_s=1, resume=False))
    await source.connect()
    batches = await gather(source, lambda b: all(values(b, n) for n in range(3)))
    status = {int(t): int(s) for b in batches for t, s in zip(b.tags, b.status, strict=True)}
    assert status == {0: 0, 1: 0, 2: FULL}
    await stingy.write("Level", time.monotonic())
    await gather(source, lambda b: bool(values(b, 0)))
    means.items = 3
    batches = await gather(source, lambda b: bool(values(b, 2)))
    assert [int(s) for b in batches for t, s in zip(b.tags, b.status, strict=True) if t == 2] == [0]
    await source.close()


async def test_small_requests(stingy: Plant, means: Means, data_dir: str) -> None:
    """A server that takes two at once, and does not say so, is asked for two at once."""
    means.at_once = 2
    paths = tuple(TagBinding(10 + n, f"path:/Objects/{name}") for n, name in enumerate(NUMBERS))
    tags = (*(tag(n, name) for n, name in enumerate(NUMBERS)), *paths)
    source = OpcUaSource(config(stingy, data_dir, *tags, resume=False))
    await source.connect()
    await gather(source, lambda b: all(values(b, one.id) for one in tags))
    await source.close()
    looking = OpcUaBrowser(stingy.url)
    await looking.connect()
    (branch,) = await looking.children([""])
    assert {one.name for one in branch.nodes} >= NODES.keys()
    await looking.close()


async def test_limits_that_are_said(stingy: Plant, means: Means, data_dir: str) -> None:
    """OperationLimits are kept from the first request on."""
    limits = {
        "MaxMonitoredItemsPerCall": 2,
        "MaxNodesPerTranslateBrowsePathsToNodeIds": 1,
        "MaxNodesPerRead": 3,
    }
    nodes = []
    for name, limit in limits.items():
        identifier = getattr(ObjectIds, f"Server_ServerCapabilities_OperationLimits_{name}")
        nodes.append(stingy.server.get_node(ua.NodeId(ua.Int32(identifier))))
        await nodes[-1].write_value(ua.Variant(limit, ua.VariantType.UInt32))
    paths = tuple(TagBinding(10 + n, f"path:/Objects/{name}") for n, name in enumerate(NUMBERS))
    source = OpcUaSource(config(stingy, data_dir, *paths, *(tag(n, name) for n, name in enumerate(NUMBERS))))
    await source.connect()
    await gather(source, lambda b: all(values(b, 10 + n) for n in range(3)))
    assert means.largest == {"items": 2, "paths": 1, "read": 3}
    assert means.asked["items"] == 3
    await source.close()
    for node in nodes:
        await node.write_value(ua.Variant(0, ua.VariantType.UInt32))


async def test_what_is_revised_is_told(stingy: Plant, means: Means, data_dir: str) -> None:
    """A few sentences, however many tags, after a restart too; none where nothing is slower than asked."""
    means.sampling_ms, means.queue = 500.0, 7
    tags = (tag(0, "Level", sampling_interval_ms=100), tag(1, "Small", sampling_interval_ms=250), tag(2, "Count"))
    wanted = config(stingy, data_dir, *tags)
    source = OpcUaSource(wanted)
    await source.connect()
    told = (
        "the server samples 2 tags more slowly than asked: every 500 ms instead of 100 ms at worst",
        "the server keeps fewer values of 3 tags between two publishes than asked: 7 instead of 100 at worst",
    )
    assert source.tend() == told
    await gather(source, lambda b: bool(values(b, 0)))
    await source.close()
    again = OpcUaSource(wanted)
    await again.connect()
    assert all(b.continues for b in await gather(again, lambda _: True))
    assert again.tend() == told
    means.sampling_ms, means.queue = 0.0, 1_000_000
    assert await again.rebind(ConnectionConfig("stingy", wanted.options, (tag(5, "Level"),), 2, data_dir))
    assert again.tend() == ()
    await again.close()


async def test_the_budget_of_requests(stingy: Plant, means: Means, data_dir: str) -> None:
    """No more requests than `requests_per_s`, but for a second's worth at once; publishing is not counted."""
    options = Options(url=stingy.url, security="None", requests_per_s=20)
    session = Session(options, "slow", data_dir)
    await session.open()
    means.asked.clear()
    began = time.monotonic()
    for _ in range(30):
        await session.read_values([NAMESPACE_ARRAY])
    took = time.monotonic() - began
    assert means.asked["read"] == 30
    assert took >= 0.9 * (30 - 20) / 20
    await session.close()


async def test_a_pace_is_kept_by_many() -> None:
    """Those who wait together go one after the other, and what was not used is no debt for ever."""
    pace, went = Pace(50), list[float]()

    async def go() -> None:
        await pace.turn()
        went.append(time.monotonic())

    began = time.monotonic()
    await asyncio.gather(*(go() for _ in range(75)))
    assert sum(at - began < 0.1 for at in went) in range(50, 57)
    assert went[-1] - began >= 0.9 * 0.5
