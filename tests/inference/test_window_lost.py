"""Readings that were there and went: cycles that have any part of them are refused, and every part has its number."""

from __future__ import annotations

import numpy as np

from inference.window import Input, Router, Spec, Windows

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
TORQUE, PART = 1, 5
SPEC = Spec(
    "trigger", (Input(TORQUE, 1),), 0, 3, 0, 0, trigger=PART, trigger_connection=1, max_length_ns=10 * SECOND,
)


def _feed(router: Router, now: float, *rows: tuple[int, float, float]) -> list[Windows]:
    """Rows of tag, seconds and value, in one batch of connection 1."""
    at = BASE + round(now * SECOND)
    tags, times, values = [r[0] for r in rows], [BASE + round(r[1] * SECOND) for r in rows], [r[2] for r in rows]
    return list(router.feed(1, tags, times, values, {}, [0] * len(rows), at, at).values())


def _cycle(router: Router, part: int, begin: float) -> list[Windows]:
    """Three samples, and the part that ends with the last."""
    samples = [(TORQUE, begin + step / 4, step) for step in range(1, 4)]
    return _feed(router, begin + 1, *samples, (PART, begin + 0.9, part))


def _lose(router: Router, since: float, until: float, *rows: tuple[int, float, float]) -> None:
    times = [BASE + round(r[1] * SECOND) for r in rows]
    span = (BASE + round(since * SECOND), BASE + round(until * SECOND))
    router.lose(1, [r[0] for r in rows], times, [r[2] for r in rows], {}, [0] * len(rows), *span)


def test_a_cycle_that_lost_samples_is_refused() -> None:
    """The drop is shorter than any gap that is tolerated, and yet no value is made of the samples that are left."""
    for restored in (False, True):
        router = Router({1: SPEC})
        made = [*_cycle(router, 1, 0), *_cycle(router, 2, 1), *_feed(router, 2.2, (TORQUE, 2.1, 1))]
        _lose(router, 2.3, 2.4, (TORQUE, 2.4, 5))
        router = Router.restore({1: SPEC}, router.snapshot()) if restored else router
        made += [*_cycle(router, 3, 2), *_cycle(router, 4, 3)]
        assert [number for one in made for number in one.sequence.tolist()] == [1, 2, 3]
        assert [why for one in made for _, why in one.refused] == ["gap:1"]
        assert made[1].refused == ((0, "gap:1"),)


def test_parts_that_went_are_missed_each_by_its_number() -> None:
    """A counter that went on while nothing is known: those between are missed, those at its edges refused."""
    router = Router({1: SPEC})
    made = [*_cycle(router, 1, 0), *_cycle(router, 2, 1)]
    _lose(router, 2, 5, (TORQUE, 4.8, 1), (PART, 4.9, 5))
    made += [*_cycle(router, 6, 5), *_cycle(router, 7, 6)]
    refused = [why for one in made for _, why in one.refused]
    assert refused == ["part_missed:3", "part_missed:4", "gap:1", "gap:1"]
    assert [number for one in made for number in one.sequence.tolist()] == list(range(1, 7))


def test_a_connection_that_is_not_concerned_changes_nothing() -> None:
    """What another connection lost is no matter of these windows."""
    router, other = Router({1: SPEC}), Router({1: SPEC})
    _cycle(router, 1, 0)
    _cycle(other, 1, 0)
    other.lose(7, (), (), (), {}, (), BASE, BASE + 2 * SECOND)
    (one,), (two,) = _cycle(router, 2, 1), _cycle(other, 2, 1)
    assert one.refused == two.refused == ()
    np.testing.assert_array_equal(one.block, two.block)
