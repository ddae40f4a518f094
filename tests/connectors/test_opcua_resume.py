"""Outages and restarts against a real server: what changed meanwhile comes, what was not acknowledged comes again."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from pathlib import Path

import pytest
from asyncua import ua

from app.selftest.gate import Gate
from connectors import ConnectionConfig, NotConnectedError, TagBinding
from connectors.opcua.resume import FILE, MOST_TRIES
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import PASSWORD, URI, Plant
from tests.connectors.test_opcua_source import gather, tag, values
from tests.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")


def source_of(url: str, data_dir: str, *tags: TagBinding, **options: object) -> OpcUaSource:
    """A source, as a gateway has one after each start."""
    given = {"url": url, "security": "None", "publishing_interval_ms": 20, "timeout_s": 3, **options}
    return OpcUaSource(ConnectionConfig("plant", given, tags or (tag(1, "Level"),), 1, data_dir))


@pytest.fixture(params=["in the clear", "secured"])
def security(request: pytest.FixtureRequest, plant: Plant) -> dict[str, object]:
    """Without and with security and a user."""
    secured: dict[str, object] = {
        "security": "Basic256Sha256",
        "username": "operator",
        "password": PASSWORD,
        "trusted_certificates": [plant.certificate],
    }
    return secured if request.param == "secured" else {}


async def test_outage(plant: Plant, plant_gate: Gate, data_dir: str, security: dict[str, object]) -> None:
    """Everything that changed during an outage arrives afterwards, in order, under the same session."""
    source = source_of(f"opc.tcp://127.0.0.1:{plant_gate.port}/tests", data_dir, **security)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    before = set(plant.subscriptions())
    await plant_gate.cut()
    with pytest.raises(NotConnectedError):
        await gather(source, lambda _: False)
    changes = [float(time.monotonic_ns() + number) for number in range(0, 50_000, 1000)]
    for change in changes:
        await plant.write("Level", change)
    await plant_gate.start()
    await source.connect()
    batches = await gather(source, lambda b: changes[-1] in values(b, 1))
    assert [v for v in values(batches, 1) if v in changes] == changes
    assert all(one.continues for one in batches)
    assert set(plant.subscriptions()) == before
    await source.close()


async def test_tries_in_vain_forget_nothing(plant: Plant, plant_gate: Gate, data_dir: str) -> None:
    """While nobody answers, what was kept stays kept: the connection that is made at last takes up the session."""
    source = source_of(f"opc.tcp://127.0.0.1:{plant_gate.port}/tests", data_dir, timeout_s=1)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    await plant_gate.cut()
    with pytest.raises(NotConnectedError):
        await gather(source, lambda _: False)
    for _ in range(2):
        with pytest.raises(NotConnectedError):
            await source.connect()
    change = float(time.monotonic_ns())
    await plant.write("Level", change)
    await plant_gate.start()
    await source.connect()
    batches = await gather(source, lambda b: change in values(b, 1))
    assert all(one.continues for one in batches)
    await source.close()


async def test_who_gives_up_connecting_forgets_nothing(plant: Plant, plant_gate: Gate, data_dir: str) -> None:
    """A gateway that is stopped while it takes up its session leaves it at the server, and the next one takes it up."""
    url = f"opc.tcp://127.0.0.1:{plant_gate.port}/tests"
    source = source_of(url, data_dir)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    await source.close()
    plant_gate.freeze_after(4)
    connecting = asyncio.create_task(source.connect())
    await wait_for(lambda: plant_gate.frozen, 10)
    connecting.cancel()
    plant_gate.thaw()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    change = float(time.monotonic_ns())
    await plant.write("Level", change)
    other = source_of(url, data_dir)
    await other.connect()
    batches = await gather(other, lambda b: change in values(b, 1))
    assert all(one.continues for one in batches)
    await other.close()


async def test_a_gap_outlives_the_connection_that_had_it(plant: Plant, data_dir: str) -> None:
    """A new subscription that is lost before anything was read of it, and taken up: its gap is said then."""
    source = source_of(plant.url, data_dir)
    await source.connect()
    await source.close()
    await source.connect()
    await plant.write("Level", time.monotonic())
    first = await source.read()
    assert not first.continues
    await source.close()


async def test_a_gap_outlives_us(plant: Plant, data_dir: str) -> None:
    """Killed after a new subscription was made and before its first batch was safe: the next one says the gap, once."""
    source = source_of(plant.url, data_dir)
    await source.connect()
    assert not (await source.read()).continues
    await source.close()
    for gap in (True, False):
        after = source_of(plant.url, data_dir)
        await after.connect()
        await plant.write("Level", time.monotonic())
        first = await after.read()
        assert first.continues != gap
        await first.ack()
        await after.close()


async def test_a_session_over_which_connections_are_lost_is_given_up(plant_gate: Gate, data_dir: str) -> None:
    """It may be what breaks them: after so many tries a new one is made."""
    source = source_of(f"opc.tcp://127.0.0.1:{plant_gate.port}/tests", data_dir)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    await source.close()
    path = Path(data_dir) / FILE
    kept = json.loads(path.read_text())
    assert kept["tries"] == 0
    path.write_text(json.dumps({**kept, "tries": MOST_TRIES - 1}))
    plant_gate.freeze_after(2)
    with pytest.raises(NotConnectedError):
        await source.connect()
    assert not path.exists()
    await plant_gate.cut()


async def test_restart(plant: Plant, data_dir: str, security: dict[str, object]) -> None:
    """A gateway that is killed finds its subscription again: nothing that changed meanwhile is missing."""
    first = source_of(plant.url, data_dir, **security)
    await first.connect()
    await gather(first, lambda b: bool(values(b, 1)))
    await first.close()
    changes = [float(time.monotonic_ns() + number) for number in range(0, 30_000, 1000)]
    for change in changes:
        await plant.write("Level", change)
    second = source_of(plant.url, data_dir, **security)
    await second.connect()
    batches = await gather(second, lambda b: changes[-1] in values(b, 1))
    assert [v for v in values(batches, 1) if v in changes] == changes
    await second.close()


async def test_what_a_server_has_kept_is_not_told_as_heard(plant: Plant, data_dir: str) -> None:
    """A session taken up says nothing of the time away until what was kept has come: lost before, it is in the gap."""
    tags = (tag(1, "Level"), tag(2, "NotThere"))
    source = source_of(plant.url, data_dir, *tags)
    await source.connect()
    before = await gather(source, lambda b: bool(values(b, 1)))
    await source.close()
    change, at = float(time.monotonic_ns()), time.time_ns()
    await plant.write("Level", change)
    for again in (source, source_of(plant.url, data_dir, *tags)):
        await again.connect()
        first = await again.read()
        assert first.continues
        assert first.tags.tolist() == [2]
        assert first.alive_until < at
        await again.close()
    await again.connect()
    last = (await gather(again, lambda b: change in values(b, 1)))[-1]
    assert last.alive_until >= at > before[-1].alive_until
    await again.close()


async def test_queue_overflows_while_away(plant: Plant, data_dir: str) -> None:
    """More changes than the server's queue holds: the newest come, as many as it holds."""
    source = source_of(plant.url, data_dir, tag(1, "Level", queue_size=10))
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    await source.close()
    for number in range(400):
        await plant.write("Level", 5000.0 + number)
    await source.connect()
    found = values(await gather(source, lambda b: 5399.0 in values(b, 1)), 1)
    assert found == sorted(found)
    assert len(found) < 400
    await source.close()


