"""Windows triggered by a part: one per change of the counter, over the samples of its own cycle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.window import Input, Spec, Windower, Windows, cut

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
TORQUE, ANGLE, PART, UNIT, RECIPE = 1, 2, 5, 8, 9
SPEC = Spec(
    "trigger", (Input(TORQUE, 1), Input(ANGLE, 1)), 0, 5, 0, SECOND // 2, trigger=PART, trigger_connection=1,
    max_length_ns=10 * SECOND, context=(("unit_id", UNIT), ("recipe", RECIPE)),
)

Row = tuple[int, float, object, int]
"""tag, seconds after BASE, value, status."""


def feed(windower: Windower, now: float, rows: Sequence[Row] = ()) -> Windows | None:
    """One batch of connection 1, which is alive now."""
    received = BASE + round(now * SECOND)
    others = {i: row[2] for i, row in enumerate(rows) if isinstance(row[2], str)}
    values = [math.nan if isinstance(row[2], str) else float(row[2]) for row in rows]  # type: ignore[arg-type]
    times = [BASE + round(row[1] * SECOND) for row in rows]
    return windower.feed(1, [r[0] for r in rows], times, values, others, [r[3] for r in rows], received, received)


def must(windows: Windows | None) -> Windows:
    """There are some."""
    assert windows is not None
    return windows


def curve(begin: float, scale: float = 1.0, seconds: float = 1.0) -> list[Row]:
    """Torque and angle in eleven samples."""
    steps = np.linspace(0, 1, 11)
    return [
        row for step in steps.tolist()
        for row in ((TORQUE, begin + step * seconds, scale * step, 0), (ANGLE, begin + step * seconds, step * step, 0))
    ]


def armed(spec: Spec = SPEC) -> Windower:
    """A windower that has seen part 100 and its unit."""
    windower = Windower(spec)
    assert windower.waiting == (PART,)
    feed(windower, 0, [(PART, 0, 100, 0), (UNIT, 0, "SN-100", 0), (RECIPE, 0, 3, 0)])
    windower.tick(BASE + SECOND // 2)
    assert not windower.waiting
    return windower


def test_the_first_value_only_arms_and_each_change_closes_one_window() -> None:
    """The cycle's samples at even points from first to last, with the context of the part."""
    windower = armed()
    feed(windower, 2, [*curve(1), (PART, 2.5, 101, 0), (UNIT, 2.5, "SN-101", 0)])
    made = must(feed(windower, 3))
    assert cut(made)[0, :, 0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert cut(made)[0, :, 1].tolist() == pytest.approx([0, 0.065, 0.25, 0.565, 1])
    assert (made.start_time[0], made.end_time[0], made.sequence[0]) == (BASE, BASE + 5 * SECOND // 2, 1)
    assert made.context == ({"unit_id": "SN-101", "recipe": 3},)
    assert made.refused == ()
    assert made.newest == made.end_time[0]


def test_a_repeated_value_is_no_change() -> None:
    """A counter that is published again and again, or a batch delivered twice, closes nothing."""
    windower = armed()
    batch = [*curve(1), (PART, 2.5, 101, 0)]
    for _ in range(3):
        feed(windower, 2.6, batch)
    assert len(must(feed(windower, 3, batch))) == 1
    assert feed(windower, 4, [*batch, (PART, 3.5, 101, 0)]) is None
    assert feed(windower, 9) is None


def test_the_trigger_may_come_before_the_last_samples() -> None:
    """Samples that arrive within the allowed lateness are in; they prove the end of the cycle when all are past it."""
    windower = armed()
    assert feed(windower, 2, [(PART, 2, 101, 0)]) is None
    assert feed(windower, 2.4, curve(1)) is not None
    windower = armed()
    assert feed(windower, 1.9, [*curve(1, seconds=0.9), (PART, 2, 101, 0)]) is None
    assert must(feed(windower, 2.5)).refused == ()
    assert feed(windower, 2.6, [(TORQUE, 1.95, 9.0, 0)]) is None
    assert windower.late == 1


def test_parts_that_were_never_seen_get_a_refused_window_each() -> None:
    """A counter that jumps gives tombstones with end times and numbers of their own, and nobody's unit id."""
    windower = armed()
    made = must(feed(windower, 4, [*curve(2), (PART, 3.5, 104, 0), (UNIT, 3.5, "SN-104", 0)]))
    assert made.refused == ((0, "part_missed:101"), (1, "part_missed:102"), (2, "part_missed:103"))
    assert made.sequence.tolist() == [1, 2, 3, 4]
    assert (np.diff(made.end_time) > 0).all()
    assert made.context == ({"recipe": 3}, {"recipe": 3}, {"recipe": 3}, {"unit_id": "SN-104", "recipe": 3})
    assert np.isnan(cut(made)[:3]).all()
    assert not np.isnan(cut(made)[3]).any()
    assert (made.quality[:3] == 0x809E0000).all()


def test_a_counter_that_jumps_far_is_bounded() -> None:
    """A new programme in the controller gives 100 tombstones; the last one says which counts it stands for."""
    made = must(feed(armed(), 4, [*curve(2), (PART, 3.5, 1_000_000, 0)]))
    assert len(made) == 101
    assert made.refused[-1] == (99, "part_missed:200-999999")
    assert len(must(feed(armed(), 4, [*curve(2), (PART, 3.5, 201, 0)])).refused) == 100


@pytest.mark.parametrize("value", [0, 1, "SN-101", 100.5, 101])
def test_a_reset_a_text_or_a_fraction_misses_nothing(value: object) -> None:
    """Only a whole number that jumps forward tells how many parts are missing."""
    made = must(feed(armed(), 4, [*curve(2), (PART, 3.5, value, 0)]))
    assert made.refused == ()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no_data:1"),
        (curve(1)[1::2], "no_data:1"),
        (curve(1)[::2], "no_data:2"),
        ([*curve(1), (ANGLE, 1.55, 1.0, 0x80000000)], "bad_status:2"),
        ([*curve(1), (TORQUE, 1.55, math.nan, 0)], "not_finite:1"),
        ([*curve(1), (TORQUE, 1.55, "x", 0)], "wrong_type:1"),
        ([(TORQUE, 1.5, 1.0, 0x80000000)], "bad_status:1"),
        (curve(1, seconds=11), "too_long:5"),
    ],
)
def test_a_cycle_that_cannot_be_filled_is_refused(rows: list[Row], reason: str) -> None:
    """No samples, samples that cannot be used and cycles that never end are told apart."""
    made = must(feed(armed(), 14, [*rows, (PART, 13, 101, 0)]))
    assert made.refused == ((0, reason),)
    assert np.isnan(cut(made)).all()
    assert made.quality[0] >= 0x80000000


