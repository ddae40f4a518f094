"""The past of an OPC UA connection, against a real server: whole, within its limits, and honest where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from app.selftest.gate import Gate
from connectors import Batch, Historical, NotConnectedError, Past, TagBinding
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_historian import BEGIN, URI, Historian, historian, ns
from tests.connectors.test_opcua_source import connected

pytestmark = pytest.mark.asyncio(loop_scope="session")
STEP_NS = 10**9
HALF = STEP_NS // 2
LONG = 24 * 3600 * 10**9


def tag(number: int, node: str, datatype: str = "float") -> TagBinding:
    """A tag on one of the historian's nodes."""
    return TagBinding(number, f"nsu={URI};s={node}", datatype)


async def whole(past: Past, since: int, until: int) -> list[Batch]:
    """Every page of a span that has something."""
    await past.begin(since, until)
    pages = []
    async with asyncio.timeout(30):
        while (page := await past.read()) is not None:
            pages += [page] if len(page) or page.refused else []
    return pages


def entries(pages: list[Batch], number: int) -> list[tuple[int, object, int]]:
    """Source time, value and status of one tag, as they came."""
    return [
        (int(page.source_time[row]), page.others.get(row, float(page.values[row])), int(page.status[row]))
        for page in pages
        for row in np.flatnonzero(page.tags == number).tolist()
    ]


def expected(values: list[object], first: int = 0) -> list[tuple[int, object, int]]:
    """The same of what the historian remembers."""
    return [(ns(BEGIN) + (first + n) * STEP_NS, value, 0) for n, value in enumerate(values)]


@asynccontextmanager
async def levels(data_dir: str, count: int, values: int, page: int) -> AsyncIterator[tuple[Historian, OpcUaSource]]:
    """A source with `count` tags of so many remembered values each, the n-th of a tag being 1000 times it and n."""
    async with historian(page) as there:
        for number in range(count):
            await there.add(f"L{number}", ua.VariantType.Double, 0.0)
            await there.remember(f"L{number}", [1000.0 * number + n for n in range(values)], ua.VariantType.Double)
        tags = [tag(number, f"L{number}") for number in range(count)]
        async with connected(there.url, data_dir, tags) as source:
            yield there, source


async def test_every_value_of_the_span_is_read_over_all_continuation_points(data_dir: str) -> None:
    """Small pages at the server: nothing is missing, doubled or out of the span."""
    async with levels(data_dir, 3, 100, page=7) as (_, source):
        assert isinstance(source, Historical)
        pages = await whole(source.history(), ns(BEGIN) + 10 * STEP_NS - HALF, ns(BEGIN) + 89 * STEP_NS + HALF)
    for number in range(3):
        assert entries(pages, number) == expected([1000.0 * number + n for n in range(10, 90)], 10)
    assert all(page.alive_until == 0 and page.revision == 1 and not page.refused for page in pages)


async def test_what_a_server_sends_beyond_the_span_is_left_out(data_dir: str) -> None:
    """Only what was asked for is taken, whatever comes."""
    async with levels(data_dir, 1, 100, page=1000) as (there, source):
        there.history.generous = True
        pages = await whole(source.history(), ns(BEGIN) + 10 * STEP_NS - HALF, ns(BEGIN) + 19 * STEP_NS + HALF)
    assert entries(pages, 0) == expected([float(n) for n in range(10, 20)], 10)


