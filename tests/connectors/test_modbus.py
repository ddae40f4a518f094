"""Modbus against a real server: bulk reads, what is not there, silence, reconnection, beats, and no write ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from pymodbus.constants import ExcCodes

from app.selftest.gate import Gate
from connectors import NotConnectedError, Status
from connectors.modbus.source import ModbusSource
from tests.connectors.peer_modbus import Plc, first, readings, source, tag

SOON_S = 10.0
HOLDING = 3
READS = {1, 2, 3, 4}


@pytest_asyncio.fixture
async def plc() -> AsyncIterator[Plc]:
    """A server with units 1 and 2."""
    made = Plc(1, 2)
    await made.start()
    yield made
    await made.stop()


async def until(modbus: ModbusSource, enough: Callable[[dict[int, object]], object]) -> dict[int, object]:
    """The newest value of every tag once `enough` is true of them; a Bad one is its status."""
    seen: dict[int, object] = {}
    async with asyncio.timeout(SOON_S):
        while not enough(seen):
            seen |= readings(await modbus.read())
    return seen


async def test_neighbours_are_one_request(plc: Plc) -> None:
    """Neighbours of one table and unit share a request, over gaps as wide as allowed; a register is asked for once."""
    tags = (
        *(tag(n, f"holding:{n}") for n in range(20)),
        *(tag(100 + bit, f"holding:20.{bit}") for bit in range(16)),
        *(tag(200, "holding:25:float64"), tag(201, "holding:34"), tag(202, "input:0"), tag(203, "holding:0", unit=2)),
    )
    batch = await first(plc, *tags, max_gap=4)
    assert len(batch) == len(tags)
    assert sorted(plc.requests) == [(1, 3, 0, 29), (1, 3, 34, 1), (1, 4, 0, 1), (2, 3, 0, 1)]


async def test_requests_keep_the_limits(plc: Plc) -> None:
    """No request asks for more than the protocol or the device allows, and no number is torn in two."""
    tags = (*(tag(n, f"holding:{2 * n}:uint32") for n in range(100)), *(tag(500 + n, f"coil:{n}") for n in range(2001)))
    assert len(await first(plc, *tags)) == len(tags)
    assert plc.requests == [(1, 1, 0, 2000), (1, 1, 2000, 1), (1, 3, 0, 124), (1, 3, 124, 76)]
    plc.requests.clear()
    await first(plc, *(tag(n, f"holding:{n}") for n in range(20)), max_registers=8)
    assert plc.requests == [(1, 3, 0, 8), (1, 3, 8, 8), (1, 3, 16, 4)]


async def test_one_bad_address(plc: Plc) -> None:
    """An address that is not there is found, costs its neighbours nothing, and is asked rarely from then on."""
    plc.holes[HOLDING, 37] = ExcCodes.ILLEGAL_ADDRESS
    await plc.put("holding", 0, *range(100))
    modbus = source(plc.port, *(tag(n, f"holding:{n}") for n in range(100)), retry_bad_s=600)
    await modbus.connect()
    found = readings(await modbus.read())
    assert found == {**{n: float(n) for n in range(100)}, 37: Status.BAD_NODE_ID_UNKNOWN}
    assert len(plc.requests) < 20
    plc.requests.clear()
    assert len(await modbus.read()) == 0
    assert plc.requests == [(1, 3, 0, 37), (1, 3, 38, 62)]
    await modbus.close()


async def test_bad_address_comes_back(plc: Plc) -> None:
    """An address that is there at last is read with its neighbours again."""
    plc.holes[HOLDING, 1] = ExcCodes.ILLEGAL_ADDRESS
    modbus = source(plc.port, *(tag(n, f"holding:{n}") for n in range(3)), retry_bad_s=0.05)
    await modbus.connect()
    await until(modbus, lambda seen: seen.get(1) == Status.BAD_NODE_ID_UNKNOWN)
    plc.holes.clear()
    await until(modbus, lambda seen: seen.get(1) == 0.0)
    plc.requests.clear()
    await modbus.read()
    assert plc.requests == [(1, 3, 0, 3)]
    await modbus.close()


async def test_gap_that_is_not_there(plc: Plc) -> None:
    """Where only the gap is not there, nothing turns Bad and the gap is not read again."""
    plc.holes[HOLDING, 12] = ExcCodes.ILLEGAL_ADDRESS
    tags = [tag(n, f"holding:{n}") for n in (*range(10), *range(15, 25))]
    modbus = source(plc.port, *tags)
    await modbus.connect()
    assert set(readings(await modbus.read()).values()) == {0.0}
    plc.requests.clear()
    await modbus.read()
    assert plc.requests == [(1, 3, 0, 10), (1, 3, 15, 10)]
    await modbus.close()


async def test_device_that_takes_less(plc: Plc) -> None:
    """A device with a lower limit than the protocol's is asked in pieces that it takes."""
    plc.longest = 30
    batch = await first(plc, *(tag(n, f"holding:{n}") for n in range(100)))
    assert set(readings(batch).values()) == {0.0}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ExcCodes.ILLEGAL_FUNCTION, Status.BAD_NODE_ID_UNKNOWN),
        (ExcCodes.ILLEGAL_ADDRESS, Status.BAD_NODE_ID_UNKNOWN),
        (ExcCodes.ILLEGAL_VALUE, Status.BAD_OUT_OF_RANGE),
        (ExcCodes.DEVICE_FAILURE, Status.BAD_COMMUNICATION_ERROR),
        (ExcCodes.DEVICE_BUSY, Status.BAD_DATA_UNAVAILABLE),
        (ExcCodes.MEMORY_PARITY_ERROR, Status.BAD_COMMUNICATION_ERROR),
        (ExcCodes.GATEWAY_PATH_UNAVIABLE, Status.BAD_NO_COMMUNICATION),
        (ExcCodes.GATEWAY_NO_RESPONSE, Status.BAD_NO_COMMUNICATION),
    ],
)
async def test_exceptions(plc: Plc, code: ExcCodes, status: int) -> None:
    """Each exception code has its status, the other table is read, and the value is back when the code is gone."""
    plc.holes[HOLDING, 3] = code
    modbus = source(plc.port, tag(1, "holding:3"), tag(2, "input:3"), retry_bad_s=0.05)
    await modbus.connect()
    assert readings(await modbus.read()) == {1: status, 2: 0.0}
    plc.holes.clear()
    assert (await until(modbus, lambda seen: seen))[1] == 0.0
    await modbus.close()


