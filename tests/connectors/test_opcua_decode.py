"""The table decoder against asyncua's own encoder and decoder, over every built-in type and every DataValue layout."""

from __future__ import annotations

import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import NO_TIME
from connectors.opcua.decode import ARRAY, UndecodableError, decode_items, unix_ns, unix_ns_of
from connectors.opcua.values import plain
from connectors.opcua.variant import DEEPEST, FILETIME_UNIX, BrokenError, Opaque, Reader, shaped, value_at
from tests.connectors.opcua_plant import opc_time

V = ua.VariantType
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive
SCALARS: dict[V, st.SearchStrategy[Any]] = {
    V.Boolean: st.booleans(),
    V.SByte: st.integers(-128, 127),
    V.Byte: st.integers(0, 255),
    V.Int16: st.integers(-(2**15), 2**15 - 1),
    V.UInt16: st.integers(0, 2**16 - 1),
    V.Int32: st.integers(-(2**31), 2**31 - 1),
    V.UInt32: st.integers(0, 2**32 - 1),
    V.Int64: st.integers(-(2**63), 2**63 - 1),
    V.UInt64: st.integers(0, 2**64 - 1),
    V.Float: st.floats(width=32, allow_nan=False),
    V.Double: st.floats(allow_nan=False),
    V.String: st.text(max_size=40),
    V.DateTime: MOMENTS,
    V.Guid: st.uuids(),
    V.ByteString: st.binary(max_size=40),
    V.StatusCode: st.integers(0, 2**32 - 1).map(lambda code: ua.StatusCode(ua.UInt32(code))),
    V.NodeId: st.integers(0, 2**16 - 1).map(lambda n: ua.NodeId(ua.Int32(n), ua.Int16(2))),
    V.QualifiedName: st.text(max_size=20).map(lambda text: ua.QualifiedName(text, 1)),
    V.LocalizedText: st.text(max_size=20).map(ua.LocalizedText),
}
ARRAYS = {kind: values for kind, values in SCALARS.items() if kind not in (V.NodeId, V.QualifiedName, V.LocalizedText)}


def variants() -> st.SearchStrategy[ua.Variant]:
    """A scalar or an array of any of these types, or nothing."""
    scalars = st.sampled_from(list(SCALARS)).flatmap(
        lambda kind: SCALARS[kind].map(lambda value: ua.Variant(value, kind))
    )
    arrays = st.sampled_from(list(ARRAYS)).flatmap(
        lambda kind: st.lists(ARRAYS[kind], max_size=5).map(lambda values: ua.Variant(values, kind, is_array=True))
    )
    return st.one_of(scalars, arrays, st.just(ua.Variant(None, V.Null)))


@st.composite
def data_values(draw: st.DrawFn) -> ua.DataValue:
    """A DataValue with any of its parts. Server picoseconds stay out: asyncua writes them before the server's time."""
    moments = MOMENTS.map(opc_time)
    return ua.DataValue(
        draw(variants()),
        draw(st.none() | st.integers(0, 2**32 - 1).map(lambda code: ua.StatusCode(ua.UInt32(code)))),
        draw(st.none() | moments),
        draw(st.none() | moments),
    )


def encoded(values: list[ua.DataValue]) -> bytes:
    """A DataChangeNotification with these values under handles that count from 0."""
    notification = ua.DataChangeNotification()
    for handle, value in enumerate(values):
        item = ua.MonitoredItemNotification()
        item.ClientHandle, item.Value = ua.UInt32(handle), value
        notification.MonitoredItems.append(item)
    return struct_to_binary(notification)


def ns(moment: datetime | None) -> int:
    """The same rule as the decoder's, in exact arithmetic."""
    return NO_TIME if moment is None else (moment - EPOCH) // timedelta(microseconds=1) * 1000


def same(found: object, wanted: object) -> bool:
    """Equal, arrays included."""
    if isinstance(wanted, np.ndarray):
        return isinstance(found, np.ndarray) and found.dtype == wanted.dtype and np.array_equal(found, wanted)
    return type(found) is type(wanted) and found == wanted


