"""The sums: what is lost, doubled or invented is found, and what is said to be missing is not called lost."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.selftest import sums
from app.selftest.sums import SLACK_NS, Freshness, Reading, Sent

S = 1_000_000_000
READINGS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 100).map(lambda s: s * S), st.integers(0, 3).map(float)),
    unique=True,
)
SPANS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20)).map(lambda s: (s[0] * S, (s[0] + s[1]) * S)))


def made(*seconds: int) -> list[Reading]:
    """One reading for each of these seconds."""
    return [("a", at * S, float(at)) for at in seconds]


def account(sent: Sent, stored: list[Reading], gaps: list[tuple[int, int]] | None = None, since: int = 0,
            forgets: list[tuple[int, int]] | None = None) -> sums.Account:  # fmt: skip
    """The account of one connection."""
    return sums.account("plant", sent, Counter(stored), gaps or [], since=since, forgets=forgets or [])


@given(READINGS)
def test_what_is_stored_once_as_it_was_sent_is_good(readings: list[Reading]) -> None:
    """Whatever it is, and in whatever order."""
    found = account(Sent(readings), list(reversed(readings)))
    assert found.good
    assert found.sent == found.stored == len(readings)


@given(READINGS.filter(bool), st.data())
def test_a_reading_that_is_missing_is_lost(readings: list[Reading], data: st.DataObject) -> None:
    """By tag, source time and value: one that differs in any of them is another, and nobody has sent that."""
    gone = data.draw(st.sampled_from(readings))
    other = (gone[0], gone[1], gone[2] + 0.5)
    found = account(Sent(readings), [*(one for one in readings if one != gone), other])
    assert (found.lost, found.invented) == ((gone,), (other,))
    assert not found.good


@given(READINGS.filter(bool), st.data())
def test_a_reading_that_is_there_twice_is_doubled(readings: list[Reading], data: st.DataObject) -> None:
    """Unless the plant may have sent it twice itself."""
    twice = data.draw(st.sampled_from(readings))
    assert account(Sent(readings), [*readings, twice]).doubled == (twice,)
    allowed = account(Sent(readings, again=[twice]), [*readings, twice])
    assert (allowed.good, allowed.repeated) == (True, 1)


@given(READINGS, READINGS, SPANS, SPANS)
def test_each_reading_that_was_sent_has_one_fate(
    sent: list[Reading], stored: list[Reading], gaps: list[tuple[int, int]], forgets: list[tuple[int, int]]
) -> None:
    """Stored, in a gap, forgotten by a broker, or lost; the numbers add up."""
    found = account(Sent(sent), stored, gaps, forgets=forgets)
    assert found.sent == found.stored + found.in_gaps + found.forgotten + len(found.lost)
    covered = {one for one in set(sent) - set(stored) if any(a - SLACK_NS <= one[1] <= b for a, b in gaps)}
    assert found.in_gaps == len(covered)


def test_a_gap_covers_what_lies_in_it_and_no_more() -> None:
    """From a second before its beginning, because what was stamped then may have been on its way."""
    found = account(Sent(made(1, 2, 3, 4, 5, 6)), made(1, 6), [(4 * S, 5 * S)])
    assert (found.in_gaps, found.lost) == (3, tuple(made(2)))


def test_a_broker_forgets_only_while_it_is_killed() -> None:
    """What is missing at any other time is lost, as is what was missing on a connection that has no broker."""
    found = account(Sent(made(1, 2, 3)), made(1), forgets=[(2 * S, 2 * S)])
    assert (found.forgotten, found.lost) == (1, tuple(made(3)))


def test_what_was_sent_before_anybody_read_is_not_looked_for() -> None:
    """But if it is stored, somebody has sent it."""
    found = account(Sent(made(1, 2)), made(1, 2), since=2 * S)
    assert (found.sent, found.good) == (1, True)


def test_what_was_offered_and_not_confirmed_may_be_stored_or_not() -> None:
    """A device that was killed does not know whether the broker had it."""
    sent = Sent(made(1), offered=made(1, 2, 3))
    assert account(sent, made(1, 2)).good
    assert account(sent, made(1, 4)).invented == tuple(made(4))


def test_answers_are_held_against_their_numbers_and_the_consumer() -> None:
    """A window without its number, one with the number of another, an answer not sent, and one that nobody heard."""
    windows = [[(1, "p1"), (2, "p2"), (4, "p4"), (5, "p5"), (5, "p6")]]
    published = {"p1": 1 * S, "p2": 2 * S, "p4": None, "p5": 5 * S, "p6": 5 * S}
    found = sums.north(windows, published, {"p1", "p2", "p5"}, [(5 * S, 6 * S)])
    assert (found.missing, found.unsent, found.unheard, found.forgotten) == ((3, 5), 1, ("p4",), 1)
    assert not found.good
    whole = sums.north([[(1, "p1"), (2, "p2")]], published, {"p1", "p2"})
    assert whole.good
    assert not sums.north([], {}, set()).good, "no answer at all is no good run"


def test_an_answer_without_a_row_in_the_outbox_is_not_sent() -> None:
    """The row that was never written is missed, not only one that waits."""
    assert sums.north([[(1, "p1")]], {}, {"p1"}).unsent == 1


@given(SPANS, st.integers(0, 130).map(lambda s: s * S))
def test_merged_spans_cover_the_same_instants(spans: list[tuple[int, int]], at: int) -> None:
    """And do not meet."""
    merged = sums.merge(spans)
    assert any(a <= at <= b for a, b in spans) == any(a <= at <= b for a, b in merged)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(merged))


def test_a_log_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    """A plant that was killed leaves half a line."""
    (tmp_path / sums.LOG).write_text("a,1,2.5,0\nb,2,3.0,0\na,3,4")
    assert sums.read(tmp_path) == [("a", 1, 2.5), ("b", 2, 3.0)]
    assert sums.read(tmp_path / "nothing") == []


def test_the_longest_stall_is_of_the_connection_that_stood_still() -> None:
    """Also while the database does not answer."""
    fresh = Freshness(since=0)
    fresh.look(2 * S, {"a": 1 * S, "b": 2 * S})
    fresh.look(9 * S, None)
    fresh.look(10 * S, {"a": 10 * S, "b": 10 * S})
    assert (fresh.worst.connection, fresh.worst.seconds, fresh.worst.at) == ("a", 8.0, 9 * S)
