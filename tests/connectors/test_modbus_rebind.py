"""Other tags on a living Modbus connection: new ones are read at once, the others keep their beat and what is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from pymodbus.constants import ExcCodes

from app.selftest.gate import Gate
from connectors import ConnectionConfig, NotConnectedError, Status, TagBinding
from connectors.modbus.source import ModbusSource
from tests.connectors.peer_modbus import Plc, readings, tag
from tests.waiting import wait_for

HOLDING = 3
DAY_S = 86_400


@pytest_asyncio.fixture
async def plc() -> AsyncIterator[Plc]:
    """A server with unit 1."""
    made = Plc(1)
    await made.start()
    yield made
    await made.stop()


def config(port: int, *tags: TagBinding, **options: object) -> ConnectionConfig:
    """A connection that polls once a day."""
    given = {"url": f"modbus://127.0.0.1:{port}", "poll_s": DAY_S, **options}
    return ConnectionConfig("plc", given, tags, 1, "")


async def test_a_new_tag_is_read_at_once(plc: Plc) -> None:
    """Though the next beat is a day away and a read waits for it; what has not changed is not reported again."""
    await plc.put("holding", 0, 10, 11, 12)
    wanted = config(plc.port, tag(1, "holding:0"), tag(2, "holding:1"))
    modbus = ModbusSource(wanted)
    assert not await modbus.rebind(wanted), "not connected"
    await modbus.connect()
    assert readings(await modbus.read()) == {1: 10.0, 2: 11.0}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(modbus.read(), 0.05)
    tags = (tag(1, "holding:0"), tag(3, "holding:2"), tag(4, "holding:0", scale=2))
    assert await modbus.rebind(replace(wanted, tags=tags, revision=2))
    batch = await asyncio.wait_for(modbus.read(), 5)
    assert (readings(batch), batch.revision, batch.continues) == ({3: 12.0, 4: 20.0}, 2, True)
    await modbus.close()


async def test_groups_come_and_go(plc: Plc) -> None:
    """A group of its own beat begins with its first tag and ends with its last; the others stay on theirs."""
    wanted = config(plc.port, tag(1, "holding:0"), groups={"fast": 0.02})
    modbus = ModbusSource(wanted)
    await modbus.connect()
    assert readings(await modbus.read()) == {1: 0.0}
    assert await modbus.rebind(replace(wanted, tags=(*wanted.tags, tag(2, "holding:1", group="fast")), revision=2))
    assert readings(await asyncio.wait_for(modbus.read(), 5)) == {2: 0.0}
    plc.requests.clear()
    await plc.put("holding", 0, 5, 6)
    assert readings(await asyncio.wait_for(modbus.read(), 5)) == {2: 6.0}
    assert plc.requests == [(1, HOLDING, 1, 1)]
    assert await modbus.rebind(replace(wanted, revision=3))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(modbus.read(), 0.1)
    await modbus.close()


async def test_a_poll_under_way_is_finished_first(plc: Plc) -> None:
    """Its answers belong to the tags, and the revision, it was begun for."""
    await plc.put("holding", 0, 1, 2)
    wanted = config(plc.port, tag(1, "holding:0"))
    modbus = ModbusSource(wanted)
    await modbus.connect()
    plc.slow_s = 0.2
    reading = asyncio.create_task(modbus.read())
    await wait_for(lambda: plc.requests)
    reading.cancel()
    assert await modbus.rebind(replace(wanted, tags=(tag(2, "holding:1"),), revision=2))
    batch, later = await modbus.read(), await modbus.read()
    assert (readings(batch), batch.revision) == ({1: 1.0}, 1)
    assert (readings(later), later.revision) == ({2: 2.0}, 2)
    await modbus.close()


async def test_what_is_known_of_an_address_is_kept(plc: Plc) -> None:
    """A new tag on an address that is not there is Bad at once, without asking for it again."""
    plc.holes[HOLDING, 1] = ExcCodes.ILLEGAL_ADDRESS
    wanted = config(plc.port, tag(1, "holding:0"), tag(2, "holding:1"))
    modbus = ModbusSource(wanted)
    await modbus.connect()
    await modbus.read()
    plc.requests.clear()
    assert await modbus.rebind(replace(wanted, tags=(*wanted.tags, tag(3, "holding:1")), revision=2))
    assert readings(await asyncio.wait_for(modbus.read(), 5)) == {3: Status.BAD_NODE_ID_UNKNOWN}
    assert plc.requests == [(1, HOLDING, 0, 1)]
    await modbus.close()


async def test_lost_half_way(plc: Plc) -> None:
    """A device that goes away under the poll that is waited for ends it with NotConnectedError."""
    gate = Gate("127.0.0.1", plc.port)
    await gate.start()
    wanted = config(gate.port, tag(1, "holding:0"), timeout_s=1)
    modbus = ModbusSource(wanted)
    await modbus.connect()
    gate.freeze()
    reading = asyncio.create_task(modbus.read())
    await asyncio.wait({reading}, timeout=0.05)
    reading.cancel()
    with pytest.raises(NotConnectedError):
        await modbus.rebind(replace(wanted, revision=2))
    await modbus.close()
    await gate.cut()
    with pytest.raises(ValueError, match="group"):
        await modbus.rebind(replace(wanted, tags=(tag(1, "holding:0", group="none"),)))
