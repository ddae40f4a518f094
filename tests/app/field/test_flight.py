"""What is under way to the workers: how much, what has landed, what is sent again."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.field.backoff import Backoff
from app.field.flight import LONGEST_S, MAX_BYTES, Flight, is_applied
from app.journal import Position
from app.journal.service import Progress

NOTHING = Progress({1: 0}, {})


def _flight(count: int, *, batches: int = 64, now: float = 0.0) -> Flight:
    flight = Flight(batches, resend_after_s=10)
    for number in range(1, count + 1):
        flight.sent(Position(1, number), b"x", now + number / 1000)
    return flight


def test_applied_is_below_the_watermark_or_named_above_it() -> None:
    """Only the database says applied."""
    seen = Progress({1: 3}, {1: {5}, 2: {1}})
    applied = [Position(1, 3), Position(1, 5), Position(2, 1)]
    assert all(is_applied(one, seen) for one in applied)
    assert not any(is_applied(one, seen) for one in (Position(1, 4), Position(2, 2), Position(3, 1)))


async def test_room_is_made_by_what_lands() -> None:
    """With as many under way as may be, the next waits until one is applied."""
    flight = _flight(2, batches=2)
    waiting = asyncio.create_task(flight.room(1))
    await asyncio.sleep(0)
    assert flight.land(NOTHING, 1.0) == 0
    await asyncio.sleep(0)
    assert not waiting.done()
    assert flight.land(Progress({1: 1}, {}), 1.0) == 1
    await asyncio.wait_for(waiting, 5)


async def test_bytes_count_as_well_as_messages() -> None:
    """A few large messages fill the room; a single one of any size may go."""
    flight = Flight(64, 10)
    await flight.room(2 * MAX_BYTES)
    flight.sent(Position(1, 1), bytes(MAX_BYTES - 10), 0.0)
    assert flight.crowded
    await flight.room(10)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flight.room(11), 0.05)


def test_a_message_that_was_overtaken_is_sent_again() -> None:
    """When its time is up and a later one is applied, it was lost."""
    flight = _flight(3)
    flight.land(Progress({1: 0}, {1: {2}}), 9.0)
    assert flight.overdue(9.0) == []
    assert [position for position, _ in flight.overdue(10.5)] == [Position(1, 1)]


def test_behind_a_slow_worker_nothing_is_sent_again() -> None:
    """While earlier ones are applied one by one, later ones are waiting, not lost, however long."""
    flight = _flight(10)
    for number in range(1, 10):
        flight.land(Progress({1: number}, {}), number * 9.0)
        assert flight.overdue(number * 9.0) == []


def test_when_nothing_moves_everything_late_is_sent_again_with_back_off() -> None:
    """After a time without any progress it is repeated; each repeat doubles the wait, up to a limit."""
    flight = _flight(1)
    assert flight.overdue(9.0) == []
    now, waits = 0.001, []
    for _ in range(8):
        due = next(t for t in range(1, 10_000) if flight.overdue(now + t - 0.5))
        waits.append(due)
        now += due
        for position, _ in flight.overdue(now):
            flight.repeat(position, now)
    assert waits[:4] == [11, 21, 41, 81]
    assert max(waits) <= LONGEST_S + 1


def test_what_is_overtaken_again_and_again_waits_no_longer_than_some_time() -> None:
    """Workers that are well let go of it each time, of a database that comes and goes: minutes are for stalled ones."""
    flight = _flight(1)
    now, waits = 0.001, []
    for number in range(2, 8):
        flight.sent(Position(1, number), b"x", now + 0.001)
        flight.land(Progress({1: 0}, {1: {number}}), now + 1)
        due = next(t for t in range(1, 1000) if flight.overdue(now + t - 0.5))
        waits.append(due)
        now += due
        flight.repeat(Position(1, 1), now)
    assert waits == [11, 21, 41, 41, 41, 41]


def test_an_original_that_arrives_late_does_not_make_the_others_look_lost() -> None:
    """A message applied after it was repeated proves nothing about those sent before the repeat."""
    flight = _flight(5)
    flight.repeat(Position(1, 1), 20.0)
    flight.land(Progress({1: 1}, {}), 21.0)
    assert flight.overdue(22.0) == []


def test_a_slow_queue_is_not_overtaken_by_a_fast_one() -> None:
    """What is applied out of one says nothing of what waits in another; each is stalled by itself."""
    flight = Flight(64, 10)
    for number in range(1, 6):
        flight.sent(Position(1, number), b"x", number / 1000, ("fast",) if number % 2 else ("slow",))
    flight.land(Progress({1: 0}, {1: {2}}), 9.0)
    flight.land(Progress({1: 0}, {1: {2, 3, 5}}), 11.0)
    assert [position.number for position, _ in flight.overdue(11.5)] == [1]
    flight.land(Progress({1: 3}, {1: {5}}), 12.0)
    assert flight.overdue(12.0) == []
    assert [position.number for position, _ in flight.overdue(20.0)] == [4]


def test_a_message_that_goes_elsewhere_waits_there_anew() -> None:
    """It counts for its new queue, from then on, and with the first wait."""
    flight = _flight(1)
    flight.repeat(Position(1, 1), 15.0)
    assert [one.number for one, _ in flight.stranded(lambda way, _: way == ("there",))] == [1]
    flight.repeat(Position(1, 1), 20.0, ("there",))
    assert (flight.within(), flight.within("there")) == (0, 1)
    assert flight.stranded(lambda way, _: way == ("there",)) == []
    assert flight.overdue(29.0) == []
    assert len(flight.overdue(31.0)) == 1


def test_everything_is_what_is_under_way() -> None:
    """Whatever was not applied is known, in order; a repeat of what has landed meanwhile is forgotten."""
    flight = _flight(3)
    flight.land(Progress({1: 1}, {}), 1.0)
    assert [position.number for position, _ in flight.everything()] == [2, 3]
    flight.repeat(Position(1, 1), 2.0)
    assert len(flight) == 2


@given(st.floats(1, 100), st.integers(1, 20))
def test_waits_are_drawn_below_a_bound_that_doubles(cap: float, tries: int) -> None:
    """The first wait is at most a second, each later one at most double the bound before, none above the cap."""
    backoff = Backoff(cap)
    for i in range(tries):
        assert 0 <= backoff.next_s() <= min(2.0**i, cap)
    backoff.reset()
    assert backoff.next_s() <= 1.0
