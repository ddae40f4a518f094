"""What a connection's first batch says about what came before it."""

from __future__ import annotations

from connectors._continuity import Continuity


def test_a_break_is_said_once() -> None:
    """With the first batch of the connection that could not take up, and with no other."""
    made = Continuity()
    assert made.say()
    made.connected(took_up=False)
    assert [made.say(), made.say()] == [False, True]
    made.connected(took_up=True)
    assert made.say()


def test_a_break_that_was_not_said_is_not_forgotten() -> None:
    """A connection that took up one which had said nothing yet begins where that one would have."""
    made = Continuity()
    made.connected(took_up=False)
    made.connected(took_up=True)
    assert [made.say(), made.say()] == [False, True]
