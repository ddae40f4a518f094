"""A server without subscriptions: every value is read at each interval, and told when it has changed."""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.ua_binary import to_binary

from app.selftest.gate import Gate
from connectors import Batch, ConnectionConfig, NotConnectedError, Status, TagBinding
from connectors.opcua.decode import UndecodableError, decode_items, decode_values
from connectors.opcua.polled import Scan
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import Plant, opcua_plant
from tests.connectors.opcua_stingy import Means, StingyServer
from tests.connectors.test_opcua_source import gather, refusals, tag, values

pytestmark = pytest.mark.asyncio(loop_scope="session")
KINDS = [
    ("Level", "float"), ("Count", "integer"), ("Running", "boolean"), ("State", "string"), ("Serial", "integer"),
    ("Curve", "array"), ("When", "integer"), ("Small", "float"),
]  # fmt: skip
TAGS = tuple(tag(n, name, kind) for n, (name, kind) in enumerate(KINDS))


@pytest.fixture(scope="module")
def means() -> Means:
    """No subscriptions."""
    return Means(subscriptions=False)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def old(tmp_path_factory: pytest.TempPathFactory, means: Means) -> AsyncIterator[Plant]:
    """The server."""
    inner = StingyServer(means)
    async with opcua_plant(tmp_path_factory.mktemp("old"), [ua.SecurityPolicyType.NoSecurity], inner=inner) as running:
        yield running


def config(url: str, data_dir: str, *tags: TagBinding, **options: object) -> ConnectionConfig:
    """A connection to it."""
    given = {"url": url, "security": "None", "publishing_interval_ms": 20, "timeout_s": 2, **options}
    return ConnectionConfig("old", given, tags or TAGS, 1, data_dir)


async def test_all_values_by_exception(old: Plant, means: Means, data_dir: str) -> None:
    """Every type comes as from a subscription; then what changes, and only that; the operator is told that it polls."""
    await old.write("Serial", 2**63 + 1)
    await old.write("Curve", [1.0, 2.5])
    source = OpcUaSource(config(old.url, data_dir))
    await source.connect()
    batches = await gather(source, lambda b: sum(len(x) for x in b) >= len(TAGS))
    assert [len(b) for b in batches if len(b)] == [len(TAGS)], "one round is one batch"
    assert not batches[0].continues
    whole = batches[-1]
    found = {int(t): whole.others.get(row, float(whole.values[row])) for row, t in enumerate(whole.tags)}
    assert (found[0], found[1], found[2], found[3], found[4]) == (1.0, 0.0, 0.0, "IDLE", 2**63 + 1)
    assert np.array_equal(found[5], [1.0, 2.5])  # type: ignore[arg-type]
    assert found[6] == 1767225600_000_000_000
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
    await old.write("Level", 17.25, 0x40930000, moment)
    await old.write("Curve", [1.0, 3.5])
    batches = await gather(source, lambda b: 17.25 in values(b, 0) and any(5 in x.tags for x in b))
    rows = [(int(t), int(s), int(w)) for b in batches for t, s, w in zip(b.tags, b.status, b.source_time, strict=True)]
    assert (0, 0x40930000, 1772366400123456000) in rows
    assert {t for t, *_ in rows} == {0, 5}
    asked = means.asked["read"]
    beats = await gather(source, lambda b: len(b) >= 2)
    assert [len(b) for b in beats] == [0, 0]
    assert beats[0].alive_until < beats[1].alive_until
    assert means.asked["read"] >= asked + 10, "it is read, though nothing is told"
    (note,) = source.tend()
    assert note.startswith("polled every 0.02 s, since the server has no subscriptions")
    assert not refusals(batches)
    await source.close()
    await old.write("Level", 1.0)


async def test_polling_as_told(plant: Plant, data_dir: str) -> None:
    """A server with subscriptions is polled when that is configured; no session is left there."""
    before = set(plant.subscriptions())
    source = OpcUaSource(config(plant.url, data_dir, tag(1, "Level"), polling=True))
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    assert source.tend()[0].startswith("polled every 0.02 s, as configured")
    change = time.monotonic()
    await plant.write("Level", change)
    await gather(source, lambda b: change in values(b, 1))
    await source.close()
    assert set(plant.subscriptions()) == before
    await source.connect()
    batches = await gather(source, lambda b: bool(values(b, 1)))
    assert not batches[0].continues
    await source.close()


async def test_what_counts_as_a_change(old: Plant, data_dir: str) -> None:
    """A deadband is measured from what was told, and a trigger by time tells the same value again."""
    tags = (tag(1, "Level", deadband=2.0), tag(2, "Small", trigger="status_value_timestamp"), tag(3, "Count"))
    await old.write("Level", 100.0)
    source = OpcUaSource(config(old.url, data_dir, *tags))
    await source.connect()
    await gather(source, lambda b: 100.0 in values(b, 1))

    found = list[Batch]()
    for value, second in ((101.0, 1), (102.0, 2), (103.0, 3)):
        await old.write("Small", 7.0, 0, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC))
        await old.write("Count", 5, 0, datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC))
        await old.write("Level", value)
        # The same value with another time is told for one of the two: then all three were read.
        found += await gather(source, lambda b, n=second: at(b, 2) == START + n)  # type: ignore[misc]
    await source.close()
    assert values(found, 1) == [103.0], "1 and 2 away from what was told is no change"
    assert values(found, 2) == [7.0, 7.0, 7.0]
    assert values(found, 3) == [5.0]