async def test_server_has_forgotten(plant: Plant, data_dir: str) -> None:
    """A server that no longer has the session or the subscription is subscribed to anew."""
    source = source_of(plant.url, data_dir)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    await source.close()
    await plant.server.iserver.subscription_service.delete_subscriptions([max(plant.subscriptions())])
    await source.connect()
    found = await gather(source, lambda b: bool(values(b, 1)))
    assert not found[0].continues, "what changed meanwhile is not known"
    await plant.write("Level", time.monotonic())
    assert all(one.continues for one in await gather(source, lambda b: bool(values(b, 1))))
    await source.close()
    path = Path(data_dir) / FILE
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "token": ua.NodeId(ua.Int32(424242), ua.Int16(0)).to_string()}))
    await source.connect()
    assert not (await gather(source, lambda b: bool(values(b, 1))))[0].continues
    await source.close()


async def test_other_tags(plant: Plant, data_dir: str) -> None:
    """With other tags the old subscription is not resumed: its handles would mean other tags."""
    first = source_of(plant.url, data_dir, tag(1, "Level"), tag(2, "Small"))
    await first.connect()
    await gather(first, lambda b: bool(values(b, 1)))
    await first.close()
    second = source_of(plant.url, data_dir, tag(2, "Small"), tag(1, "Level"))
    await second.connect()
    await plant.write("Level", 6001.0)
    batches = await gather(second, lambda b: 6001.0 in values(b, 1))
    assert values(batches, 2) == [0.5]
    await second.close()


