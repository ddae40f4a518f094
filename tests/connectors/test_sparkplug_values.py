"""Sparkplug values: payloads of another encoder, every datatype at its ends, and whatever bytes chance brings."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import Status
from connectors.mqtt.values import UnusableError
from connectors.sparkplug.codec import Message, decode, rebirth_request
from connectors.sparkplug.values import DATATYPES, plain, quality_of
from tests.connectors.sparkplug_edge import (
    BOOLEAN,
    BYTES,
    DATETIME,
    DOUBLE,
    FLOAT,
    INT8,
    INT16,
    INT32,
    INT64,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    block,
    metric,
    number,
    payload,
    value,
)

GOLDEN = {
    "i8": "08fbd0dfb4ab3312130a0269381881d0dfb4ab33200150fbffffff0f1807",
    "i16": "08fbd0dfb4ab33120d0a03693136200250d4fdffff0f1807",
    "i32": "08fbd0dfb4ab33120d0a0369333220035090ddfbff0f1807",
    "i64": "08fbd0dfb4ab3312120a03693634200458ffffffffffffffefff011807",
    "u8": "08fbd0dfb4ab3312090a027538200550c8011807",
    "u16": "08fbd0dfb4ab33120b0a03753136200650e0d4031807",
    "u32": "08fbd0dfb4ab33120d0a0375333220075880d0acf30e1807",
    "u64": "08fbd0dfb4ab3312120a03753634200858ffffffffffffffffff011807",
    "f": "08fbd0dfb4ab33120a0a01662009650000bc411807",
    "d": "08fbd0dfb4ab33120e0a0164200a699a9999999999b93f1807",
    "b": "08fbd0dfb4ab3312070a0162200b70011807",
    "s": "08fbd0dfb4ab33120d0a0173200c7a06e6b8a9e5baa61807",
    "t": "08fbd0dfb4ab3312100a0174200e7a096c6f6e6720746578741807",
    "id": (
        "08fbd0dfb4ab33122c0a026964200f7a2431323365343536372d653839622d313264332d613435362d3432363631343137343030301807"
    ),
    "by": "08fbd0dfb4ab33120c0a02627920118201030001ff1807",
    "fi": "08fbd0dfb4ab33120c0a02666920128201037064661807",
    "ds": (
        "08fbd0dfb4ab33124d0a02647320108a0144080312016e12046e616d651201781803180c180a22140a0208010a033201610a"
        "0921000000000000f83f22180a0608feffffff0f0a033201620a092100000000000004401807"
    ),
    "tp": (
        "08fbd0dfb4ab33123f0a02747020139201360a013112120a055370656564200a69000000000072974012080a024f6e200b70"
        "011a0a0a034d6178100318b81722054d6f746f7228001807"
    ),
    "nul": "08fbd0dfb4ab3312090a036e756c200338011807",
    "q": (
        "08fbd0dfb4ab33122d0a0171100c20034a220a075175616c6974790a07656e67556e69741205080318f4031207080c4203c2"
        "b04350011807"
    ),
    "h": "08fbd0dfb4ab33120b0a016820032801300150031807",
}
"""Payloads of one metric, put together by an encoder that is not ours: the npm package sparkplug-payload 1.0.3."""
MEANT: dict[str, object] = {
    "i8": -5,
    "i16": -300,
    "i32": -70_000,
    "i64": -9_007_199_254_740_993,
    "u8": 200,
    "u16": 60_000,
    "u32": 4_000_000_000,
    "u64": 2**64 - 1,
    "f": 23.5,
    "d": 0.1,
    "b": True,
    "s": "温度",
    "t": "long text",
    "id": "123e4567-e89b-12d3-a456-426614174000",
    "by": b"\0\x01\xff",
    "fi": b"pdf",
    "ds": {"columns": ["n", "name", "x"], "rows": [[1, "a", 1.5], [-2, "b", 2.5]]},
    "tp": {"template": "Motor", "version": "1", "parameters": {"Max": 3000}, "metrics": {"Speed": 1500.5, "On": True}},
    "nul": None,
    "q": 1,
    "h": 3,
}
ARRAYS: list[tuple[int, str, list[Any]]] = [
    (22, "e97b", [-23, 123]),
    (23, "d08a3075", [-30_000, 30_000]),
    (24, "fffffffffaafcb12", [-1, 315_338_746]),
    (25, struct.pack("<2q", -(2**63), 2**53 + 1).hex(), [-(2**63), 2**53 + 1]),
    (26, "17fa", [23, 250]),
    (27, "1e00e0ff", [30, 65_504]),
    (28, "34000000ffffffff", [52, 2**32 - 1]),
    (29, struct.pack("<2Q", 52, 2**64 - 1).hex(), [52, 2**64 - 1]),
    (30, struct.pack("<2f", 1.25, -89.5).hex(), [1.25, -89.5]),
    (31, struct.pack("<2d", 12.354213, -1e300).hex(), [12.354213, -1e300]),
    (32, "0c00000034d0", [False, False, True, True, False, True, False, False, True, True, False, True]),
    (33, "41424300e6b8a9e5baa600", ["ABC", "温度"]),
    (34, struct.pack("<q", 1_764_000_000_456).hex(), [1_764_000_000_456]),
]
"""The examples of the standard (6.4.17), and the ends of each type."""
ENDS = {
    INT8: (-(2**7), 2**7 - 1),
    INT16: (-(2**15), 2**15 - 1),
    INT32: (-(2**31), 2**31 - 1),
    INT64: (-(2**63), 2**63 - 1),
    UINT8: (0, 2**8 - 1),
    UINT16: (0, 2**16 - 1),
    UINT32: (0, 2**32 - 1),
    UINT64: (0, 2**64 - 1),
    DATETIME: (-(2**63), 2**63 - 1),
}

REASONS = {
    "",
    "broken_array",
    "broken_payload",
    "out_of_range",
    "too_large",
    "unknown_datatype",
    "wrong_charset",
    "wrong_field",
    "wrong_layout",
}
"""All that a payload can be refused for."""


def only(content: bytes) -> Message:
    """The one metric of a payload."""
    (found,) = decode(content, 10).metrics
    return found


def read(content: bytes) -> object:
    """What the one metric says."""
    found = only(content)
    return plain(found, found.datatype)


@pytest.mark.parametrize("name", GOLDEN)
def test_another_encoder(name: str) -> None:
    """Every datatype that another program has written is read as what it was given, exactly."""
    content = bytes.fromhex(GOLDEN[name])
    assert read(content) == MEANT[name]
    found = decode(content, 10)
    assert (found.timestamp, found.seq, found.metrics[0].name) == (1_764_000_000_123, 7, name.encode())


def test_another_encoder_flags() -> None:
    """Time, alias, quality, null, historical and transient of another program are where we look for them."""
    assert only(bytes.fromhex(GOLDEN["i8"])).timestamp == 1_764_000_000_001
    assert only(bytes.fromhex(GOLDEN["nul"])).is_null
    old, stale = only(bytes.fromhex(GOLDEN["h"])), only(bytes.fromhex(GOLDEN["q"]))
    assert (old.is_historical, old.is_transient) == (True, True)
    assert (stale.alias, quality_of(stale)) == (12, Status.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE)


@pytest.mark.parametrize(("code", "packed", "meant"), ARRAYS, ids=[DATATYPES[code].name for code, _, _ in ARRAYS])
def test_arrays(code: int, packed: str, meant: list[Any]) -> None:
    """Each array of 3.0 is read exactly, and is an array again when nothing is in it."""
    found: Any = read(payload(metric("a", code, bytes.fromhex(packed))))
    assert list(found) == meant
    empty: Any = read(payload(metric("a", code, bytes(4) if code == 32 else b"")))
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("code", "packed"), [(23, "aa"), (25, "00" * 9), (32, "0c0000"), (32, "0c00000034"), (32, "ffffffff00")]
)
def test_broken_arrays(code: int, packed: str) -> None:
    """An array whose bytes do not fit is refused, and a count nobody sent costs no memory."""
    with pytest.raises(UnusableError) as refused:
        read(payload(metric("a", code, bytes.fromhex(packed))))
    assert refused.value.reason == "broken_array"


@given(st.sampled_from(sorted(ENDS)), st.data())
def test_integers(code: int, data: st.DataObject) -> None:
    """Every integer of every type comes back exactly, in the standard's field and width."""
    low, high = ENDS[code]
    meant = data.draw(st.one_of(st.sampled_from((low, high, 0)), st.integers(low, high)))
    assert read(payload(metric("x", code, meant))) == meant