async def test_values_of_every_kind_keep_status_and_type(data_dir: str) -> None:
    """Text, booleans, whole numbers and Bad values come as a subscription brings them; a wrong type is refused."""
    kinds: dict[str, tuple[ua.VariantType, str, list[object]]] = {
        "Number": (ua.VariantType.Float, "float", [0.5, 1.5, None, 2.5] * 5),
        "Text": (ua.VariantType.String, "string", ["RUN", "泵", "IDLE"]),
        "Flag": (ua.VariantType.Boolean, "boolean", [True, False, True]),
        "Serial": (ua.VariantType.UInt64, "integer", [1, 2**63 + 1, 3]),
        "Wrong": (ua.VariantType.String, "float", ["x", "y"]),
    }
    async with historian() as there:
        for name, (kind, _, values) in kinds.items():
            await there.add(name, kind, next(one for one in values if one is not None))
            await there.remember(name, values, kind)
        tags = [tag(number, name, kind) for number, (name, (_, kind, _)) in enumerate(kinds.items())]
        async with connected(there.url, data_dir, tags) as source:
            pages = await whole(source.history(), ns(BEGIN) - HALF, ns(BEGIN) + LONG)
    number = entries(pages, 0)
    assert [one[1] for one in number if one[2] == 0] == [0.5, 1.5, 2.5] * 5
    assert [one[2] for one in number if one[1] != one[1]] == [0x808C0000] * 5
    assert entries(pages, 1) == expected(["RUN", "泵", "IDLE"])
    assert [one[1] for one in entries(pages, 2)] == [1.0, 0.0, 1.0]
    assert [one[1] for one in entries(pages, 3)] == [1.0, 2**63 + 1, 3.0]
    assert entries(pages, 4) == []
    refused = [one for page in pages for one in page.refused]
    assert [(one.reason, one.readings) for one in refused] == [("wrong_type", 2)]


async def test_a_page_cut_off_without_a_continuation_point_is_gone_on_from_its_last_value(data_dir: str) -> None:
    """A server that gives as many values as asked and says that this is all is asked again, until it brings no more."""
    async with levels(data_dir, 1, 25_000, page=100_000) as (there, source):
        pages = await whole(source.history(), ns(BEGIN) - HALF, ns(BEGIN) + LONG)
        assert len(there.history.asked) == 3
    found = entries(pages, 0)
    assert list(dict.fromkeys(found)) == expected([float(n) for n in range(25_000)])
    assert len(found) == 25_000 + 2, "the value where a page begins again comes twice, and is known by its time"


async def test_no_request_names_more_nodes_than_the_server_allows(data_dir: str) -> None:
    """MaxNodesPerHistoryReadData is kept; so is the limit on the values of one answer."""
    async with levels(data_dir, 7, 20, page=10_000) as (there, source):
        await there.most_nodes(3)
        pages = await whole(source.history(), ns(BEGIN) - HALF, ns(BEGIN) + LONG)
        asked = [len(one.NodesToRead) for one in there.history.asked]
        values = [one.HistoryReadDetails.NumValuesPerNode * len(one.NodesToRead) for one in there.history.asked]
    assert asked == [3, 3, 1]
    assert all(one <= 10_000 for one in values)
    assert sum(len(page) for page in pages) == 7 * 20


async def test_what_is_left_of_a_span_is_released(data_dir: str) -> None:
    """Whoever stops early, or begins another span, leaves no continuation point at the server."""
    async with levels(data_dir, 3, 100, page=7) as (there, source):
        past = source.history()
        await past.begin(ns(BEGIN) - HALF, ns(BEGIN) + LONG)
        first = await past.read()
        assert first is not None
        assert there.history.open_points() == 0
        await past.begin(ns(BEGIN) - HALF, ns(BEGIN) + STEP_NS + HALF)
        assert there.history.open_points() == 3
        assert await past.read() is not None
        await past.close()
        await past.close()
        assert there.history.open_points() == 3, "the second span was read to its end"
        assert await past.read() is None


async def test_tags_without_a_past_are_named_with_the_reason(data_dir: str) -> None:
    """No right to read it, no such node, nothing recorded: each says why; the others are read."""
    async with historian() as there:
        await there.add("Kept", ua.VariantType.Double, 0.0)
        await there.remember("Kept", [1.0, 2.0], ua.VariantType.Double)
        await there.add("Plain", ua.VariantType.Double, 0.0, kept=False)
        await there.add("Silent", ua.VariantType.Double, 0.0)
        await there.nodes["Silent"].write_attribute(AttributeIds.Historizing, ua.DataValue(ua.Variant(False)))  # noqa: FBT003
        tags = [tag(1, "Kept"), tag(2, "Plain"), tag(3, "Silent"), tag(4, "NoSuchNode")]
        async with connected(there.url, data_dir, tags) as source:
            past = source.history()
            pages = await whole(past, ns(BEGIN) - HALF, ns(BEGIN) + LONG)
    assert entries(pages, 1) == expected([1.0, 2.0])
    assert set(past.lacking) == {2, 3, 4}
    assert "AccessLevel" in past.lacking[2]
    assert "Historizing" in past.lacking[3]
    assert "BadNodeIdUnknown" in past.lacking[4]


