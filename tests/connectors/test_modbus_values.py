"""What registers and bits mean: types, orders, scale, exact integers, and what is no value."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from connectors import Status
from tests.connectors.peer_modbus import Plc, first, readings, registers, tag


@pytest_asyncio.fixture
async def plc() -> AsyncIterator[Plc]:
    """A server with units 1 and 2."""
    made = Plc(1, 2)
    await made.start()
    yield made
    await made.stop()


NUMBERS = [
    ("int16", ">h", -2),
    ("uint16", ">H", 65_534),
    ("int32", ">i", -70_000),
    ("uint32", ">I", 4_000_000_000),
    ("int64", ">q", -(2**53)),
    ("uint64", ">Q", 2**53),
    ("float32", ">f", 1.5),
    ("float64", ">d", -0.1),
]


@pytest.mark.parametrize(("kind", "code", "number"), NUMBERS)
@pytest.mark.parametrize("byte_order", ["big", "little"])
@pytest.mark.parametrize("word_order", ["big", "little"])
async def test_types(plc: Plc, kind: str, code: str, number: float, byte_order: str, word_order: str) -> None:
    """Every type is read in all four orders of bytes and words, set for the connection or for the tag."""
    held = registers(struct.pack(code, number))
    if byte_order == "little":
        held = [(word & 0xFF) << 8 | word >> 8 for word in held]
    if word_order == "little":
        held.reverse()
    await plc.put("holding", 10, *held)
    orders = {"byte_order": byte_order, "word_order": word_order}
    whole = await first(plc, tag(1, f"holding:10:{kind}"), **orders)
    alone = await first(plc, tag(1, f"holding:10:{kind}", **orders))
    assert whole.values.tolist() == alone.values.tolist() == [number]
    assert not whole.others


async def test_bits_and_text(plc: Plc) -> None:
    """Coils, discrete inputs, bits of a register and texts come from their own tables."""
    await plc.put("coil", 5, 1)
    await plc.put("discrete", 6, 1)
    await plc.put("input", 7, 0b1000_0000_0000_0001)
    await plc.put("holding", 20, *registers(b"RUN \0zzz"))
    await plc.put("holding", 30, *registers("停机".encode("gb18030")))
    await plc.put("holding", 40, *registers(b"UR"))
    found = await first(
        plc,
        *(tag(1, "coil:5"), tag(2, "coil:6"), tag(3, "discrete:6"), tag(4, "discrete:5")),
        *(tag(5, "input:7.0"), tag(6, "input:7.15"), tag(7, "input:7.14"), tag(8, "input:7.8", byte_order="little")),
        *(tag(9, "holding:20:string(8)"), tag(10, "holding:30:string(4)", encoding="gb18030")),
        *(tag(11, "holding:40:string(2)", byte_order="little"), tag(12, "holding:20:string(3)", word_order="little")),
    )
    values = readings(found)
    assert [values[n] for n in range(1, 9)] == [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    assert [values[n] for n in range(9, 13)] == ["RUN", "停机", "RU", "RUN"]


async def test_wide_integers_are_exact(plc: Plc) -> None:
    """An integer beyond 2**53 is kept whole, with a scale too; what 64 bits cannot hold is Bad."""
    await plc.put("holding", 0, *registers(struct.pack(">Qq", 2**64 - 1, -(2**53) - 1)))
    batch = await first(
        plc,
        tag(1, "holding:0:uint64", "integer"),
        tag(2, "holding:4:int64", "float"),
        tag(3, "holding:4:int64", scale=3, offset=-1),
        tag(4, "holding:0:uint64", scale=2),
        tag(5, "holding:0:uint64", scale=0.2, offset=0),
    )
    assert readings(batch) == {
        1: 2**64 - 1,
        2: -(2**53) - 1,
        3: -3 * (2**53 + 1) - 1,
        4: Status.BAD_OUT_OF_RANGE,
        5: (2**64 - 1) // 5,
    }
    assert all(type(value) is int for value in batch.others.values())
    assert all(math.isnan(batch.values[row]) for row in batch.others)


async def test_scale_is_decimal(plc: Plc) -> None:
    """Scale and offset are the decimals that were written: 3 times 0.1 is 0.3."""
    await plc.put("holding", 0, 3, 65_535)
    await plc.put("holding", 2, *registers(struct.pack(">f", 2.5)))
    batch = await first(
        plc,
        tag(1, "holding:0", scale=0.1),
        tag(2, "holding:1:int16", scale=0.1, offset=0.3),
        tag(3, "holding:2:float32", scale=2, offset=1),
    )
    assert readings(batch) == {1: 0.3, 2: 0.2, 3: 6.0}


async def test_what_is_no_value_is_bad(plc: Plc) -> None:
    """NaN, infinity and a text that is none leave no old value in force: they are Bad."""
    await plc.put("holding", 0, *registers(struct.pack(">ff", math.nan, math.inf)))
    await plc.put("holding", 4, *registers(b"\xff\xfe"))
    batch = await first(plc, tag(1, "holding:0:float32"), tag(2, "holding:2:float32"), tag(3, "holding:4:string(2)"))
    assert readings(batch) == {
        1: Status.BAD_DATA_UNAVAILABLE,
        2: Status.BAD_OUT_OF_RANGE,
        3: Status.BAD_TYPE_MISMATCH,
    }
    assert np.isnan(batch.values).all()


@pytest.mark.parametrize(
    ("address", "datatype"),
    [("coil:0", "float"), ("holding:0", "boolean"), ("holding:0.1", "integer"), ("holding:0", "string")],
)
async def test_wrong_datatype(plc: Plc, address: str, datatype: str) -> None:
    """What the tag is not configured to hold is refused and counted, and its neighbour is read."""
    batch = await first(plc, tag(1, address, datatype), tag(2, "holding:1"))
    assert batch.tags.tolist() == [2]
    assert [(r.address, r.reason) for r in batch.refused] == [(address, "wrong_type")]


async def test_fraction_is_no_integer(plc: Plc) -> None:
    """A whole number may be an integer whatever its type on the wire; a fraction is refused."""
    await plc.put("holding", 0, *registers(struct.pack(">ff", 2.0, 2.5)))
    batch = await first(plc, tag(1, "holding:0:float32", "integer"), tag(2, "holding:2:float32", "integer"))
    assert readings(batch) == {1: 2.0}
    assert [r.address for r in batch.refused] == ["holding:2:float32"]


async def test_source_time_is_when_the_answer_came(plc: Plc) -> None:
    """Each reading is stamped between our asking and our batch."""
    before = time.time_ns()
    batch = await first(plc, tag(1, "holding:0"), tag(2, "coil:0"))
    assert all(before <= when <= batch.received_time for when in batch.source_time.tolist())
    assert (batch.alive_until, batch.revision) == (batch.received_time, 3)