async def test_wrong_unit(plc: Plc) -> None:
    """A unit that the server does not know turns its own tags Bad and no others."""
    batch = await first(plc, tag(1, "holding:0", unit=9), tag(2, "holding:0"))
    assert readings(batch) == {1: Status.BAD_COMMUNICATION_ERROR, 2: 0.0}


async def test_silent_unit(plc: Plc) -> None:
    """A unit that does not answer is waited for once, not at every beat, and the others are read."""
    plc.silent.add(1)
    modbus = source(plc.port, tag(1, "holding:0"), tag(2, "holding:0", unit=2), timeout_s=0.1, retry_bad_s=600)
    await modbus.connect()
    assert await until(modbus, lambda seen: len(seen) == 2) == {1: Status.BAD_NO_COMMUNICATION, 2: 0.0}
    for _ in range(3):
        await modbus.read()
    assert sum(unit == 1 for unit, *_ in plc.requests) == 1
    await modbus.close()


async def test_everything_is_silent(plc: Plc) -> None:
    """When no unit answers, the connection is lost."""
    plc.silent |= {1, 2}
    modbus = source(plc.port, tag(1, "holding:0"), tag(2, "holding:0", unit=2), timeout_s=0.1)
    await modbus.connect()
    with pytest.raises(NotConnectedError, match=r"does not answer within 0\.1 s"):
        await modbus.read()
    await modbus.close()


async def test_reconnect(plc: Plc) -> None:
    """An outage costs a reconnect and nothing else: everything is reported again, also what had not changed."""
    gate = Gate("127.0.0.1", plc.port)
    await gate.start()
    modbus = source(gate.port, tag(1, "holding:0"), tag(2, "holding:1"))
    await modbus.connect()
    assert await until(modbus, lambda seen: len(seen) == 2) == {1: 0.0, 2: 0.0}
    await gate.cut()
    with pytest.raises(NotConnectedError):
        await until(modbus, lambda seen: len(seen) == 99)
    with pytest.raises(NotConnectedError):
        await modbus.connect()
    await plc.put("holding", 1, 7)
    await gate.start()
    await modbus.connect()
    first = await modbus.read()
    assert readings(first) == {1: 0.0, 2: 7.0}
    assert not first.continues, "what changed and changed back meanwhile is not known"
    assert (await modbus.read()).continues
    await modbus.close()
    await gate.cut()


async def test_loss_is_noticed_between_beats(plc: Plc) -> None:
    """A connection that ends is noticed at once, however slow the beat."""
    modbus = source(plc.port, tag(1, "holding:0"), poll_s=3600)
    await modbus.connect()
    await modbus.read()
    reading = asyncio.create_task(modbus.read())
    await plc.stop()
    async with asyncio.timeout(SOON_S):
        with pytest.raises(NotConnectedError, match="closed"):
            await reading
    await modbus.close()


async def test_frozen_peer(plc: Plc) -> None:
    """A peer that keeps the connection and says nothing is lost after the time-out."""
    gate = Gate("127.0.0.1", plc.port)
    await gate.start()
    modbus = source(gate.port, tag(1, "holding:0"), timeout_s=0.2)
    await modbus.connect()
    await modbus.read()
    gate.freeze()
    async with asyncio.timeout(SOON_S):
        with pytest.raises(NotConnectedError):
            await until(modbus, lambda seen: len(seen) == 99)
    await modbus.close()
    await gate.cut()