def check(values: list[ua.DataValue]) -> None:
    """Decode and compare, row by row, with what was encoded."""
    changes = decode_items(encoded(values))
    assert changes.handles.tolist() == list(range(len(values)))
    for row, value in enumerate(values):
        assert changes.status[row] == (value.StatusCode.value if value.StatusCode else 0)
        assert changes.source_time[row] == ns(value.SourceTimestamp)
        assert value.Value is not None
        wanted = plain(value.Value)
        if wanted is None:
            assert (changes.kinds[row], row in changes.others) == (0, False)
            continue
        assert changes.kinds[row] == value.Value.VariantType.value | (ARRAY if value.Value.is_array else 0)
        if row in changes.others:
            assert same(changes.others[row], wanted)
            assert np.isnan(changes.values[row])
        else:
            assert isinstance(wanted, bool | int | float)
            assert changes.values[row] == wanted
            assert float(wanted) == wanted


@settings(max_examples=300, deadline=None)
@given(st.lists(data_values(), max_size=12))
def test_any_values(values: list[ua.DataValue]) -> None:
    """Whatever mixture of types, statuses and times comes, the columns hold exactly it."""
    check(values)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([k for k in SCALARS if k.value <= 13 or k == V.StatusCode]), st.data())
def test_runs(kind: V, data: st.DataObject) -> None:
    """A long run of one layout, broken by another value at any place, is read the same as one by one."""
    values = data.draw(st.lists(SCALARS[kind], min_size=12, max_size=40))
    run = [ua.DataValue(ua.Variant(value, kind), SourceTimestamp=opc_time(EPOCH)) for value in values]
    run.insert(data.draw(st.integers(0, len(run))), data.draw(data_values()))
    check(run)


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("length", [1, 20])
def test_wide_integers(number: int, length: int) -> None:
    """An integer that float64 would round is kept as an integer, alone and in a run."""
    changes = decode_items(encoded([ua.DataValue(ua.Variant(number, V.Int64))] * length))
    kept = [changes.others.get(row, int(np.nan_to_num(changes.values[row]))) for row in range(length)]
    assert kept == [number] * length


def test_empty() -> None:
    """No items is an empty table; a null array too."""
    assert len(decode_items(encoded([])).handles) == 0
    assert len(decode_items(struct.pack("<i", -1)).handles) == 0


@pytest.mark.parametrize(
    ("filetime", "expected"),
    [
        (0, NO_TIME),
        (-1, NO_TIME),
        (FILETIME_UNIX, 0),
        (FILETIME_UNIX + 1, 100),
        (FILETIME_UNIX - 1, -100),
        (1, NO_TIME),
        (2**63 - 1, NO_TIME),
        (FILETIME_UNIX + 92_233_720_368_547_757, 9_223_372_036_854_775_700),
    ],
)
def test_filetime(filetime: int, expected: int) -> None:
    """100 ns steps since 1601 become ns since 1970; absent and out of range become the sentinel."""
    assert unix_ns(filetime) == expected
    assert unix_ns_of(np.array([filetime])).tolist() == [expected]


def test_picoseconds() -> None:
    """Picoseconds of both times and the server's time are stepped over in the order of the specification."""
    item = struct.pack("<IBBdIqHqH", 5, 0x3F, 11, 1.25, 0x40000000, FILETIME_UNIX + 7, 9, FILETIME_UNIX + 8, 9)
    changes = decode_items(struct.pack("<i", 9) + item * 9)
    assert changes.values.tolist() == [1.25] * 9
    assert changes.status.tolist() == [0x40000000] * 9
    assert changes.source_time.tolist() == [700] * 9