@given(st.sampled_from((INT8, INT16, INT32, INT64)), st.data())
def test_odd_integers(code: int, data: st.DataObject) -> None:
    """Negative numbers cut to their own width, or put into the wider field, are read as what they mean."""
    low, high = ENDS[code]
    meant = data.draw(st.integers(low, high))
    own, wide = meant % (high - low + 1), meant % 2**64
    fields = [number(11, own), number(11, wide)] + ([number(10, own)] if code != INT64 else [])
    for raw in fields:
        assert read(payload(metric("x", code, raw=raw))) == meant


@pytest.mark.parametrize(
    ("code", "raw", "reason"),
    [
        (INT8, number(10, 300), "out_of_range"),
        (INT16, number(10, 2**31), "out_of_range"),
        (INT32, number(11, 2**40), "out_of_range"),
        (UINT8, number(10, 256), "out_of_range"),
        (UINT32, number(11, 2**32), "out_of_range"),
        (INT64, number(10, 2**31), "wrong_field"),
        (INT32, value(DOUBLE, 1.5), "wrong_field"),
        (DOUBLE, number(10, 1), "wrong_field"),
        (BOOLEAN, number(10, 2), "wrong_field"),
        (STRING, number(10, 2), "wrong_field"),
        (BYTES, value(STRING, "x"), "wrong_field"),
        (16, value(STRING, "x"), "wrong_field"),
        (19, value(STRING, "x"), "wrong_field"),
        (STRING, block(15, "温度".encode("gbk")), "wrong_charset"),
        (20, value(STRING, "x"), "unknown_datatype"),
        (99, value(STRING, "x"), "unknown_datatype"),
        (0, number(10, 1), "unknown_datatype"),
        (INT32, block(19, b""), "wrong_field"),
        (16, block(17, number(1, 2) + block(2, b"a") + number(3, INT32) + block(4, b"")), "wrong_layout"),
    ],
)
def test_wrong_values(code: int, raw: bytes, reason: str) -> None:
    """A value in doubt is refused by name, never guessed."""
    with pytest.raises(UnusableError) as refused:
        read(payload(metric("x", code or None, raw=raw)))
    assert refused.value.reason == reason