def test_a_stop_between_parts_does_not_lengthen_the_cycle() -> None:
    """What counts is the span of the samples: a station may stand still for a weekend."""
    windower = armed()
    for hour in range(60):
        feed(windower, hour * 3600)
    made = must(feed(windower, 216_005, [*curve(216_000), (PART, 216_002, 101, 0)]))
    assert made.refused == ()


def test_an_outage_inside_a_cycle_is_a_gap() -> None:
    """Samples before and after a lost connection are not joined by a line."""
    windower = armed(replace(SPEC, inputs=tuple(replace(one, max_gap_s=2) for one in SPEC.inputs), max_length_ns=0))
    feed(windower, 1.5, curve(0.5, seconds=0.5))
    made = must(feed(windower, 9, [*curve(8), (PART, 9, 101, 0)]))
    assert made.refused == ((0, "gap:1"),)
    feed(windower, 10)
    feed(windower, 11)
    made = must(feed(windower, 13, [(TORQUE, 9.5, 1.0, 0), (ANGLE, 9.5, 1.0, 0), *curve(12), (PART, 13, 102, 0)]))
    assert made.refused == ()


def test_hold_and_interpolate_reach_over_bad_samples() -> None:
    """Held points are UncertainLastUsableValue, points on a line over a loss UncertainSubstituteValue."""
    inputs = (Input(TORQUE, 1, policy="hold", hold_s=1), Input(ANGLE, 1, policy="interpolate", hold_s=1))
    rows: list[Row] = []
    for tag in (TORQUE, ANGLE):
        rows += [(tag, 1.0 + i, float(i), 0x80000000 if i == 1 else 0x40000000 if i == 3 else 0) for i in range(5)]
    made = must(feed(armed(replace(SPEC, inputs=inputs)), 7, [*rows, (PART, 6, 101, 0)]))
    assert made.refused == ()
    assert cut(made)[0].tolist() == [[0, 0], [0, 1], [2, 2], [3, 3], [4, 4]]
    assert made.status[:, 0].tolist() == [0, 0x40900000, 0, 0x40000000, 0]
    assert made.status[:, 1].tolist() == [0, 0x40910000, 0, 0x40000000, 0]
    short = replace(SPEC, inputs=tuple(replace(one, hold_s=0) for one in inputs), length=9)
    assert must(feed(armed(short), 7, [*rows, (PART, 6, 101, 0)])).refused == ((0, "bad_status:1"),)


def test_a_slow_input_is_held_into_the_cycle_only_where_that_is_configured() -> None:
    """A temperature that did not change during the cycle: refused by default, held and said so by policy."""
    slow = Input(3, 1, policy="hold", hold_s=60)
    windower = armed(replace(SPEC, inputs=(*SPEC.inputs, slow)))
    feed(windower, 1, [(3, 1, 21.5, 0)])
    assert must(feed(windower, 3, [*curve(1.5), (PART, 2.5, 101, 0)])).refused == ()
    made = must(feed(windower, 6, [*curve(4.5), (PART, 5.5, 102, 0)]))
    assert cut(made)[0, :, 2].tolist() == [21.5] * 5
    assert made.quality[0] == 0x40900000
    windower = armed(replace(SPEC, inputs=(*SPEC.inputs, Input(3, 1))))
    feed(windower, 0.5, [(3, -1, 21.5, 0)])
    assert must(feed(windower, 3, [*curve(1.5), (PART, 2.5, 101, 0)])).refused == ((0, "no_data:3"),)


