"""Tags bound by browse path: how a path is written, and that a renumbered server keeps its tags."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from app.launcher.ports import Port
from connectors import Batch, ConnectionConfig, NotConnectedError, Status, TagBinding
from connectors.opcua.address import check
from connectors.opcua.path import Path, Step, parse
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_machines import MACHINES, Machines, machines
from tests.waiting import wait_for

SOON_S = 20.0
HERE = MACHINES.replace(";", "%3B")
UNIT = f"path:/Objects/nsu={HERE};Press/nsu={HERE};Unit&.1"


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("path:/Objects", (Step("", "Objects"),)),
        ("path:/0:Objects.Server", (Step("", "Objects"), Step("", "Server", "."))),
        ("path:/nsu=http://a.b/c%3Bd%25;1&.2&/3&&/x", (Step("http://a.b/c;d%", "1.2/3&"), Step("", "x"))),
        ("path:/nsu=urn:x;料位 1", (Step("urn:x", "料位 1"),)),
        ("path:/nsu=urn:x;a&:b&<c&>&#&!", (Step("urn:x", "a:b<c>#!"),)),
    ],
)
def test_a_path_is_read_and_written(text: str, steps: tuple[Step, ...]) -> None:
    """Namespaces by URI, reserved characters behind `&`; what is written is read again as the same."""
    assert parse(text) == Path(steps)
    assert parse(str(parse(text))) == Path(steps)
    assert check(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path:", "empty"),
        ("path:Objects", "begins no step"),
        ("path:/Objects//x", "no name"),
        ("path:/Objects/2:Tank", "number, which a server may change"),
        ("path:/Objects/<HasComponent>x", "needs `&`"),
        ("path:/nsu=urn:x;", "no name"),
        ("path:/x&", "last `&`"),
        ("path:" + "/x" * 65, "64 steps"),
        ("path:/" + "x" * 9000, "longer than"),
    ],
)
def test_a_wrong_path_is_told_how(text: str, why: str) -> None:
    """Each mistake is named with the text it stands in."""
    said = check(text)
    assert said is not None
    assert why in said


def tags() -> tuple[TagBinding, ...]:
    """Two tags by path, one path that leads nowhere."""
    return (
        TagBinding(1, f"{UNIT}/nsu={HERE};Temp"),
        TagBinding(2, f"{UNIT}.nsu={HERE};Serial", "string"),
        TagBinding(3, f"{UNIT}/nsu={HERE};Nobody"),
        TagBinding(4, "path:/Objects/nsu=urn:nobody;X"),
    )


async def connected(source: OpcUaSource) -> None:
    """Connect, again and again until the server is there."""

    async def once() -> bool:
        try:
            await source.connect()
        except NotConnectedError:
            return False
        return True

    await wait_for(once, SOON_S, "the server is back")


async def read_until(source: OpcUaSource, enough: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Batches until there are enough."""
    batches: list[Batch] = []
    async with asyncio.timeout(SOON_S):
        while not enough(batches):
            batches.append(await source.read())
            await batches[-1].ack()
    return batches


def of(batches: list[Batch], number: int) -> list[object]:
    """All values of one tag."""
    return [b.others.get(n, float(b.values[n])) for b in batches for n, t in enumerate(b.tags.tolist()) if t == number]


async def test_a_renumbered_server_keeps_its_tags(data_dir: str) -> None:
    """Other NodeIds and another order of namespaces: the tags by path go on; a path that leads nowhere is Bad alone."""
    with Port() as held:
        port = held.number

    async def until_value(made: Machines, value: float) -> list[Batch]:
        await made.write("Temp", value)
        return await read_until(source, lambda b: value in of(b, 1) and "A-1" in of(b, 2) and bool(of(b, 4)))

    options = {"url": f"opc.tcp://127.0.0.1:{port}/machines", "security": "None", "publishing_interval_ms": 20}
    source = OpcUaSource(ConnectionConfig("machines", options, tags(), 1, data_dir))
    try:
        async with machines(port) as made:
            await source.connect()
            first = await until_value(made, 21.0)
            before = made.nodes["Temp"].nodeid
            await made.server.stop()
            with pytest.raises(NotConnectedError):
                await read_until(source, lambda _: False)
        other = {"Temp": "DB7.T", "Unit.1": "DB7", "Press": "P9", "Serial": "DB7.S"}
        async with machines(port, other, other_first=True) as made:
            after = made.nodes["Temp"].nodeid
            assert (before.NamespaceIndex, before.Identifier) != (after.NamespaceIndex, after.Identifier)
            assert before.NamespaceIndex != after.NamespaceIndex
            await connected(source)
            second = await until_value(made, 22.0)
    finally:
        await source.close()
    for batches in (first, second):
        bad = {int(t): int(s) for b in batches for t, s in zip(b.tags, b.status, strict=True) if s}
        assert bad == {3: Status.BAD_NODE_ID_UNKNOWN, 4: Status.BAD_NODE_ID_UNKNOWN}