@pytest.mark.parametrize(("code", "given_value"), [(DOUBLE, 2.5), (FLOAT, 2.5), (BOOLEAN, True), (STRING, "a")])
def test_no_datatype(code: int, given_value: object) -> None:
    """Without a datatype the field says what is in it, where it can."""
    assert read(payload(metric("x", code, given_value, said=False))) == given_value


def test_boolean_as_number() -> None:
    """A boolean that a program writes as 0 or 1 is one."""
    assert read(payload(metric("x", BOOLEAN, raw=number(10, 1)))) is True


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, Status.BAD),
        (192, Status.GOOD),
        (500, Status.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE),
        (64, Status.UNCERTAIN),
        (512, Status.BAD),
        (300, Status.UNCERTAIN),
        (0x80310000, Status.BAD_NO_COMMUNICATION),
    ],
)
def test_quality(code: int, status: int) -> None:
    """The quality becomes a StatusCode; one nobody knows is Uncertain."""
    assert quality_of(only(payload(metric("x", INT32, 1, quality=code)))) == status


def test_no_quality() -> None:
    """Without the property a value is Good, whatever other properties it has."""
    assert quality_of(only(payload(metric("x", INT32, 1)))) == Status.GOOD
    unit = block(9, block(1, b"engUnit") + block(2, number(1, STRING) + value(STRING, "V", 3)))
    assert quality_of(only(payload(metric("x", INT32, 1, raw=unit)))) == Status.GOOD


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_doubles(meant: float) -> None:
    """A double comes back bit for bit."""
    found: Any = read(payload(metric("x", DOUBLE, meant)))
    assert found == meant or (math.isnan(found) and math.isnan(meant))


def reason_of(content: bytes) -> str:
    """Why a payload is refused, or "" when it is read."""
    try:
        for one in decode(content, 10).metrics:
            plain(one, one.datatype)
            quality_of(one)
    except UnusableError as refused:
        return refused.reason
    return ""


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """Whatever the bytes are, they are read or refused with a reason: nothing else is ever raised."""
    assert reason_of(content) in REASONS


@given(st.sampled_from(sorted(GOLDEN)), st.data())
def test_damaged_payloads(name: str, data: st.DataObject) -> None:
    """A payload with a few bytes changed is read or refused."""
    content = bytearray.fromhex(GOLDEN[name])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    assert reason_of(bytes(content)) in REASONS


def test_limits() -> None:
    """Too many metrics, a compressed payload and templates without end are refused."""
    many = payload(*[metric(str(n)) for n in range(11)])
    nested = b""
    for _ in range(200):
        nested = block(18, block(2, block(1, b"m") + number(4, 19) + nested))
    for content, reason in (
        (many, "too_large"),
        (block(4, b"SPBV1.0_COMPRESSED"), "compressed_payload"),
        (payload(metric("t", 19, raw=nested)), "broken_payload"),
        (b"\xff\xff", "broken_payload"),
    ):
        with pytest.raises(UnusableError) as refused:
            decode(content, 10)
        assert refused.value.reason == reason


def test_rebirth_request() -> None:
    """The only command we ever send, byte for byte."""
    request = payload(metric("Node Control/Rebirth", BOOLEAN, given=True, time=5), time=5)
    assert rebirth_request(5) == request


def test_values_are_numpy() -> None:
    """A numeric array keeps its type: an Int64 is not rounded to a float."""
    found = read(payload(metric("a", 25, struct.pack("<q", 2**53 + 1))))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.dtype("<i8")