START = 1767225600


def at(batches: list[Batch], number: int) -> int:
    """The newest source time of a tag, s."""
    return max((int(t) // 10**9 for b in batches for t in b.source_time[b.tags == number].tolist()), default=0)


async def test_other_tags(old: Plant, data_dir: str) -> None:
    """Tags come and go without another connection; what stays is not told again."""
    wanted = config(old.url, data_dir, tag(1, "Level"), tag(2, "Small"))
    source = OpcUaSource(wanted)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1) and values(b, 2)))
    assert await source.rebind(replace(wanted, tags=(tag(3, "Count"), tag(1, "Level")), revision=2))
    batches = await gather(source, lambda b: bool(values(b, 3)))
    change = time.monotonic()
    await old.write("Level", change)
    await old.write("Small", change)
    batches += await gather(source, lambda b: change in values(b, 1))
    assert (values(batches, 1), values(batches, 2)) == ([change], [])
    assert batches[-1].revision == 2
    await source.close()


async def test_a_node_that_is_not_there(old: Plant, data_dir: str) -> None:
    """It is Bad alone, and read when it comes."""
    source = OpcUaSource(config(old.url, data_dir, tag(1, "Level"), tag(2, "NotYet"), retry_bad_s=1))
    await source.connect()
    batches = await gather(source, lambda b: bool(values(b, 1) and values(b, 2)))
    status = {int(t): int(s) for b in batches for t, s in zip(b.tags, b.status, strict=True)}
    assert status == {1: Status.GOOD, 2: Status.BAD_NODE_ID_UNKNOWN}
    index = await old.server.get_namespace_index("urn:headrace:tests")
    node = ua.NodeId(ua.String("NotYet"), ua.Int16(index))
    await old.server.nodes.objects.add_variable(node, "NotYet", 3.25)
    await gather(source, lambda b: 3.25 in values(b, 2))
    await source.close()


async def test_small_requests_and_a_small_budget(old: Plant, means: Means, data_dir: str) -> None:
    """Reads are cut to what the server takes; a round that the budget makes too slow is told."""
    means.at_once = 3
    source = OpcUaSource(config(old.url, data_dir, requests_per_s=10))
    await source.connect()
    means.largest.clear()
    await gather(source, lambda b: sum(len(x) for x in b) >= len(TAGS))
    await gather(source, lambda b: len(b) >= 3)
    assert means.largest["read"] <= 8
    assert any("a round of reads takes" in note for note in source.tend())
    await source.close()
    means.at_once = 1_000_000


async def test_lost(old: Plant, data_dir: str) -> None:
    """A server that is silent, or gone, is an outage; nothing is asked of it any more."""
    gate = Gate(old.host, old.port)
    await gate.start()
    for tags in ((tag(1, "Level"),), ()):
        wanted = replace(config(f"opc.tcp://127.0.0.1:{gate.port}/tests", data_dir, timeout_s=1), tags=tags)
        source = OpcUaSource(wanted)
        await source.connect()
        await gather(source, lambda b: len(b) >= 1)
        gate.freeze()
        with pytest.raises(NotConnectedError, match="no answer in time"):
            await gather(source, lambda _: False)
        gate.thaw()
        await source.close()
    await gate.cut()


def data_values(*values: ua.DataValue) -> bytes:
    """As a ReadResponse has them."""
    return struct.pack("<i", len(values)) + b"".join(to_binary(ua.DataValue, one) for one in values)


async def test_values_are_decoded_as_items_are() -> None:
    """The same columns come of DataValues with and without handles, in runs and alone, whatever their types."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    made = [
        ua.DataValue(ua.Variant(float(n), ua.VariantType.Double), ua.StatusCode(ua.UInt32(0)), moment)  # type: ignore[arg-type]
        for n in range(40)
    ]
    made[7:7] = [
        ua.DataValue(ua.Variant("text", ua.VariantType.String)), ua.DataValue(),
        ua.DataValue(ua.Variant([1, 2, 3], ua.VariantType.Int32)),
        ua.DataValue(ua.Variant(2**63, ua.VariantType.UInt64)),
        ua.DataValue(ua.Variant(None, ua.VariantType.Null), ua.StatusCode(ua.UInt32(0x80340000))),
    ]  # fmt: skip
    body = data_values(*made)
    items = struct.pack("<i", len(made)) + b"".join(
        struct.pack("<I", n) + to_binary(ua.DataValue, one) for n, one in enumerate(made)
    )
    with_handles, without = decode_items(items), decode_values(b"\xff" * 3 + body + b"tail", 3)
    for column in ("values", "status", "source_time", "kinds"):
        assert np.array_equal(getattr(with_handles, column), getattr(without, column), equal_nan=column == "values")
    assert [str(one) for one in with_handles.others.values()] == [str(one) for one in without.others.values()]
    with pytest.raises(UndecodableError):
        decode_values(struct.pack("<i", 5) + b"\x00")
    with pytest.raises(UndecodableError):
        decode_values(body[:-3])


async def test_an_empty_scan() -> None:
    """Nothing to read is no change."""
    found = Scan({}, None).changed(0, decode_values(struct.pack("<i", 0)))
    assert len(found.handles) == 0
