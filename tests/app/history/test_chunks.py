"""A chunk gives back to the bit what was put in, and says so when it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.chunks import BACKFILLED, UNTIMED, Chunk, ChunkError, decode_whole, encode, encode_whole
from app.series import Series

INT64 = st.integers(-(2**63), 2**63 - 1)
BITS = st.integers(0, 2**64 - 1)
OTHERS = st.one_of(
    st.text(max_size=20), st.binary(max_size=20), st.integers(-(2**80), 2**80),
    st.lists(st.integers(0, 9), max_size=3), st.dictionaries(st.text(max_size=3), st.booleans(), max_size=2),
)  # fmt: skip


@st.composite
def any_series(draw: st.DrawFn) -> Series:
    """Whatever a contract allows: any times, any 64 bits as a number, any status, some values that are no numbers."""
    count = draw(st.integers(0, 40))
    bits = draw(st.lists(BITS, min_size=count, max_size=count))
    uniform = draw(st.booleans())
    status = draw(st.lists(st.integers(0, 2**32 - 1), min_size=count, max_size=count))
    return Series(
        np.array(sorted(draw(st.lists(INT64, min_size=count, max_size=count))), dtype=np.int64),
        np.array(bits, dtype=np.uint64).view(np.float64),
        draw(st.dictionaries(st.integers(0, count - 1), OTHERS, max_size=count)) if count else {},
        np.array([status[0]] * count if uniform and count else status, dtype=np.uint32),
        np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=np.bool_),
        np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=np.bool_),
    )


@given(any_series(), st.booleans())
def test_what_comes_out_is_what_went_in(series: Series, beside: bool) -> None:  # noqa: FBT001 - drawn
    """Every bit of times, numbers and statuses, and every other value; with the times inside or beside it."""
    chunk = Chunk(encode(series, with_time=not beside), series.time if beside else None)
    assert chunk.time().tolist() == series.time.tolist()
    assert chunk.status().tolist() == series.status.tolist()
    assert chunk.flagged(BACKFILLED).tolist() == series.backfilled.tolist()
    assert chunk.flagged(UNTIMED).tolist() == series.untimed.tolist()
    assert chunk.others() == series.others
    numbers = [row for row in range(len(series)) if row not in series.others]
    assert chunk.values().view(np.uint64)[numbers].tolist() == series.values.view(np.uint64)[numbers].tolist()


@given(st.lists(INT64, max_size=50))
def test_whole_numbers_come_out_as_they_went_in(numbers: list[int]) -> None:
    """Times of an axis, and numbers of batches."""
    assert decode_whole(encode_whole(np.array(numbers, dtype=np.int64))).tolist() == numbers


def some(count: int = 3) -> Series:
    """Plain readings."""
    none: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
    return Series(np.arange(count), np.arange(count) / 2, {}, np.zeros(count, dtype=np.uint32), none, none)


@pytest.mark.parametrize("at", range(0, 90, 3))
def test_a_spoilt_byte_is_noticed(at: int) -> None:
    """Wherever it lies."""
    block = bytearray(encode(some()))
    block[at % len(block)] ^= 1
    with pytest.raises(ChunkError, match="checksum"):
        Chunk(bytes(block))


@pytest.mark.parametrize("block", [b"", b"abc", encode_whole(np.arange(3)) + b"x"])
def test_what_is_no_chunk_is_refused(block: bytes) -> None:
    """Foreign bytes, and too few of them."""
    with pytest.raises(ChunkError):
        Chunk(block)
    with pytest.raises(ChunkError):
        decode_whole(block)


def test_an_axis_of_another_length_is_refused() -> None:
    """It belongs to another chunk."""
    with pytest.raises(ChunkError, match="axis of 2"):
        Chunk(encode(some(), with_time=False), np.arange(2))


def test_readings_of_one_scan_take_little_room() -> None:
    """Ten thousand decimals at whole milliseconds: less than two bytes each."""
    steps = np.random.default_rng(1).integers(-3, 4, 10_000)
    values = np.round(20 + np.cumsum(steps) * 0.01, 2)
    time = 1_700_000_000_000_000_000 + np.arange(10_000) * 100_000_000
    none: NDArray[np.bool_] = np.zeros(10_000, dtype=np.bool_)
    assert len(encode(Series(time, values, {}, none.astype(np.uint32), none, none))) < 2 * 10_000
