"""What the outage journeys take for said: the reading beside a hole with the bit of an overflow, and no other."""

from __future__ import annotations

from connectors.opcua.columns import OVERFLOW
from tests.journeys.outages import overflowed

LOST = (5, 50.0, 0)


def test_only_the_reading_beside_a_hole_says_something_of_it() -> None:
    """Before or after it; further away it speaks of another hole, and other bits of a status say nothing."""
    good, told = [(time, 1.0, 0) for time in (1, 3, 7, 9)], OVERFLOW
    assert not overflowed(good, LOST)
    assert not overflowed([], LOST)
    for index, says in enumerate((False, True, True, False)):
        marked = [(time, value, told if at == index else 0) for at, (time, value, _) in enumerate(good)]
        assert overflowed(marked, LOST) == says
    assert not overflowed([(3, 1.0, 0x80), (7, 1.0, 0x40000000)], LOST)
