"""The simulated plant: reproducible, its faults do what they say, a trip stops it until it starts again."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tep_studio", reason="the extra `demo` is not installed: pip install headrace[demo]")

from examples.tep.plant import Transmitters
from examples.tep.process import CONTROL_INTERVAL_H, Process
from examples.tep.runs import Plan, Run, plans, simulate
from examples.tep.tags import ANALYSED, ANALYSERS, COLUMNS, N_FAST
from examples.tep.windows import LENGTH, STEP_H, cut, join

A_FEED = [tag.name for tag in COLUMNS].index("XMEAS_01")
PRESSURE = [tag.name for tag in COLUMNS].index("XMEAS_07")


def advance(process: Process, hours: float) -> None:
    """Let so many plant hours pass."""
    for _ in range(round(hours / CONTROL_INTERVAL_H)):
        process.step()


def test_a_seed_decides_everything() -> None:
    """Two plants of one seed agree to the last bit; another seed's differs."""
    one, same, other = Process(3), Process(3), Process(4)
    for process in (one, same, other):
        advance(process, 0.1)
    np.testing.assert_array_equal(one.values, same.values)
    assert (one.values != other.values).any()


def test_it_starts_at_the_base_case() -> None:
    """The published base case (Downs and Vogel 1993): 0.2505 kscmh of A, 2705 kPa in the reactor, 75 % level."""
    values = Process(1).values
    assert values[A_FEED] == pytest.approx(0.2505, abs=0.02)
    assert values[PRESSURE] == pytest.approx(2705.0, abs=10.0)
    assert values[PRESSURE + 1] == pytest.approx(75.0, abs=2.0)


def test_normal_operation_holds() -> None:
    """Without a fault the controllers hold the reactor's pressure within 10 kPa for five hours."""
    process = Process(5)
    advance(process, 5.0)
    assert process.trip is None
    assert process.time_h == pytest.approx(5.0)
    assert process.values[PRESSURE] == pytest.approx(2705.0, abs=10.0)


def test_a_trip_stops_the_plant_until_it_starts_again() -> None:
    """The loss of feed A trips the plant within ten hours; then it stands, and starts again from the steady state."""
    process = Process(6)
    process.faults[5] = 1.0
    advance(process, 10.0)
    assert process.trip
    stopped = process.time_h
    assert stopped < 10.0
    process.step()
    assert process.time_h == stopped
    process.restart()
    assert process.trip is None
    assert process.time_h == 0.0
    assert process.faults[5] == 1.0
    assert process.values[A_FEED] == pytest.approx(0.2505, abs=0.02)


def test_columns_are_in_the_order_of_the_model() -> None:
    """22 measurements and 12 valves come over OPC UA, 19 analyses over MQTT, in the order of XMEAS."""
    names = [tag.name for tag in COLUMNS]
    assert len(names) == len(Process(1).values) == 53
    assert names[:N_FAST] == [f"XMEAS_{i:02d}" for i in range(1, 23)] + [f"XMV_{i:02d}" for i in range(1, 13)]
    assert [tag.name for tag in ANALYSED] == [f"XMEAS_{i:02d}" for i in range(23, 42)]
    assert [len(analyser.tags) for analyser in ANALYSERS] == [6, 8, 5]


def test_analysers_hold_their_last_analysis() -> None:
    """Between two analyses, 0.1 plant hours apart, the value does not move."""
    process = Process(7)
    seen = set()
    for _ in range(round(1.0 / CONTROL_INTERVAL_H)):
        process.step()
        seen.add(process.values[N_FAST])
    assert len(seen) in (10, 11)


def test_transmitters_falter_and_recover() -> None:
    """Over many updates the share of measurements that are not Good is as asked for, and most of them are Uncertain."""
    transmitters = Transmitters(seed=1, per_update=0.5)
    bad = uncertain = 0
    for _ in range(4000):
        transmitters.update()
        severities = [transmitters.status(column) >> 30 for column in range(len(COLUMNS))]
        uncertain += severities.count(1)
        bad += severities.count(2)
    assert (bad + uncertain) / 4000 == pytest.approx(1.0, rel=0.2)
    assert 0.1 < bad / (bad + uncertain) < 0.3


def test_no_two_runs_share_a_seed() -> None:
    """Training, limits and test never see one another's runs."""
    every = [p for role in ("train", "calibration", "test") for p in plans(role, 80, 8, 16.0)]
    assert len({plan.seed for plan in every}) == len(every)


def test_windows_know_when_the_fault_was_on() -> None:
    """A window belongs to the fault once its end is past the onset, and its rows are the records on the grid."""
    plan = Plan("test", 4, 0, hours=2.5, onset_h=1.5)
    windows = cut(Run(plan, simulate(plan)), index=9)
    assert windows.x.shape[1:] == (LENGTH, len(COLUMNS))
    assert set(windows.fault) == {0, 4}
    assert np.isinf(windows.since_h[windows.fault == 0]).all()
    assert 0.0 < windows.since_h[windows.fault == 4].min() <= 2 * STEP_H + 1e-9
    assert (windows.run == 9).all()
    np.testing.assert_array_equal(windows.x[0, 2:], windows.x[1, :-2])
    both = join([windows, windows.where(windows.fault == 4)])
    assert len(both.x) == len(windows.x) + (windows.fault == 4).sum()