@pytest.mark.parametrize("name", ["BadHistoryOperationUnsupported", "BadUserAccessDenied"])
async def test_a_server_that_reads_no_history_says_so_once(data_dir: str, name: str) -> None:
    """Every tag lacks its past with the server's own reason, and is not asked for again."""
    async with levels(data_dir, 3, 5, page=100) as (there, source):
        there.history.refuses = getattr(StatusCodes, name)
        past = source.history()
        assert await whole(past, ns(BEGIN) - HALF, ns(BEGIN) + LONG) == []
        assert await whole(past, ns(BEGIN) - HALF, ns(BEGIN) + LONG) == []
        assert len(there.history.asked) == 1
    assert len(past.lacking) == 3
    assert all(name in why for why in past.lacking.values())


async def test_a_history_that_goes_round_in_circles_is_left(data_dir: str) -> None:
    """A server that always says that there is more and brings the same again is asked a few times, not for ever."""
    async with levels(data_dir, 1, 5, page=100) as (there, source):
        there.history.circles = True
        past = source.history()
        pages = await whole(past, ns(BEGIN) - HALF, ns(BEGIN) + LONG)
        assert "without getting any further" in past.lacking[0]
        assert len(there.history.asked) < 20
    assert set(entries(pages, 0)) == set(expected([0.0, 1.0, 2.0, 3.0, 4.0]))


async def test_a_connection_lost_between_two_pages_is_said_to_be(data_dir: str) -> None:
    """NotConnectedError, at once; closing is safe then, too."""
    async with levels(data_dir, 2, 100, page=7) as (there, _):
        gate = Gate("127.0.0.1", there.port)
        await gate.start()
        tags = [tag(0, "L0"), tag(1, "L1")]
        async with connected(f"opc.tcp://127.0.0.1:{gate.port}/tests", data_dir + "2", tags) as source:
            past = source.history()
            await past.begin(ns(BEGIN) - HALF, ns(BEGIN) + LONG)
            assert await past.read() is not None
            await gate.cut()
            with pytest.raises(NotConnectedError):
                await past.read()
            await past.close()


async def test_without_a_connection_there_is_no_past(data_dir: str) -> None:
    """Whoever asks too early, or too late, is told so."""
    async with levels(data_dir, 1, 1, page=7) as (_, source):
        await source.close()
        with pytest.raises(NotConnectedError):
            source.history()


async def test_new_values_come_while_the_past_is_read(data_dir: str) -> None:
    """The publish loop goes on beside the pages, and neither brings what is the other's."""
    async with levels(data_dir, 2, 400, page=5) as (there, source):
        reading = asyncio.create_task(whole(source.history(), ns(BEGIN) - HALF, ns(BEGIN) + LONG))
        seen: list[float] = []
        async with asyncio.timeout(20):
            for number in range(5):
                await there.nodes["L0"].write_value(-1.0 - number)
                while -1.0 - number not in seen:
                    batch = await source.read()
                    await batch.ack()
                    seen += batch.values[batch.tags == 0].tolist()
        pages = await reading
    assert len(entries(pages, 0)) == len(entries(pages, 1)) == 400
    assert not {value for _, value, _ in entries(pages, 0)} & {-1.0, -2.0, -3.0, -4.0, -5.0}


async def test_a_past_that_is_not_wanted_has_no_allowance(data_dir: str) -> None:
    """Switched off, or of a connection whose stamps no history has; else within what is configured."""
    async with historian() as there:
        await there.add("Level", ua.VariantType.Double, 0.0)
        tags = [tag(1, "Level")]
        for options in ({"backfill": False}, {"use_received_time": True}):
            async with connected(there.url, data_dir, tags, **options) as source:
                assert source.allowance is None
        async with connected(there.url, data_dir, tags, backfill_hours=2, backfill_readings_per_s=77) as source:
            allowance = source.allowance
            assert allowance is not None
            assert (allowance.reach_ns, allowance.readings_per_s) == (2 * 3600 * 10**9, 77)
