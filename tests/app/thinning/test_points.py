"""A point says of the readings of its interval what an obvious reckoning says, in however many steps it was made."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chunks import ChunkError, decode_points, encode_points
from app.points import JUMP_NS, MOST, Points, combined, of_readings, pieces
from app.series import Series

SECOND = 1_000_000_000
GOOD, UNCERTAIN, BAD = 0, 0x40000000, 0x80000000
STATUS = st.sampled_from([GOOD, 0x00A60000, UNCERTAIN, 0x408F0000, BAD, 0x80050000])
VALUE = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1.7e308, -1.7e308, 5e-324])
)  # fmt: skip
READING = st.tuples(st.integers(-200, 200), VALUE, STATUS)
Reading = tuple[int, float, int]


def made(readings: list[Reading]) -> Points:
    """Readings, in the order of time, as points of their own."""
    none = np.zeros(len(readings), dtype=np.bool_)
    return of_readings(Series(
        np.array([time * SECOND for time, _, _ in readings], dtype=np.int64),
        np.array([value for _, value, _ in readings], dtype=np.float64), {},
        np.array([status for *_, status in readings], dtype=np.uint32), none, none,
    ))  # fmt: skip


def held(points: Points, readings: list[Reading], step: int) -> None:
    """Each point against the readings of its interval, one by one."""
    assert points.time.tolist() == sorted({time // step * step * SECOND for time, *_ in readings})
    for row, begin in enumerate((points.time // SECOND).tolist()):
        mine = [one for one in readings if begin <= one[0] < begin + step]
        numbers = [value for _, value, status in mine if math.isfinite(value) and status < BAD]
        worst = max(status >> 30 for *_, status in mine)
        assert (int(points.readings[row]), int(points.count[row])) == (len(mine), len(numbers))
        assert int(points.worst[row]) == next(status for *_, status in mine if status >> 30 == worst)
        least, greatest, mean = (float(one[row]) for one in (points.minimum, points.maximum, points.mean))
        if not numbers:
            assert math.isnan(least) and math.isnan(greatest) and math.isnan(mean)  # noqa: PT018
            continue
        assert (least, greatest) == (min(numbers), max(numbers))
        # What cancels out leaves a rounding error of the greatest of them.
        error = 1e-12 * max(abs(least), abs(greatest), 1e-290)
        assert math.isclose(mean, math.fsum(value / len(numbers) for value in numbers), rel_tol=1e-12, abs_tol=error)


@given(st.lists(READING, min_size=1, max_size=60), st.sampled_from([1, 7, 60]))
def test_a_point_says_what_its_readings_say(readings: list[Reading], step: int) -> None:
    """Mean, least and greatest of the usable ones, how many, and the first of the worst statuses."""
    readings.sort(key=lambda one: one[0])
    held(combined([made(readings)], step * SECOND), readings, step)


@given(st.lists(READING, min_size=1, max_size=60), st.integers(0, 60))
def test_points_of_points_are_those_of_the_readings(readings: list[Reading], cut: int) -> None:
    """Minutes of seconds in two parts, hours of minutes: nothing is lost on the way, and nothing counts twice."""
    readings.sort(key=lambda one: one[0])
    parts = [combined([made(some)], 10 * SECOND) for some in (readings[:cut], readings[cut:]) if some]
    held(combined(parts, 60 * SECOND), readings, 60)


def test_nothing_makes_nothing() -> None:
    """No readings, no points."""
    assert len(combined([], SECOND)) == len(combined([made([])], SECOND)) == 0


def test_a_mean_of_what_is_too_great_to_be_summed_up_is_finite() -> None:
    """The sum of two such numbers is beyond a float64, their mean is not."""
    assert combined([made([(0, 1.7e308, GOOD), (1, 1.7e308, GOOD)])], 60 * SECOND).mean.tolist() == [1.7e308]


def test_a_time_at_the_end_of_64_bits_has_a_point_too() -> None:
    """No whole interval lies before it."""
    first = -(2**63) + 1
    points = made([(0, 1.0, GOOD)])
    at_the_end = Points(np.array([first]), *(getattr(points, name) for name in Points.__slots__[1:]))
    assert combined([at_the_end], 60 * SECOND).time.tolist() == [first]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([GOOD, 0x00A60000], 0x00000401),
        ([GOOD, UNCERTAIN], 0x40A40401),
        ([GOOD, BAD], 0x40A40401),
        ([BAD, BAD], 0x809B0000),
    ],
)
def test_the_status_of_a_mean_is_that_of_the_standard(statuses: list[int], status: int) -> None:
    """IEC 62541-13: calculated; sub-normal where some were not good; no data where none could be used."""
    points = combined([made([(at, 1.0, one) for at, one in enumerate(statuses)])], 60 * SECOND)
    assert points.status().tolist() == [status]


@given(st.lists(READING, max_size=60))
def test_what_is_packed_comes_out_to_the_bit(readings: list[Reading]) -> None:
    """Every column, and a spoilt byte is noticed."""
    readings.sort(key=lambda one: one[0])
    points = combined([made(readings)], 7 * SECOND)
    block = encode_points(points)
    found = decode_points(block)
    for name in Points.__slots__:
        np.testing.assert_array_equal(getattr(found, name), getattr(points, name))
    with pytest.raises(ChunkError, match="checksum"):
        decode_points(block[:-1] + bytes([block[-1] ^ 1]))


def test_blocks_are_of_a_size_and_end_before_a_jump() -> None:
    """One of a clock that began at 1970 lies alone: it would make a block cover everything."""
    count = MOST + 2
    points = combined([made([(-2 * JUMP_NS // SECOND, 0.0, GOOD), *((at, 1.0, GOOD) for at in range(count))])], SECOND)
    assert [len(one) for one in pieces(points)] == [1, count // 2, count // 2]
    assert list(pieces(combined([], SECOND))) == []


def test_all_of_them_summed_up() -> None:
    """What is known of a block without reading it."""
    points = combined([made([(0, 1.0, GOOD), (1, 2.0, GOOD), (70, 6.0, GOOD), (130, 9.0, BAD)])], 60 * SECOND)
    assert points.summed_up() == (3, 1.0, 6.0, 3.0)
    assert combined([made([(0, 1.0, BAD)])], SECOND).summed_up() == (0, None, None, None)
    assert points.between(60 * SECOND, 120 * SECOND).time.tolist() == [60 * SECOND]