async def test_only_changes_are_reported(plc: Plc) -> None:
    """What does not change makes no rows, and every batch says how long it has not."""
    modbus = source(plc.port, tag(1, "holding:0"), tag(2, "holding:1"))
    await modbus.connect()
    before = await modbus.read()
    silent = await modbus.read()
    assert (len(before), len(silent)) == (2, 0)
    assert before.alive_until < silent.alive_until
    await plc.put("holding", 1, 5)
    assert await until(modbus, lambda seen: seen) == {2: 5.0}
    await modbus.close()


@pytest.mark.parametrize("refresh_s", [0, 0.02])
async def test_refresh(plc: Plc, refresh_s: float) -> None:
    """With `refresh_s` unchanged values are reported too, and what is Bad with them."""
    plc.holes[HOLDING, 1] = ExcCodes.ILLEGAL_ADDRESS
    modbus = source(plc.port, tag(1, "holding:0"), tag(2, "holding:1"), refresh_s=refresh_s)
    await modbus.connect()
    for _ in range(6):
        assert readings(await modbus.read()) == {1: 0.0, 2: Status.BAD_NODE_ID_UNKNOWN}
    await modbus.close()


async def test_groups_have_their_own_beat(plc: Plc) -> None:
    """A slow group is not asked at the beats of a fast one."""
    tags = (tag(1, "holding:0"), tag(2, "input:0", group="slow"))
    modbus = source(plc.port, *tags, groups={"slow": 3600})
    await modbus.connect()
    for _ in range(5):
        await modbus.read()
    assert [function for _, function, _, _ in plc.requests].count(4) == 1
    assert [function for _, function, _, _ in plc.requests].count(HOLDING) == 5
    await modbus.close()


async def test_beats_do_not_drift(plc: Plc) -> None:
    """Ten beats take ten periods, also where each answer takes half of one."""
    plc.slow_s = 0.05
    modbus = source(plc.port, tag(1, "holding:0"), poll_s=0.1)
    await modbus.connect()
    times = [(await modbus.read()).received_time for _ in range(11)]
    assert 9.5 < (times[-1] - times[0]) / 1e8 < 14
    await modbus.close()


async def test_missed_beats_are_left_out(plc: Plc) -> None:
    """A device that takes longer than a period is asked at the beats that are left, with no burst afterwards."""
    plc.slow_s = 0.15
    modbus = source(plc.port, tag(1, "holding:0"), poll_s=0.1)
    await modbus.connect()
    times = [(await modbus.read()).received_time for _ in range(3)]
    plc.slow_s = 0.0
    times += [(await modbus.read()).received_time for _ in range(3)]
    assert (times[2] - times[0]) / 1e8 > 3.5
    assert (times[5] - times[3]) / 1e8 > 1.5
    await modbus.close()


async def test_no_tags(plc: Plc) -> None:
    """A connection without tags is alive as long as it stands, and asks for nothing."""
    modbus = source(plc.port)
    await modbus.connect()
    assert (await modbus.read()).alive_until < (await modbus.read()).alive_until
    assert plc.requests == []
    await modbus.close()


@asynccontextmanager
async def answering(reply: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """The port of a peer that answers each request of 12 bytes with what `reply` makes of it."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(12):
            writer.write(reply(request))
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    async with asyncio.timeout(SOON_S):
        await gone.wait()
        await server.wait_closed()


@pytest.mark.parametrize("body", [b"\x03\x02\x00\x07", b"\x01\x01\x01"], ids=["too_short", "of_another_table"])
async def test_answer_that_does_not_fit(body: bytes) -> None:
    """An answer with fewer registers than asked for, or of another function, is no value."""
    async with answering(lambda ask: ask[:4] + (len(body) + 1).to_bytes(2, "big") + ask[6:7] + body) as port:
        modbus = source(port, tag(1, "holding:0:float32"))
        await modbus.connect()
        assert readings(await modbus.read()) == {1: Status.BAD_COMMUNICATION_ERROR}
        await modbus.close()


async def test_peer_that_speaks_another_protocol() -> None:
    """A peer that answers something else is not connected, within the time-out."""
    async with answering(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        modbus = source(port, tag(1, "holding:0"), timeout_s=0.2)
        await modbus.connect()
        with pytest.raises(NotConnectedError):
            await modbus.read()
        await modbus.close()


async def test_nothing_is_written(plc: Plc) -> None:
    """Whatever is read, only the four reading functions are sent."""
    plc.holes[HOLDING, 1] = ExcCodes.ILLEGAL_ADDRESS
    await first(plc, *(tag(n, f"{table}:{n}") for table in ("coil", "discrete", "input", "holding") for n in range(4)))
    assert {function for _, function, _, _ in plc.requests} == READS
