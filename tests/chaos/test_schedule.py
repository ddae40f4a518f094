"""The schedule of faults: a pure function of its seed, whose faults leave each other's meaning alone."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.selftest.schedule import BY_NAME, LAST_S, PRELOAD, available, schedule, settled

SEEDS = st.integers(0, 2**31 - 1)
SECONDS = st.floats(20, 4000)
DATABASES = st.sampled_from(["sqlite", "postgresql"])


@given(SEEDS, SECONDS, DATABASES)
def test_the_same_seed_brings_the_same_faults(seed: int, seconds: float, database: str) -> None:
    """In the order of their beginning, each over before the end."""
    kinds = available({database, PRELOAD})
    made = schedule(seed, seconds, kinds)
    assert made == schedule(seed, seconds, kinds)
    assert list(made) == sorted(made, key=lambda one: one.begins_s)
    assert all(0 < one.begins_s <= one.ends_s <= seconds - LAST_S for one in made)


@given(SEEDS, SECONDS, DATABASES)
def test_what_takes_hold_of_the_same_never_meets(seed: int, seconds: float, database: str) -> None:
    """Of two faults that share something, one begins when the other has let go of it."""
    made = schedule(seed, seconds, available({database, PRELOAD}))
    for index, one in enumerate(made):
        for other in made[index + 1 :]:
            if not BY_NAME[one.kind].holds.isdisjoint(BY_NAME[other.kind].holds):
                first, second = sorted((one, other), key=lambda each: (each.begins_s, each.ends_s))
                assert second.begins_s > settled(first) - 0.01


@given(SEEDS, DATABASES)
def test_each_kind_comes_before_any_comes_twice(seed: int, database: str) -> None:
    """A long run has all of them, equally often but for one."""
    kinds = available({database, PRELOAD})
    counts = Counter(one.kind for one in schedule(seed, 4000, kinds))
    assert set(counts) == {one.name for one in kinds}
    assert max(counts.values()) - min(counts.values()) <= 2


@given(SEEDS)
def test_faults_meet(seed: int) -> None:
    """Faults of different things happen at the same time, too: what one hides the other may need."""
    made = schedule(seed, 4000, available({"sqlite", PRELOAD}))
    assert any(a.begins_s <= b.begins_s < a.ends_s for a, b in itertools.pairwise(made))


def test_another_seed_brings_other_faults() -> None:
    """Ten seeds bring ten schedules."""
    assert len({schedule(seed, 90, available({"sqlite"})) for seed in range(10)}) == 10


def test_what_is_not_there_is_left_out() -> None:
    """Faults of the other database, and those that need a compiler where there is none."""
    assert {one.needs for one in available({"sqlite"})} == {"", "sqlite"}
    assert {one.needs for one in available({"postgresql", PRELOAD})} == {"", "postgresql", PRELOAD}
    assert [one.name for one in available({"sqlite"}, ["api_killed", "database_killed"])] == ["api_killed"]


def test_a_fault_that_is_none_is_refused_by_name() -> None:
    """A misspelt `--only` would otherwise be a run without faults."""
    with pytest.raises(ValueError, match="there is no fault gatway_killed"):
        available({"sqlite"}, ["gatway_killed"])


@given(SEEDS)
def test_a_fault_lasts_as_long_as_it_is_told(seed: int) -> None:
    """What is over at once stays so; the rest lasts, and is over before the end."""
    made = schedule(seed, 4000, available({"sqlite"}), 600.0)
    lasts = {one.kind: round(one.ends_s - one.begins_s) for one in made}
    assert {seconds for kind, seconds in lasts.items() if any(BY_NAME[kind].lasts_s)} <= {600}
    assert {seconds for kind, seconds in lasts.items() if not any(BY_NAME[kind].lasts_s)} <= {0}
    assert max(one.ends_s for one in made) <= 4000 - LAST_S


def test_a_run_too_short_for_its_fault_is_refused() -> None:
    """Rather than one in which nothing happens."""
    with pytest.raises(ValueError, match="--for"):
        schedule(1, 600, available({"sqlite"}), 600.0)
