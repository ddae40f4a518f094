"""What a connection's first batch says about what came before it."""

from __future__ import annotations

from pathlib import Path

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


def test_a_break_that_is_not_safe_outlives_us(tmp_path: Path) -> None:
    """It was said and we were killed before anybody had it safe: who comes after us says it again, and then no more."""
    made = Continuity(str(tmp_path))
    made.connected(took_up=False)
    assert not made.say()
    after = Continuity(str(tmp_path))
    after.connected(took_up=True)
    assert not after.say()
    after.told()
    for later in (after, Continuity(str(tmp_path))):
        later.connected(took_up=True)
        assert later.say()


def test_what_is_safe_before_it_is_said_tells_nobody(tmp_path: Path) -> None:
    """A batch of the connection before, acknowledged late, does not take the break with it."""
    made = Continuity(str(tmp_path))
    made.connected(took_up=False)
    made.told()
    after = Continuity(str(tmp_path))
    after.connected(took_up=True)
    assert not after.say()


def test_a_peer_that_was_asked_and_not_heard_may_have_begun_anew(tmp_path: Path) -> None:
    """In doubt from the next question on, also where we were killed meanwhile, until one is answered and noted."""
    made = Continuity(str(tmp_path))
    made.asks()
    assert not made.doubtful
    made.connected(took_up=True)
    made.asks()
    after = Continuity(str(tmp_path))
    for _ in range(2):
        after.asks()
        assert after.doubtful
        after.refused()
    after.connected(took_up=True)
    after.asks()
    assert not after.doubtful


def test_a_peer_that_refuses_has_begun_nothing(tmp_path: Path) -> None:
    """The next question is asked without doubt."""
    made = Continuity(str(tmp_path))
    for _ in range(2):
        made.asks()
        assert not made.doubtful
        made.refused()
