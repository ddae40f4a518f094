"""Windows between two events: one for each start, over the samples up to its stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.window import Router, Windower, Windows, cut
from tests.inference.test_window_trigger import BASE, SECOND, SPEC, TORQUE, Row, curve, feed

START, STOP = 6, 7
BETWEEN = replace(SPEC, kind="between", trigger=START, stop=STOP, stop_connection=1)
ONE_BIT = replace(BETWEEN, stop=0, stop_connection=0)


def armed(spec: object = BETWEEN) -> Windower:
    """Both tags are known, and not active."""
    windower = Windower(spec)  # type: ignore[arg-type]
    feed(windower, 0, [(START, 0, 0, 0), (STOP, 0, 0, 0)])
    windower.tick(BASE + SECOND // 2)
    assert not windower.waiting
    return windower


def closed(windower: Windower, rows: Sequence[Row], at: float) -> list[Windows]:
    """What these close at once, and when lateness has passed."""
    found = (feed(windower, at, rows), windower.tick(BASE + round((at + 1) * SECOND)))
    return [one for one in found if one is not None]


def test_a_stop_closes_the_window_over_the_cycle() -> None:
    """Its samples at even points; what came before the start and after the stop is not in it."""
    windower = armed()
    rows = [(TORQUE, 0.5, 99.0, 0), (START, 1, 1, 0), *curve(1.1), (STOP, 2.5, 1, 0), (TORQUE, 3.0, 99.0, 0)]
    (made,) = closed(windower, rows, 3)
    assert (made.start_time[0], made.end_time[0]) == (BASE + SECOND, BASE + 5 * SECOND // 2)
    assert cut(made)[0, :, 0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert (made.refused, made.sequence.tolist()) == ((), [1])


def test_each_start_has_a_window_though_its_stop_never_came() -> None:
    """It is refused as such when the next one starts; a stop without a start closes nothing."""
    windower = armed()
    assert closed(windower, [(STOP, 1, 1, 0), (STOP, 1.5, 0, 0), *curve(2)], 3) == []
    rows = [(START, 4, "job-1", 0), *curve(4.1), (START, 6, "job-2", 0), *curve(6.1), (STOP, 8, 1, 0)]
    unstopped, made = closed(windower, rows, 8)
    assert (unstopped.refused, made.refused) == (((0, f"no_stop:{STOP}"),), ())
    assert [*unstopped.sequence, *made.sequence] == [1, 2]
    assert [*unstopped.start_time, *made.start_time] == [BASE + 4 * SECOND, BASE + 6 * SECOND]
    assert unstopped.quality[0] >> 30 == 2
    assert np.isfinite(cut(made)).all()


def test_without_a_tag_of_its_own_the_stop_is_the_end_of_the_start() -> None:
    """A bit that is on while the machine runs."""
    windower = armed(ONE_BIT)
    assert closed(windower, [(START, 1, 1, 0), *curve(1.1)], 2.2) == []
    (made,) = closed(windower, [(START, 3, 0, 0)], 3)
    assert (made.start_time[0], made.end_time[0], made.refused) == (BASE + SECOND, BASE + 3 * SECOND, ())
    assert closed(windower, [(START, 4, 0, 0)], 4) == []


def test_the_first_values_only_arm() -> None:
    """A cycle that ran when the windower began is not seen whole; a value that is not usable changes nothing."""
    windower = Windower(BETWEEN)
    assert windower.waiting == (START, STOP)
    assert closed(windower, [(START, 0, 1, 0), *curve(0.1), (STOP, 2, 1, 0)], 2) == []
    assert not windower.waiting
    rows = [(START, 4, 0, 0), (START, 5, 1, 0x80000000), *curve(5.1), (STOP, 6.8, 0, 0), (STOP, 7, 1, 0)]
    assert closed(windower, rows, 7) == []


def test_a_repeated_delivery_closes_nothing_again() -> None:
    """The same batch twice is the same cycle."""
    windower = armed()
    rows = [(START, 1, 1, 0), *curve(1.1), (STOP, 2.5, 1, 0)]
    assert [len(one) for one in closed(windower, rows, 2.6)] == [1]
    assert closed(windower, rows, 4) == []


def test_what_is_lost_in_a_cycle_refuses_it() -> None:
    """A gap is a gap; and a cycle that takes too long is refused as too long."""
    windower = armed()
    feed(windower, 1, [(START, 1, 1, 0), *curve(1.1)])
    windower.lose(1, None, BASE + 3 * SECOND, BASE + 4 * SECOND)
    (made,) = closed(windower, [(STOP, 6, 1, 0)], 6)
    assert made.refused == ((0, f"gap:{TORQUE}"),)
    rows = [(STOP, 7, 0, 0), (START, 8, 0, 0), (START, 9, 1, 0), *curve(9.1, seconds=20), (STOP, 30, 1, 0)]
    (made,) = closed(windower, rows, 30)
    assert made.refused == ((0, f"too_long:{START}"),)


Event = tuple[float, int, int]


def slow(
    events: Sequence[Event], samples: Sequence[float], *, one_bit: bool
) -> list[tuple[float, float, list[float] | None]]:
    """Start, end, and the first and last sample of each cycle, one after the other; None for one without a stop."""
    known: dict[int, int] = {}
    begun, found = None, []
    for at, tag, value in sorted(events):
        before, known[tag] = known.get(tag), value
        if before is None or before == value:
            continue
        starts = tag == START and value
        stops = (tag == STOP and value) or (one_bit and tag == START and not value)
        if begun is not None and (starts or stops):
            inside = [one for one in samples if begun < one <= at]
            found.append((begun, at, None if starts else inside))
        begun = at if starts else None if stops else begun
    return found


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from([START, STOP]), st.integers(0, 2)), max_size=30,
             unique_by=lambda one: one[0]),
    st.lists(st.integers(1, 400), max_size=40, unique=True), st.booleans(), st.integers(1, 7), st.integers(0, 6),
)
def test_the_same_as_going_through_events_one_by_one(
    events: list[tuple[int, int, int]], samples: list[int], one_bit: bool, pieces: int, stop_at: int  # noqa: FBT001 - drawn
) -> None:
    """However the readings are divided into batches, and with a snapshot in the middle."""
    spec = replace(ONE_BIT if one_bit else BETWEEN, inputs=BETWEEN.inputs[:1], max_length_ns=0, context=(), length=2)
    marks = [(at / 10, tag, value) for at, tag, value in events if tag == START or not one_bit]
    times = [at / 10 + 0.05 for at in samples]
    rows: list[Row] = sorted(
        [*((tag, at, value, 0) for at, tag, value in marks), *((TORQUE, at, at, 0) for at in times)],
        key=lambda row: row[1],
    )
    router = Router({1: spec})
    made: list[Windows] = []
    for number, part in enumerate(np.array_split(np.arange(len(rows)), pieces)):
        some = [rows[index] for index in part]
        now = BASE + round((some[-1][1] if some else 0) * SECOND)
        found = router.feed(
            1, [one[0] for one in some], [BASE + round(one[1] * SECOND) for one in some],
            [float(one[2]) for one in some], {}, [0] * len(some), now, now,
        )  # fmt: skip
        made += found.values()
        if number == stop_at:
            router = Router.restore({1: spec}, router.snapshot())
    made += router.tick(BASE + 100 * SECOND).values()
    expected = slow(marks, times, one_bit=one_bit)
    assert [int(one) for each in made for one in each.sequence] == [*range(1, len(expected) + 1)]
    spans = [zip(each.start_time.tolist(), each.end_time.tolist(), strict=True) for each in made]
    windows = [span for each in spans for span in each]
    assert windows == [(BASE + round(begin * SECOND), BASE + round(end * SECOND)) for begin, end, _ in expected]
    cells = [cell for each in made for cell in cut(each)]
    reasons = [dict(each.refused).get(index, "") for each in made for index in range(len(each))]
    for cell, reason, (_, _, inside) in zip(cells, reasons, expected, strict=True):
        if inside is None:
            assert reason.startswith("no_stop")
        elif not inside:
            assert reason.startswith("no_data")
        else:
            assert reason == ""
            assert cell[:, 0].tolist() == pytest.approx([min(inside), max(inside)])