def test_matrix() -> None:
    """An array with dimensions keeps its shape."""
    changes = decode_items(encoded([ua.DataValue(ua.Variant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], V.Double))]))
    assert np.array_equal(changes.others[0], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # type: ignore[arg-type]


def test_structure() -> None:
    """A structure is kept unopened, with the type of its encoding."""
    value = ua.Variant(ua.Range(Low=1.0, High=2.0), V.ExtensionObject)
    held = decode_items(encoded([ua.DataValue(value)])).others[0]
    node = ua.NodeId(ua.Int32(ObjectIds.Range_Encoding_DefaultBinary))
    assert held == Opaque(node, struct.pack("<dd", 1.0, 2.0))


def test_matrix_of_texts() -> None:
    """Rows and columns of what is no number are kept too."""
    rows = [["a", "b", "c"], ["d", "e", "f"]]
    changes = decode_items(encoded([ua.DataValue(ua.Variant(rows, V.String))]))
    assert changes.others[0] == rows


@pytest.mark.parametrize("dimensions", [[], [6], [2, 2], [0, 0], [-1, -6], [2] * 20])
def test_dimensions_that_do_not_fit(dimensions: list[int]) -> None:
    """Dimensions that do not give the number of elements lose none of them: they stay in one row."""
    assert shaped(list(range(6)), dimensions) == list(range(6))


def test_nested_too_deep() -> None:
    """Variants in Variants end at a depth, not with the stack."""
    nested = bytes([24 | 0x80]) + struct.pack("<i", 1)
    with pytest.raises(BrokenError, match="deeper"):
        value_at(nested * (DEEPEST + 1) + b"\0", 0)
    value_at(nested * (DEEPEST - 2) + b"\x01\x01", 0)


def test_more_announced_than_there() -> None:
    """A length that the bytes cannot hold allocates nothing, whatever the type."""
    for kind in range(1, 26):
        with pytest.raises(BrokenError):
            value_at(bytes([kind | 0x80]) + struct.pack("<i", 2**31 - 1) + b"\0" * 64, 0)


def test_truth_is_not_zero() -> None:
    """A Boolean other than 1 is true as well (IEC 62541-6, 5.2.2.1)."""
    value, _, _ = value_at(bytes([1 | 0x80]) + struct.pack("<i", 3) + b"\x00\x01\x07", 0)
    assert isinstance(value, np.ndarray)
    assert value.tolist() == [False, True, True]
    assert value_at(b"\x01\x07", 0)[0] is True


def test_diagnostic_info_and_data_value() -> None:
    """What only servers about themselves send is read by the names of its parts."""
    info = b"\x51" + struct.pack("<ii", 7, 1) + b"x" + b"\x20" + struct.pack("<I", 9)
    assert Reader(info).diagnostic_info(0) == {"symbolic_id": 7, "additional_info": "x", "inner": {"inner_status": 9}}
    value = b"\x37" + b"\x06" + struct.pack("<iIqHH", 5, 0x40000000, FILETIME_UNIX + 1, 3, 4)
    assert Reader(value).data_value(0) == {"value": 5, "status": 0x40000000, "source_time": 100}


def test_broken_item_keeps_those_before() -> None:
    """Bytes that are no DataValue end the reading with an error, and what was before them is kept."""
    good = [ua.DataValue(ua.Variant(1.5, V.Double))] * 3
    body = bytearray(encoded([*good, ua.DataValue(ua.Variant("text", V.String))]))
    body[4 + 3 * (4 + 1 + 1 + 8 + 4) + 6] = 0xFF
    with pytest.raises(UndecodableError) as broken:
        decode_items(bytes(body))
    assert broken.value.done == 3
    problems: list[UndecodableError] = []
    assert decode_items(bytes(body), on_broken=problems.append).values.tolist() == [1.5] * 3
    assert len(problems) == 1


def test_announced_too_many() -> None:
    """A count that the message has no room for allocates nothing."""
    with pytest.raises(UndecodableError, match="room for"):
        decode_items(struct.pack("<i", 2**31 - 1) + b"\0" * 64)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 30))
def test_noise(noise: bytes, count: int) -> None:
    """Noise is refused or read, but nothing else is ever raised and no item is invented."""
    with suppress(UndecodableError):
        assert len(decode_items(struct.pack("<i", count) + noise).handles) == count