async def test_a_node_that_vanishes_and_returns_under_another_id(data_dir: str) -> None:
    """It is Bad while it is away and found again by its path; one that was never there is found when it comes."""
    async with machines() as made:
        options = {"url": made.url, "security": "None", "publishing_interval_ms": 20, "retry_bad_s": 1}
        source = OpcUaSource(ConnectionConfig("machines", options, tags(), 1, data_dir))
        await source.connect()
        try:
            await read_until(source, lambda b: 20.5 in of(b, 1) and "A-1" in of(b, 2))
            unit, index = made.nodes["Unit.1"], made.nodes["Unit.1"].nodeid.NamespaceIndex
            (subscription,) = made.server.iserver.subscription_service.subscriptions.values()
            monitored = subscription.monitored_item_srv._monitored_items  # noqa: SLF001 - looking into the peer
            # As servers tell of a node that is deleted; asyncua's own deletes it without a word.
            await unit.delete_reference(made.nodes["Temp"], ObjectIds.HasComponent)
            nothing = ua.Variant(None, ua.VariantType.Null)
            gone = ua.DataValue(nothing, ua.StatusCode(ua.UInt32(Status.BAD_NODE_ID_UNKNOWN)))
            await made.server.write_attribute_value(made.nodes["Temp"].nodeid, gone)
            away = await read_until(source, lambda b: bool(of(b, 1)) and len(monitored) == 1)
            temperature = await unit.add_variable(f"ns={index};s=Other", f"{index}:Temp", 30.5)
            await unit.add_variable(f"ns={index};s=Late", f"{index}:Nobody", 7.5)
            back = await read_until(source, lambda b: 30.5 in of(b, 1) and 7.5 in of(b, 3))
            await temperature.write_value(31.5)
            later = await read_until(source, lambda b: 31.5 in of(b, 1))
            items = len(monitored)
        finally:
            await source.close()
    status = {int(s) for b in away for t, s in zip(b.tags, b.status, strict=True) if t == 1}
    assert status == {Status.BAD_NODE_ID_UNKNOWN}
    assert (of(later, 1), items) == ([31.5], 3), "one item for each tag that is there, and no value twice"
    assert not of(back, 2), "the others are not asked again"


async def test_looking_again_is_not_cancelled_half_way(data_dir: str) -> None:
    """A reader that gives up while vanished nodes are looked for leaves no item that nobody knows of."""
    async with machines() as made:
        options = {"url": made.url, "security": "None", "publishing_interval_ms": 20, "retry_bad_s": 1}
        source = OpcUaSource(ConnectionConfig("machines", options, tags()[2:3], 1, data_dir))
        await source.connect()
        try:
            await read_until(source, lambda b: bool(of(b, 3)))
            unit, index = made.nodes["Unit.1"], made.nodes["Unit.1"].nodeid.NamespaceIndex
            await unit.add_variable(f"ns={index};s=Late", f"{index}:Nobody", 7.5)
            found: list[Batch] = []
            async with asyncio.timeout(SOON_S):
                while 7.5 not in of(found, 3):
                    reading = asyncio.create_task(source.read())
                    await asyncio.wait({reading}, timeout=0.002)
                    reading.cancel()
                    found += [b for b in await asyncio.gather(reading, return_exceptions=True) if isinstance(b, Batch)]
            (subscription,) = made.server.iserver.subscription_service.subscriptions.values()
            items = len(subscription.monitored_item_srv._monitored_items)  # noqa: SLF001 - looking into the peer
        finally:
            await source.close()
    assert items == 1
