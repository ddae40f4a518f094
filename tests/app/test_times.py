"""Times to the nanosecond, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.times import parse_time, rfc3339


@given(st.integers(min_value=0, max_value=4_000_000_000 * 10**9))
def test_writing_and_reading_a_time_changes_nothing(nanos: int) -> None:
    """No nanosecond is lost on the way to text and back."""
    assert parse_time(rfc3339(nanos)) == nanos


@given(st.lists(st.integers(min_value=0, max_value=4_000_000_000 * 10**9), min_size=2, max_size=5))
def test_texts_sort_as_times_do(times: list[int]) -> None:
    """A client may compare the texts."""
    assert sorted(rfc3339(t) for t in times) == [rfc3339(t) for t in sorted(times)]


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01t08:00:01.5+08:00", 1_500_000_000),
        ("1970-01-01 00:00:00.000000001z", 1),
        ("1500000000", 1_500_000_000),
        ("-1", -1),
    ],
)
def test_offsets_and_fractions_are_read(text: str, nanos: int) -> None:
    """RFC 3339 in all its spellings, or plain nanoseconds."""
    assert parse_time(text) == nanos


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-24", "2026-11-24T08:00:00", "2026-13-01T00:00:00Z"])
def test_a_time_without_an_offset_is_refused(text: str) -> None:
    """A time that could mean two instants is no time."""
    with pytest.raises(ValueError, match=r"time|month"):
        parse_time(text)
