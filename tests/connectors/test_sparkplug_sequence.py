"""The order of a node's messages, and how often it is asked for births."""

from __future__ import annotations

from collections.abc import Sequence as Many

from hypothesis import given
from hypothesis import strategies as st

from connectors.sparkplug.address import Key
from connectors.sparkplug.rebirth import Rebirths
from connectors.sparkplug.sequence import Sequence

NODE, OTHER = Key("g", "a"), Key("g", "b")


def begun(number: int = 0) -> Sequence[int]:
    """A node whose birth had this number."""
    made: Sequence[int] = Sequence()
    made.begin(number)
    return made


@st.composite
def shuffled(draw: st.DrawFn) -> Many[int]:
    """Consecutive positions from 1 on, each at most a few places away from its own."""
    count = draw(st.integers(1, 600))
    places = [n + draw(st.integers(0, 100)) for n in range(count)]
    return [n + 1 for _, n in sorted((place, n) for n, place in enumerate(places))]


@given(shuffled(), st.integers(0, 255))
def test_order_is_restored(sent: Many[int], birth: int) -> None:
    """Whatever order the messages come in, as long as none is missing they are taken in the node's own."""
    sequence = begun(birth)
    taken = [one for item in sent for one in sequence.offer((birth + item) % 256, item).ready]
    assert taken == sorted(sent)
    assert not sequence.held


@given(st.integers(0, 255), st.sets(st.integers(1, 100), min_size=1, max_size=60))
def test_what_is_missing_is_counted(birth: int, come: set[int]) -> None:
    """When the wait is over, what came is taken in order, each gap is counted, and it goes on from there."""
    sequence = begun(birth)
    taken = [one for item in sorted(come) for one in sequence.offer((birth + item) % 256, item).ready]
    given_up = sequence.give_up()
    assert taken + given_up.ready == sorted(come)
    assert given_up.missing == max(come) - len(come)
    missing = {(birth + n) % 256 for n in range(1, max(come)) if n not in come}
    assert given_up.birth == (0 in missing)
    following = max(come) + 1
    assert sequence.offer((birth + following) % 256, following).ready == [following]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=300))
def test_nothing_is_lost_and_little_is_kept(numbers: Many[int]) -> None:
    """Any numbers at all: each message is taken exactly once, and fewer than 128 wait."""
    sequence = begun()
    taken: list[int] = []
    for item, number in enumerate(numbers):
        taken += sequence.offer(number, item).ready
        assert len(sequence.held) < 128
    taken += sequence.give_up().ready
    assert sorted(taken) == list(range(len(numbers)))


def test_late_ones_are_taken() -> None:
    """A message from before is taken as it comes and moves nothing; three in a row mean that we have lost count."""
    sequence = begun()
    assert sequence.offer(1, 1).ready == [1]
    assert sequence.offer(1, 2) == ([2], False)
    assert sequence.offer(2, 3) == ([3], False)
    assert sequence.offer(200, 4) == ([4], False)
    assert sequence.offer(201, 5) == ([5], False)
    assert sequence.offer(202, 6) == ([6], True)
    assert sequence.offer(203, 7) == ([7], False)


def test_without_numbers() -> None:
    """A node that counts nothing, or whose birth nobody saw, is taken as it comes."""
    unknown: Sequence[int] = Sequence()
    assert [unknown.offer(n, n).ready for n in (5, 9, 1)] == [[5], [9], [1]]
    assert begun().offer(None, 1).ready == [1]


def test_a_node_is_not_asked_too_often() -> None:
    """However often it is wanted: once per pause, twice as long each time it stays silent, and again once born."""
    rebirths = Rebirths(10.0, allowed=True)
    asked = []
    for tenth in range(20_000):
        rebirths.want(NODE)
        if rebirths.due(tenth / 10) == NODE:
            asked.append(tenth / 10)
    assert asked == [0.0, 10.0, 30.0, 70.0, 150.0, 310.0, 630.0, 950.0, 1270.0, 1590.0, 1910.0]
    rebirths.born(NODE)
    assert rebirths.next_time() is None
    rebirths.want(NODE)
    assert rebirths.due(2229.9) is None
    assert rebirths.due(2230.0) == NODE
    rebirths.want(NODE)
    assert rebirths.next_time() == 2240.0


def test_nodes_are_asked_one_by_one() -> None:
    """Not all at once, or their births come all together."""
    rebirths = Rebirths(10.0, allowed=True)
    rebirths.want(NODE)
    rebirths.want(OTHER)
    assert (rebirths.due(100.0), rebirths.due(100.01), rebirths.due(100.06)) == (NODE, None, OTHER)
    assert rebirths.next_time() is None


def test_asking_is_switched_off() -> None:
    """`rebirth: false` asks nobody."""
    rebirths = Rebirths(10.0, allowed=False)
    rebirths.want(NODE)
    assert rebirths.due(100.0) is None
    assert rebirths.next_time() is None
