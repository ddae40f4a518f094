"""The binary form of a batch."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from app.extensions import BIG
from app.records import (
    MAX_COLUMNS,
    Columns,
    FillRecord,
    Record,
    decode_columns,
    encode_columns,
    tick,
    to_record,
)
from connectors import NO_TIME, Batch, Refusal

_ROW = (np.array([1]), np.array([5]), np.array([2.5]), {0: "x"}, np.zeros(1, np.uint32))
INT64 = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.none() | st.booleans() | INT64 | st.integers(2**63, 2**70) | st.text(max_size=20) | st.binary(max_size=20)
OTHERS = st.recursive(
    PLAIN | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Any batch of one or more readings."""
    n = draw(st.integers(1, 12))
    status = arrays(np.uint32, n, elements=st.sampled_from([0, 0x40900000, 0x80310000]))
    return Batch(
        tags=draw(arrays(np.int64, n, elements=INT64)),
        source_time=draw(arrays(np.int64, n, elements=INT64 | st.just(NO_TIME))),
        values=draw(arrays(np.float64, n, elements=st.floats())),
        others=draw(st.dictionaries(st.integers(0, n - 1), OTHERS, max_size=4)),
        status=draw(status),
        received_time=draw(st.integers(0, 2**62)),
        alive_until=0,
        revision=1,
    )


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: Batch) -> None:
    """Every tag, time, value bit, status and other value survives packing."""
    tags, source_time, values, others, status = decode_columns(encode_columns(batch))
    assert tags.tolist() == batch.tags.tolist()
    assert source_time.tolist() == batch.source_time.tolist()
    assert values.tobytes() == batch.values.tobytes()
    assert others == batch.others
    assert status.tolist() == batch.status.tolist()


@given(batches())
def test_a_record_says_what_its_batch_holds(batch: Batch) -> None:
    """The span of a record is that of its source times, received time standing in where there is none."""
    record = to_record(7, batch)
    times = [batch.received_time if time == NO_TIME else time for time in batch.source_time.tolist()]
    assert (record.connection, record.count) == (7, len(batch))
    assert (record.first_time, record.last_time) == (min(times), max(times))
    assert record.readings() == len(batch)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    """Bytes that are not ours raise ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"."):
        decode_columns(data)


@given(batches(), st.data())
def test_damaged_columns_are_refused_or_whole(batch: Batch, data: st.DataObject) -> None:
    """A changed byte raises ValueError, or leaves columns of one length."""
    packed = bytearray(encode_columns(batch))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        tags, source_time, values, _, status = decode_columns(bytes(packed))
    except ValueError:
        return
    assert len(tags) == len(source_time) == len(values) == len(status)


def test_arrays_keep_their_type_and_shape() -> None:
    """A waveform or a matrix comes back as the array it was."""
    wave = np.arange(6, dtype=np.float32).reshape(2, 3)
    batch = _batch(2, {0: wave, 1: {"x": np.array([1, 2], dtype=np.int16)}})
    others = decode_columns(encode_columns(batch))[3]
    back, inner = others[0], others[1]
    assert isinstance(back, np.ndarray)
    assert isinstance(inner, dict)
    assert (back.dtype, back.shape) == (wave.dtype, wave.shape)
    assert back.tolist() == wave.tolist()
    assert inner["x"].tolist() == [1, 2]


def test_what_no_contract_allows_is_refused_by_name() -> None:
    """An object that is no value says which type it has."""
    with pytest.raises(TypeError, match="cannot hold a complex"):
        encode_columns(_batch(1, {0: 1j}))


def test_refused_readings_count_as_read() -> None:
    """A refusal stands in the record, and the ledger counts it as read."""
    refusal = Refusal("plant/x", "broken_json", "write JSON", b"{", readings=3)
    record = to_record(1, _batch(0, {}, refused=(refusal,), lost=2))
    assert (record.readings(), record.count, record.lost, record.columns) == (3, 0, 2, b"")
    assert record.refused[0].reason == "broken_json"


def test_a_tick_holds_a_time_and_nothing_else() -> None:
    """A tick belongs to no connection and counts no reading."""
    made = tick(42)
    assert (made.connection, made.received_time, made.readings(), made.columns) == (0, 42, 0, b"")


def test_uniform_status_costs_nothing_per_reading() -> None:
    """A batch in which every status is Good is as small as if there were none."""
    good, mixed = _batch(5000, {}), _batch(5000, {}, np.random.default_rng(1).integers(0, 2**32, 5000, np.uint32))
    assert len(encode_columns(good)) + 4 * 4990 < len(encode_columns(mixed))


def _packed(columns: Columns) -> bytes:
    return zstandard.compress(msgspec.msgpack.encode(columns))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (Columns(2, b"", b"", b"", b"", []), "version 2"),
        (Columns(1, bytes(16), bytes(8), bytes(8), bytes(4), []), "differ in length"),
        (Columns(1, bytes(8), bytes(8), bytes(8), bytes(4), [(1, "x")]), "differ in length"),
        (Columns(1, bytes(7), bytes(8), bytes(8), bytes(4), []), "buffer size"),
        (Columns(1, bytes(8), bytes(8), bytes(8), bytes(4), [(0, msgspec.msgpack.Ext(9, b""))]), "extension 9"),
        (Columns(1, bytes(8), bytes(8), bytes(8), bytes(4), [(0, msgspec.msgpack.Ext(BIG, b"1" * 5000))]), "extension"),
        (
            Columns(
                1,
                bytes(8),
                bytes(8),
                bytes(8),
                bytes(4),
                [(0, msgspec.msgpack.Ext(1, msgspec.msgpack.encode(("|O", [1], bytes(8)))))],
            ),
            "not ours",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(columns: Columns, said: str) -> None:
    """Columns of another version, of unequal length or with foreign extensions raise ValueError that says so."""
    with pytest.raises(ValueError, match=said):
        decode_columns(_packed(columns))


def test_a_bomb_is_refused_before_it_unpacks() -> None:
    """A few bytes that would unpack to more than the limit are refused by what they declare."""
    with pytest.raises(ValueError, match="unpacks to"):
        decode_columns(zstandard.compress(bytes(MAX_COLUMNS + 1)))


def test_a_batch_larger_than_the_limit_is_refused() -> None:
    """What could not be read back is not written."""
    with pytest.raises(ValueError, match="larger than"):
        encode_columns(_batch(1, {0: bytes(MAX_COLUMNS)}))


def _batch(
    n: int,
    others: dict[int, object],
    status: NDArray[np.uint32] | None = None,
    refused: tuple[Refusal, ...] = (),
    lost: int = 0,
) -> Batch:
    good = np.zeros(n, dtype=np.uint32)
    return Batch(
        tags=np.arange(n, dtype=np.int64),
        source_time=np.full(n, 10, dtype=np.int64),
        values=np.full(n, math.pi),
        others=others,
        status=good if status is None else status,
        received_time=10,
        alive_until=10,
        revision=1,
        refused=refused,
        lost=lost,
    )


def test_records_from_before_there_was_backfill_are_read() -> None:
    """A shorter record, as an older journal holds it, is one that fills nothing."""
    made = to_record(1, Batch(*_ROW, received_time=9, alive_until=9, revision=1))
    older = msgspec.msgpack.encode(msgspec.to_builtins(made, builtin_types=(bytes,))[:11])
    assert msgspec.msgpack.decode(older, type=Record) == made
    filling = to_record(1, Batch(*_ROW, received_time=9, alive_until=0, revision=1), fill=FillRecord(3, 5, "filled"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(filling), type=Record) == filling
