"""Windows computed again are the windows that would have been cut live, had nothing been missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.backfill.service import Hole
from app.recomputing import Past, again, begins, ends, ends_between
from inference.window import Input, Spec, Windower, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inference.window import Windows

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
LATENESS = 5 * SECOND
"""Enough for the next reading of every tag, which is what a row that is filled afterwards knows too."""


def spec(*inputs: Input, length: int = 5, hop: int = 2, step: int = SECOND) -> Spec:
    """Windows on a grid."""
    return Spec("grid", inputs, step, length, hop, LATENESS, context=(("order", 9),))


PLAIN = spec(
    Input(1, 1), Input(2, 1, resample="mean"), Input(3, 2, resample="linear"), Input(4, 2, policy="hold", hold_s=3.0)
)


def plant(seconds: int, seed: int = 7) -> Past:
    """Readings of the four tags every 0.2 s or so, some of tag 4 Bad, and orders as context."""
    random = np.random.default_rng(seed)
    n = seconds * 20
    time = START + np.sort(random.integers(0, seconds * SECOND, n))
    tags = random.integers(1, 5, n)
    values = random.normal(size=n)
    status = np.where((tags == 4) & (random.random(n) < 0.2), 0x80000000, 0).astype(np.uint32)
    rows = np.arange(0, n, 100)
    tags[rows] = 9
    values[rows] = np.nan
    others: dict[int, object] = {int(row): f"order {row}" for row in rows}
    status[rows] = 0
    return Past(tags, time, values, others, status)


def live(of: Spec, past: Past, until: int) -> list[Windows]:
    """What a windower cuts that is fed every 0.1 s, as it comes."""
    windower = Windower(of)
    made = []
    for at in range(START, until, SECOND // 10):
        begin, end = past.time.searchsorted((at - SECOND // 10, at), "right").tolist()
        part = past.part(begin, end)
        for connection in {one.connection for one in of.inputs} - {1}:
            windower.take(connection, None, at)
        found = windower.feed(1, part.tags, part.time, part.values, part.others, part.status, at, at)
        if found is not None:
            made.append(found)
    return made


def by_end(windows: Sequence[Windows]) -> dict[int, tuple[bytes, int, str, object]]:
    """Per end its cells, its quality, why it is refused, and its context."""
    found: dict[int, tuple[bytes, int, str, object]] = {}
    for one in windows:
        why = dict(one.refused)
        for index, (end, cells) in enumerate(zip(one.end_time.tolist(), cut(one), strict=True)):
            assert end not in found
            found[end] = (cells.tobytes(), int(one.quality[index]), why.get(index, ""), one.context[index])
    return found


def recomputed(of: Spec, past: Past, first: int, last: int, holes: Sequence[Hole] = ()) -> list[Windows]:
    """With no readings but those that are asked for."""
    begin, end = past.time.searchsorted((begins(of, first) - 20 * SECOND, ends(of, last)), "right").tolist()
    return again(of, past.part(begin, end), holes, first, last)


def test_windows_are_those_that_a_live_windower_cuts() -> None:
    """Cells, quality, refusals and context, over every way to fill a cell."""
    past = plant(200)
    expected = {end: one for end, one in by_end(live(PLAIN, past, START + 190 * SECOND)).items() if one}
    first, last, count = ends_between(PLAIN, START + 60 * SECOND, START + 150 * SECOND, 1000)
    found = by_end(recomputed(PLAIN, past, first, last))
    assert list(found) == [end for end in expected if first <= end <= last]
    assert len(found) == count == 45
    linear = PLAIN.inputs[2]
    assert linear.resample == "linear"
    assert found == {end: expected[end] for end in found}


@pytest.mark.parametrize("most", [1, 3, 17])
def test_it_does_not_matter_where_the_work_is_divided(most: int) -> None:
    """Piece by piece the windows are the same as in one go."""
    past = plant(200, seed=3)
    first, last, _ = ends_between(PLAIN, START + 50 * SECOND, START + 120 * SECOND, 1000)
    whole = by_end(recomputed(PLAIN, past, first, last))
    pieces: dict[int, tuple[bytes, int, str, object]] = {}
    after = START + 50 * SECOND
    while True:
        first, end, count = ends_between(PLAIN, after, last, most)
        if not count:
            break
        pieces |= by_end(recomputed(PLAIN, past, first, end))
        after = end
    assert pieces == whole


def test_long_windows_and_short_steps_lose_no_row() -> None:
    """Windows of more rows than are filled at once, and rows a few ms apart, come as whole."""
    for one in (spec(Input(1, 1), length=100, hop=7), spec(Input(1, 1), length=300, hop=100, step=5_000_000)):
        past = plant(200, seed=5)
        first, last, count = ends_between(one, START + 120 * SECOND, START + 130 * SECOND, 10)
        found = by_end(recomputed(one, past, first, last))
        assert len(found) == count
        assert not any(why for _, _, why, _ in found.values())


def test_what_could_not_be_filled_stays_unknown() -> None:
    """In a hole silence is no news: its tags refuse the windows that lie in it, others of the connection do not."""
    one = spec(Input(1, 1, max_gap_s=2.0), Input(2, 1, max_gap_s=2.0), length=2, hop=1)
    past = plant(100)
    silent = (past.time > START + 40 * SECOND) & (past.time < START + 60 * SECOND)
    lost = Past(past.tags[~silent], past.time[~silent], past.values[~silent], {}, past.status[~silent])
    first, last, _ = ends_between(one, START + 30 * SECOND, START + 70 * SECOND, 1000)
    since, until = START + 40 * SECOND, START + 60 * SECOND

    def refused(holes: Sequence[Hole]) -> dict[int, str]:
        found = by_end(again(one, lost, holes, first, last))
        return {(end - START) // SECOND: why for end, (_, _, why, _) in found.items() if why}

    assert refused([]) == {}, "filled: nothing had changed"
    whole = refused([Hole(1, since, until)])
    assert set(whole.values()) == {"gap:1"}
    assert set(whole) == set(range(43, 61)), "from the largest gap on, and one row after"
    assert set(refused([Hole(1, since, until, frozenset((2,)))]).values()) == {"gap:2"}
    assert refused([Hole(7, since, until)]) == {}


def test_a_window_before_the_first_value_of_an_input_is_not_made_up() -> None:
    """Where an input had no value yet there is no window."""
    past = plant(100)
    late = np.where(past.tags == 3, past.time >= START + 50 * SECOND, True)  # noqa: FBT003 - a column
    some = np.flatnonzero(late)
    part = Past(past.tags[some], past.time[some], past.values[some], {}, past.status[some])
    first, last, _ = ends_between(PLAIN, START + 30 * SECOND, START + 80 * SECOND, 1000)
    found = sorted(by_end(again(PLAIN, part, [], first, last)))
    assert found[0] > START + 50 * SECOND + 4 * SECOND
    assert found[-1] == last


def test_ends_lie_on_the_grid_that_live_windows_end_on() -> None:
    """After a time, up to another, no more than asked for."""
    assert ends_between(PLAIN, START, START + 7 * SECOND, 100) == (START + 2 * SECOND, START + 6 * SECOND, 3)
    assert ends_between(PLAIN, START - 1, START + 7 * SECOND, 2) == (START, START + 2 * SECOND, 2)
    assert ends_between(PLAIN, START, START + SECOND, 9)[2] == 0
