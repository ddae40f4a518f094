"""What a grid of windows promises: when it starts, what it refuses, what travels together, what it never does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference.window import Input, SnapshotError, Spec, Windower, Windows, cut

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
NO_TIME = int(np.iinfo(np.int64).min)
SPEC = Spec("grid", (Input(1, 1), Input(2, 1)), SECOND, 3, 1, 0)

Row = tuple[int, float, object, int]
"""tag, seconds after BASE, value, status."""


def feed(windower: Windower, now: float, rows: Sequence[Row] = (), connection: int = 1) -> Windows | None:
    """One batch of a connection that is alive now; `now` in seconds after BASE."""
    received = BASE + round(now * SECOND)
    times = [NO_TIME if math.isnan(row[1]) else BASE + round(row[1] * SECOND) for row in rows]
    others = {i: row[2] for i, row in enumerate(rows) if not isinstance(row[2], float)}
    values = [row[2] if isinstance(row[2], float) else math.nan for row in rows]
    tags, status = [row[0] for row in rows], [row[3] for row in rows]
    return windower.feed(connection, tags, times, values, others, status, received, received)


def must(windows: Windows | None) -> Windows:
    """There are some."""
    assert windows is not None
    return windows


def started(spec: Spec) -> Windower:
    """A windower whose inputs all have a Good 1.0 at BASE."""
    windower = Windower(spec)
    feed(windower, 0, [(one.tag, 0, 1.0, 0) for one in spec.inputs])
    return windower


def test_nothing_is_emitted_before_every_input_has_a_usable_value() -> None:
    """A tag that never speaks holds up the start and is named; there are no tombstones for it."""
    windower = Windower(SPEC)
    assert feed(windower, 0, [(1, 0, 1.0, 0)]) is None
    assert feed(windower, 50, [(1, 49, 2.0, 0), (2, 49, 3.0, 0x80000000)]) is None
    assert windower.waiting == (2,)
    made = must(feed(windower, 52, [(2, 50, 4.0, 0)]))
    assert not windower.waiting
    assert made.end_time.tolist() == [BASE + 52 * SECOND]
    assert made.sequence.tolist() == [1]


def test_values_that_have_not_changed_for_weeks_do_not_bring_weeks_of_windows() -> None:
    """The first row is no older than the largest gap before the connection was first heard of."""
    windower = Windower(replace(SPEC, length=1, inputs=(Input(1, 1, max_gap_s=5),)))
    made = must(feed(windower, 0, [(1, -2_000_000, 7.0, 0)]))
    assert made.end_time.tolist() == [BASE + second * SECOND for second in range(-5, 1)]


def test_an_input_that_comes_hours_late_with_an_old_stamp_does_not_bring_hours_of_windows() -> None:
    """The first row is no older than a minute before the clock, however long the other inputs have been there."""
    windower = Windower(replace(SPEC, length=1))
    for now in range(0, 7200, 50):
        feed(windower, now, [(1, now, 1.0, 0)])
    made = must(feed(windower, 7200, [(2, -9000, 7.0, 0)]))
    assert made.end_time[0] == BASE + 7140 * SECOND
    assert made.refused == ()


def test_many_readings_before_the_start_are_let_go_without_losing_the_value_in_force() -> None:
    """While one input is awaited for hours, the others cost bounded memory and keep their last value."""
    windower = Windower(replace(SPEC, length=1))
    size = 70_000
    for index in range(3):
        begin = BASE + index * 1000 * SECOND
        times = begin + np.arange(size) * SECOND // 100
        values = np.arange(size, dtype=np.float64)
        windower.feed(1, np.full(size, 1), times, values, {}, np.zeros(size, np.uint32), int(times[-1]), int(times[-1]))
    held = len(windower.snapshot())
    assert held < 2 * size * 23
    made = must(feed(windower, 2700, [(2, 2700, 1.0, 0)]))
    assert made.block.tolist() == [[float(size - 1), 1.0]]


def test_windows_end_on_the_absolute_grid() -> None:
    """Where windows end does not depend on when the gateway started."""
    windower = Windower(replace(SPEC, hop=4))
    feed(windower, 1.3, [(1, 1.3, 1.0, 0), (2, 1.2, 2.0, 0)])
    made = must(windower.tick(BASE + 20 * SECOND))
    assert ((made.end_time - BASE) // SECOND).tolist() == [4, 8, 12, 16, 20]
    assert (made.end_time - made.start_time).tolist() == [3 * SECOND] * 5


def test_overlapping_windows_travel_once() -> None:
    """The block holds each row once, and `cut` makes windows of it without copying."""
    made = must(started(SPEC).tick(BASE + 10 * SECOND))
    assert made.block.shape == (11, 2)
    assert len(made) == 9
    tensor = cut(made)
    assert tensor.shape == (9, 3, 2)
    assert np.shares_memory(tensor, made.block)
    assert all((tensor[i] == made.block[i : i + 3]).all() for i in range(9))


def test_the_clock_closes_a_row_after_the_allowed_lateness() -> None:
    """A row waits for late readings exactly so long, and counts those that come later still."""
    windower = started(replace(SPEC, length=1, lateness_ns=2 * SECOND))
    assert feed(windower, 2.9, [(1, 0.9, 5.0, 0)]) is None
    made = must(windower.tick(BASE + 3 * SECOND))
    assert made.block.tolist() == [[5.0, 1.0]]
    assert feed(windower, 3.1, [(1, 0.95, 6.0, 0)]) is None
    assert windower.late == 1
    assert must(windower.tick(BASE + 4 * SECOND)).block.tolist() == [[6.0, 1.0]]


def test_rows_close_at_once_when_every_input_is_past_them() -> None:
    """Readings in order prove that nothing older will come: no waiting for the clock."""
    windower = started(replace(SPEC, length=1, lateness_ns=60 * SECOND))
    assert feed(windower, 1, [(1, 1, 2.0, 0)]) is None
    made = must(feed(windower, 1, [(2, 1, 3.0, 0)]))
    assert made.block.tolist() == [[2.0, 3.0]]
    assert made.newest == BASE + SECOND


def test_silence_of_a_living_connection_is_no_gap() -> None:
    """An input that reports nothing for an hour keeps its value while heartbeats come."""
    windower = started(replace(SPEC, length=1))
    for minute in range(1, 61):
        made = must(feed(windower, 59 * minute))
        assert made.refused == ()
    assert made.block[-1].tolist() == [1.0, 1.0]


def test_the_end_of_liveness_makes_tombstones_until_it_is_back() -> None:
    """Each window over a gap is refused under its own number, with a Bad status and NaN instead of a value."""
    spec = replace(SPEC, length=1, inputs=(Input(1, 1, max_gap_s=2), Input(2, 2, max_gap_s=2)))
    windower = started(spec)
    feed(windower, 0, connection=2)
    made = must(feed(windower, 5, connection=2))
    assert made.refused == ((2, "gap:1"), (3, "gap:1"), (4, "gap:1"))
    assert np.isnan(made.block[-1, 0])
    assert made.status[-1].tolist() == [0x80310000, 0]
    assert made.quality[-1] == 0x80310000
    feed(windower, 6)
    back = must(windower.tick(BASE + 7 * SECOND))
    assert back.refused == ()
    assert back.sequence[0] > made.sequence[-1]


def test_an_outage_seen_only_afterwards_is_still_a_gap() -> None:
    """When the first batch after an outage closes all its rows, they are refused, not filled with the held value."""
    windower = started(replace(SPEC, length=1, inputs=(Input(1, 1, max_gap_s=2),)))
    made = must(feed(windower, 10, [(1, 10, 5.0, 0)]))
    assert [reason for _, reason in made.refused] == ["gap:1"] * 7
    assert made.block[[0, 1, -1], 0].tolist() == [1.0, 1.0, 5.0]


def test_readings_delivered_after_an_outage_fill_their_rows() -> None:
    """What a persistent session kept through an outage is data, not a gap."""
    windower = started(replace(SPEC, length=1, inputs=(Input(1, 1, max_gap_s=2),)))
    made = must(feed(windower, 10, [(1, float(s), float(s), 0) for s in range(1, 11)]))
    assert made.refused == ()
    assert made.block[:, 0].tolist() == [float(s) for s in range(1, 11)]


def test_a_long_outage_is_bounded_work_under_one_tombstone() -> None:
    """Weeks without a call give one refused window that says how many rows it stands for, then the newest rows."""
    windower = started(replace(SPEC, length=2))
    made = must(feed(windower, 1_000_000, [(1, 1e6, 2.0, 0), (2, 1e6, 2.0, 0)]))
    assert made.refused[0] == (0, "skipped:991808")
    assert made.end_time[0] == BASE + 991_808 * SECOND
    assert np.isnan(cut(made)[0]).all()
    assert made.quality[0] >= 0x80000000
    assert (np.diff(made.end_time) > 0).all()
    assert made.sequence.tolist() == list(range(1, len(made) + 1))
    assert {reason for _, reason in made.refused[1:]} == {"gap:1"}
    assert len(made.refused) == len(made) == 8192
    assert must(feed(windower, 1_000_001)).refused == ()


@pytest.mark.parametrize(
    ("policy", "value", "status", "reason"),
    [
        ("good", 2.0, 0x40000000, "bad_status:1"),
        ("uncertain", 2.0, 0x80050000, "bad_status:1"),
        ("uncertain", 2.0, 0xC0000000, "bad_status:1"),
        ("uncertain", math.nan, 0, "not_finite:1"),
        ("uncertain", math.inf, 0, "not_finite:1"),
        ("uncertain", "open", 0, "wrong_type:1"),
        ("uncertain", 2**60, 0, "wrong_type:1"),
        ("hold", 2.0, 0x80050000, "bad_status:1"),
        ("interpolate", math.nan, 0, "not_finite:1"),
    ],
)
def test_what_cannot_be_used_refuses_the_window_and_names_the_tag(
    policy: str, value: object, status: int, reason: str,
) -> None:
    """A bad status, a number that is none and a text are told apart; after its time, hold refuses too."""
    windower = started(replace(SPEC, length=1, inputs=(Input(1, 1, policy=policy, hold_s=0.2), Input(2, 1))))
    made = must(feed(windower, 2, [(1, 0.5, value, status)]))
    assert made.refused == ((0, reason), (1, reason))
    assert must(feed(windower, 3, [(1, 3, 4.0, 0)])).refused == ()


def test_an_uncertain_input_makes_the_window_uncertain() -> None:
    """The worst accepted status travels with the window as long as the row is in it."""
    windower = started(SPEC)
    feed(windower, 3, [(2, 3, 2.0, 0x40950000)])
    made = must(feed(windower, 8, [(2, 4, 2.0, 0)]))
    assert made.quality.tolist() == [0x40950000, 0x40950000, 0, 0, 0]


def test_hold_and_interpolate_say_what_they_invented() -> None:
    """A held value is UncertainLastUsableValue, an interpolated one UncertainSubstituteValue, for hold_s at most."""
    both = (Input(1, 1, policy="hold", hold_s=2), Input(2, 1, policy="interpolate", hold_s=2))
    windower = started(replace(SPEC, length=1, inputs=both, lateness_ns=9 * SECOND))
    bad = [(tag, 1.0, 9.0, 0x80000000) for tag in (1, 2)]
    made = must(feed(windower, 4, [*bad, (1, 5.0, 6.0, 0), (2, 5.0, 6.0, 0)]))
    assert made.status[:3].tolist() == [[0x40900000, 0x40910000]] * 3
    assert made.block[:3].tolist() == [[1.0, 2.0], [1.0, 3.0], [1.0, 4.0]]
    assert made.refused == ((3, "bad_status:1"),)
    assert made.block[4].tolist() == [6.0, 6.0]


def test_the_time_to_hold_runs_from_the_first_loss_over_many_calls() -> None:
    """Further Bad readings do not renew it, however the calls fall."""
    windower = started(replace(SPEC, length=1, inputs=(Input(1, 1, policy="hold", hold_s=3),)))
    reasons = [must(feed(windower, now, [(1, now - 0.5, 9.0, 0x80000000)])).refused for now in range(1, 6)]
    assert reasons == [(), (), (), ((0, "bad_status:1"),), ((0, "bad_status:1"),)]


def test_an_aggregate_says_when_it_left_readings_out() -> None:
    """A mean over the usable readings is UncertainSubNormal; where every reading must be Good it is refused."""
    inputs = (Input(1, 1, "mean"), Input(1, 1, "max"), Input(1, 1, "min", policy="good"))
    windower = started(replace(SPEC, length=1, inputs=inputs))
    made = must(feed(windower, 1, [(1, 0.2, 2.0, 0), (1, 0.4, 4.0, 0), (1, 0.6, 9.0, 0x80000000)]))
    assert made.block[0, :2].tolist() == [3.0, 4.0]
    assert made.status[0].tolist() == [0x40950000, 0x40950000, 0x80000000]
    assert made.refused == ((0, "bad_status:1"),)


def test_a_sum_that_overflows_is_refused_not_infinite() -> None:
    """A model never sees an infinite mean of finite readings."""
    windower = started(replace(SPEC, length=1, inputs=(Input(1, 1, "mean"), Input(1, 1, "linear"))))
    made = must(feed(windower, 1, [(1, 0.2, 1.7e308, 0), (1, 0.4, 1.7e308, 0)]))
    assert made.refused == ((0, "not_finite:1"),)


def test_a_batch_delivered_twice_is_one_batch() -> None:
    """Same tag, time, value and status is one reading: a mean does not change, and nothing is late."""
    once, twice = (started(replace(SPEC, length=1, inputs=(Input(1, 1, "mean"),))) for _ in range(2))
    rows: list[Row] = [(1, 0.5, 2.0, 0), (1, 0.5, 5.0, 0), (1, 0.7, 2.0, 0)]
    for windower, times in ((once, 1), (twice, 3)):
        for _ in range(times):
            feed(windower, 0.8, rows)
    assert repr(once.tick(BASE + SECOND)) == repr(twice.tick(BASE + SECOND))


def test_a_batch_delivered_again_after_its_rows_closed_changes_nothing() -> None:
    """Of two values at one time the later one stays in force."""
    windower = started(replace(SPEC, length=1, inputs=(Input(1, 1),)))
    rows: list[Row] = [(1, 0.5, 2.0, 0), (1, 0.5, 5.0, 0)]
    feed(windower, 0.6, rows)
    assert must(windower.tick(BASE + SECOND)).block.tolist() == [[5.0]]
    feed(windower, 1.5, rows)
    assert must(windower.tick(BASE + 2 * SECOND)).block.tolist() == [[5.0]]


def test_at_the_same_time_the_later_arrival_is_in_force() -> None:
    """Coarse stamps keep the order of arrival, within a batch, over batches, and after the row has closed."""
    windower = started(replace(SPEC, length=1, inputs=(Input(1, 1),)))
    feed(windower, 0.6, [(1, 0.5, 2.0, 0), (1, 0.5, 3.0, 0)])
    feed(windower, 0.7, [(1, 0.5, 4.0, 0)])
    assert must(windower.tick(BASE + SECOND)).block.tolist() == [[4.0]]
    feed(windower, 1.1, [(1, 0.5, 5.0, 0)])
    assert must(windower.tick(BASE + 2 * SECOND)).block.tolist() == [[5.0]]


def test_a_reading_without_a_source_time_counts_only_where_that_is_configured() -> None:
    """Otherwise it is ignored for windows, and counted."""
    inputs = (Input(1, 1, use_received_time=True), Input(2, 1))
    windower = started(replace(SPEC, length=1, inputs=inputs))
    made = must(feed(windower, 1, [(1, math.nan, 5.0, 0), (2, math.nan, 5.0, 0)]))
    assert made.block.tolist() == [[5.0, 1.0]]
    assert windower.untimed == 1


def test_a_clock_far_in_the_future_does_not_prove_order() -> None:
    """A reading more than ten minutes ahead is ignored and counted; nothing closes because of it."""
    windower = started(replace(SPEC, lateness_ns=10 * SECOND))
    rows: list[Row] = [(tag, 700, 5.0, 0) for tag in (1, 2)]
    assert feed(windower, 1, rows) is None
    assert windower.ahead == 2


def test_context_is_what_was_in_force_at_the_windows_end() -> None:
    """Text, whole numbers, changes; a Bad reading ends a value; a field without one is left out."""
    spec = replace(SPEC, length=1, context=(("unit_id", 8), ("recipe", 9)))
    windower = started(spec)
    rows: list[Row] = [
        (8, 1.5, "SN-1", 0), (9, 2.5, 7.0, 0), (8, 3.5, 2**60, 0), (9, 4.5, 7.0, 0x80000000), (8, 5.5, b"?", 0),
    ]
    made = must(feed(windower, 6, rows))
    assert made.context == (
        {}, {"unit_id": "SN-1"}, {"unit_id": "SN-1", "recipe": 7}, {"unit_id": 2**60, "recipe": 7},
        {"unit_id": 2**60}, {},
    )
    assert Windower.restore(spec, windower.snapshot()).snapshot() == windower.snapshot()


def test_a_snapshot_of_another_spec_or_a_damaged_one_is_refused() -> None:
    """Never half a state: the error says to rebuild from the journal."""
    windower = started(SPEC)
    data = windower.snapshot()
    with pytest.raises(SnapshotError, match="another spec"):
        Windower.restore(replace(SPEC, hop=2), data)
    for damaged in (b"", data[:-9], b"\x00" + data, data.replace(b"\x92\x91\x02", b"\x92\x91\x01")):
        with pytest.raises(SnapshotError):
            Windower.restore(SPEC, damaged)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "hop"}, "kind is 'hop'"), ({"step_ns": 0}, "step_ns"), ({"length": 0}, "length is 0"),
        ({"inputs": ()}, "0 inputs"), ({"lateness_ns": -1}, "lateness_ns"),
        ({"inputs": (Input(7, 1, resample="median"),)}, "tag 7: resample"),
        ({"inputs": (Input(7, 1, policy="hope"),)}, "tag 7: policy"),
        ({"inputs": (Input(7, 1, hold_s=math.inf),)}, "tag 7: hold_s"),
        ({"kind": "trigger", "inputs": (Input(7, 1, resample="mean"),)}, "for grids"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(change: dict[str, Any], problem: str) -> None:
    """The message names the field or the tag."""
    with pytest.raises(ValueError, match=problem):
        replace(SPEC, **change)


def test_some_windows_keep_their_reasons_and_their_context() -> None:
    """Reasons go by the place among those that are left; the rows stay, so that each is cut as before."""
    n = 4
    windows = Windows(
        block=np.arange(12, dtype=np.float64).reshape(6, 2),
        status=np.zeros((6, 2), np.uint32),
        first_row=np.arange(n),
        length=3,
        start_time=np.arange(n) * SECOND,
        end_time=np.arange(3, 3 + n) * SECOND,
        sequence=np.arange(7, 7 + n),
        quality=np.array([0, 1, 2, 3], np.uint32),
        refused=((1, "gap:1"), (3, "no_data")),
        context=({"unit": 0}, {"unit": 1}, {"unit": 2}, {"unit": 3}),
        newest=9 * SECOND,
    )
    some = windows.picked(np.array([True, False, False, True]))
    assert (some.sequence.tolist(), some.quality.tolist(), len(some)) == ([7, 10], [0, 3], 2)
    assert (some.refused, some.context) == (((1, "no_data"),), ({"unit": 0}, {"unit": 3}))
    assert np.array_equal(cut(some), cut(windows)[[0, 3]])
    assert len(windows.picked(np.zeros(n, bool))) == 0