def test_changes_with_one_coarse_stamp_are_all_answered() -> None:
    """Two parts at the same source time are two windows with different ends; the second has no samples."""
    made = must(feed(armed(), 4, [*curve(2), (PART, 3, 101, 0), (PART, 3, 102, 0)]))
    assert made.refused == ((1, "no_data:1"),)
    assert made.end_time.tolist() == [BASE + 3 * SECOND, BASE + 3 * SECOND + 1]


def test_changes_with_one_coarse_stamp_may_come_in_several_batches() -> None:
    """A second change at a time already dealt with counts; what was delivered again does not."""
    windower = armed()
    batch: list[Row] = [*curve(1.5), (PART, 3, 101, 0), (PART, 3, 102, 0)]
    feed(windower, 3.1, batch)
    made = must(feed(windower, 4, batch))
    assert made.end_time.tolist() == [BASE + 3 * SECOND, BASE + 3 * SECOND + 1]
    made = must(feed(windower, 5, [*batch, (PART, 3, 103, 0)]))
    assert made.end_time.tolist() == [BASE + 3 * SECOND + 2]
    assert made.sequence.tolist() == [3]


def test_samples_without_a_trigger_are_bounded() -> None:
    """A station that streams without ever finishing a part keeps no more than its longest cycle needs."""
    windower = armed(replace(SPEC, max_length_ns=SECOND))
    size = 70_000
    for index in range(1, 4):
        times = BASE + index * 100 * SECOND + np.arange(size) * SECOND // 1000
        now = int(times[-1])
        windower.feed(1, np.full(size, TORQUE), times, np.ones(size), {}, np.zeros(size, np.uint32), now, now)
    assert len(windower.snapshot()) < 2 * size * 23
    made = must(feed(windower, 400, [(PART, 399, 101, 0)]))
    assert made.refused == ((0, "too_long:5"),)


rows = st.one_of(
    st.tuples(st.sampled_from([TORQUE, ANGLE]), st.integers(0, 80).map(lambda n: n / 8), st.floats(-9, 9),
              st.sampled_from([0, 0, 0, 0x40000000, 0x80000000])),
    st.tuples(st.just(PART), st.integers(0, 10).map(float), st.sampled_from([100, 101, 103, "x", math.inf]),
              st.just(0)),
    st.tuples(st.just(UNIT), st.integers(0, 10).map(float), st.sampled_from(["a", "b", 3]), st.just(0)),
)
batches = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 2), st.lists(rows, max_size=12)), max_size=12)
specs = st.builds(
    lambda policy, hold, gap, length, limit: replace(
        SPEC, inputs=tuple(replace(i, policy=policy, hold_s=hold, max_gap_s=gap) for i in SPEC.inputs), length=length,
        max_length_ns=limit,
    ),
    st.sampled_from(["good", "uncertain", "hold", "interpolate"]), st.sampled_from([0.0, 1.0, 100.0]),
    st.sampled_from([0.5, 60.0]), st.integers(1, 6), st.sampled_from([0, 2 * SECOND]),
)


@settings(max_examples=100, deadline=None)
@given(specs, batches, st.integers(0, 12))
def test_numbers_ends_and_snapshots_hold_whatever_comes(
    spec: Spec, made_of: list[tuple[float, list[Row]]], stop: int,
) -> None:
    """Numbers have no hole, ends rise, accepted windows are finite, and going on from a snapshot changes nothing."""
    straight, stopped = Windower(spec), Windower(spec)
    number, end = 0, 0
    for index, (now, batch) in enumerate(sorted(made_of, key=lambda one: one[0])):
        if index == stop:
            stopped = Windower.restore(spec, stopped.snapshot())
        one, other = feed(straight, now, batch), feed(stopped, now, batch)
        assert repr(one) == repr(other)
        if one is None:
            continue
        assert one.sequence.tolist() == list(range(number + 1, number + len(one) + 1))
        assert (np.diff([end, *one.end_time.tolist()]) > 0).all()
        number, end = number + len(one), int(one.end_time[-1])
        refused = {i for i, _ in one.refused}
        for i, window in enumerate(cut(one)):
            assert np.isnan(window).all() if i in refused else np.isfinite(window).all()
            assert (one.quality[i] >= 0x80000000) == (i in refused)
    assert straight.snapshot() == Windower.restore(spec, straight.snapshot()).snapshot()