async def test_missing_nodes_are_tried_again(plant: Plant, data_dir: str) -> None:
    """After resuming, a node that was missing is asked for again, and is seen to be Bad again if it still is."""
    source = source_of(plant.url, data_dir, tag(1, "Level"), TagBinding(2, f"nsu={URI};s=Later"), tag(3, "Never"))
    await source.connect()
    await gather(source, lambda b: len(values(b, 2)) + len(values(b, 3)) >= 2)
    await source.close()
    index = await plant.server.get_namespace_index(URI)
    await plant.server.nodes.objects.add_variable(f"ns={index};s=Later", "Later", 7.5)
    await source.connect()
    batches = await gather(source, lambda b: 7.5 in values(b, 2))
    assert len(values(batches, 3)) == 1
    await source.close()


async def test_kept_file(plant: Plant, data_dir: str) -> None:
    """What is kept is nobody else's to read, and a broken file does no harm."""
    source = source_of(plant.url, data_dir)
    await source.connect()
    path = Path(data_dir) / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await source.close()
    for content in (b"", b"{", b'{"token": 5}', path.read_bytes().replace(b'"nonce":"', b'"nonce":"zz')):
        path.write_bytes(content)
        await source.connect()
        await source.close()


async def test_what_was_acknowledged_in_vain_is_acknowledged_again(
    plant: Plant, plant_gate: Gate, data_dir: str
) -> None:
    """Safe with us, and the line was cut before the server heard so: it does not keep that, and send it one day."""
    source = source_of(f"opc.tcp://127.0.0.1:{plant_gate.port}/tests", data_dir)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    change = time.monotonic()
    await plant.write("Level", change)
    await gather(source, lambda b: change in values(b, 1))
    held = set(plant.unacknowledged())
    assert held
    await plant_gate.cut()
    with pytest.raises(NotConnectedError):
        await gather(source, lambda _: False)
    await plant_gate.start()
    await source.connect()
    for _ in range(2):
        change = time.monotonic()
        await plant.write("Level", change)
        await gather(source, lambda b: change in values(b, 1))  # noqa: B023 - waited for at once
    await wait_for(lambda: not held & set(plant.unacknowledged()), 10, "the server has let go of them")
    await source.close()


async def test_a_session_that_is_gone_is_forgotten_before_another_is_made(plant: Plant, data_dir: str) -> None:
    """While nothing can be written down, too: a server that restarted gives anew what bears the very same numbers."""
    source = source_of(plant.url, data_dir)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    await source.close()
    path = Path(data_dir) / FILE
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "token": ua.NodeId(ua.Int32(424242), ua.Int16(0)).to_string()}))
    before = set(plant.subscriptions())
    blocked = path.with_suffix(".new")
    blocked.mkdir()
    with pytest.raises(OSError, match="directory"):
        await source.connect()
    assert not path.exists()
    assert set(plant.subscriptions()) == before, "what the failed attempt had made is not left behind"
    blocked.rmdir()
    await source.connect()
    assert not (await gather(source, lambda b: bool(values(b, 1))))[0].continues
    await source.close()


async def test_what_a_server_has_not_kept_is_counted_and_lies_in_a_gap(plant: Plant, data_dir: str) -> None:
    """A notification that was on its way when the connection was lost, and that the server has thrown away, is told.

    Nobody knows which readings were in it: the batch that tells of it does not continue what came before.
    """
    source = source_of(plant.url, data_dir)
    await source.connect()
    await gather(source, lambda b: bool(values(b, 1)))
    changes = [time.monotonic() + number for number in range(3)]
    for change in changes:
        await plant.write("Level", change)
        await source.read()
    await source.close()
    subscription = max(plant.subscriptions().items())[1]
    subscription._not_acknowledged_results.pop(min(plant.unacknowledged()))  # noqa: SLF001 - a full retransmission queue
    await source.connect()
    batches = await gather(source, lambda b: changes[-1] in values(b, 1))
    assert [v for v in values(batches, 1) if v in changes] == changes[1:]
    assert sum(one.lost for one in batches) == 1
    assert [one.lost for one in batches if not one.continues] == [1]
    await source.close()
