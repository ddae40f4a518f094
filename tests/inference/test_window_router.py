"""Many windowers behind one router are the same as each of them alone, fed the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.window import Input, Router, SnapshotError, Spec, Windower, Windows

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
HUGE = 2**60


def grid(tags: list[int], *, step: int = SECOND, context: tuple[tuple[str, int], ...] = ()) -> Spec:
    """A grid of these tags, every second one on another connection and with other rules."""
    inputs = tuple(
        Input(tag, 1 + i % 2, resample=("last", "mean")[i % 2], use_received_time=i % 2 == 1)
        for i, tag in enumerate(tags)
    )
    return Spec("grid", inputs, step, 2, 1, 0, context=context)


def cycle(tags: list[int], trigger: int) -> Spec:
    """A cycle of these tags."""
    return Spec("trigger", tuple(Input(tag, 1) for tag in tags), 0, 3, 0, 0, trigger, 1, 0, (("unit_id", 6),))


def held(tags: list[int], policy: str, resample: str) -> Spec:
    """A grid that fills what is missing, for a while."""
    inputs = tuple(
        Input(tag, 1 + i % 2, policy=policy, resample=resample, hold_s=1.5, max_gap_s=2.0) for i, tag in enumerate(tags)
    )
    return Spec("grid", inputs, SECOND, 3, 1, 0)


def hopping(tags: list[int], length: int, hop: int) -> Spec:
    """A grid whose windows end with every `hop`-th row."""
    return Spec("grid", tuple(Input(tag, 1) for tag in tags), SECOND // 2, length, hop, 0)


SETS = {
    "in step, over several rows": {
        1: hopping([1, 2], 3, 2), 2: hopping([3], 3, 2), 3: hopping([2, 4], 3, 2), 4: hopping([1], 1, 3),
        5: hopping([2], 1, 3), 6: hopping([1, 3], 2, 5), 7: hopping([4], 2, 5),
    },
    "alike, with other rules": {
        4: held([1, 2], "hold", "last"), 2: grid([2, 3]), 8: held([3, 1], "interpolate", "linear"),
        6: held([2], "uncertain", "max"), 5: cycle([1, 2], 5), 3: held([4, 1], "good", "min"),
    },
    "shared tags": {7: grid([1, 2]), 3: grid([2, 1, 2]), 5: cycle([1, 2], 5), 9: grid([4], context=(("state", 1),))},
    "tags apart": {1: grid([1, 2]), 2: grid([3, 4], step=SECOND // 2)},
    "huge and negative ids": {1: grid([1, HUGE]), 2: grid([-4, 2])},
    "one": {1: grid([1])},
    "none": {},
}
tags = st.sampled_from([1, 2, 3, 4, 5, 6, -4, HUGE, 99, -1, HUGE - 1])
rows = st.tuples(
    tags, st.one_of(st.integers(-20, 8).map(lambda n: n * SECOND // 4), st.sampled_from([-(2**62), 10**13])),
    st.sampled_from([0.0, 1.0, 2.0, 5.5, math.nan, "a"]), st.sampled_from([0, 0, 0x40000000, 0x80000000]),
)
calls = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12).map(lambda n: n * SECOND // 4), st.lists(rows, max_size=10)),
    max_size=12,
)
Call = tuple[int, int, list[tuple[int, int, float | str, int]]]


def arguments(call: Call, now: int) -> tuple[object, ...]:
    """What `feed` takes."""
    connection, _, batch = call
    values = np.array([math.nan if isinstance(row[2], str) else row[2] for row in batch])
    others = {i: row[2] for i, row in enumerate(batch) if isinstance(row[2], str)}
    times = np.array([now + row[1] for row in batch], np.int64)
    status = np.array([row[3] for row in batch], np.uint32)
    return connection, np.array([row[0] for row in batch], np.int64), times, values, others, status, now, now


def told(made: dict[int, Windows]) -> dict[int, str]:
    """For comparison."""
    return {key: repr(windows) + windows.block.tobytes().hex() for key, windows in made.items()}


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=50, deadline=None)
@given(made_of=calls, stop=st.integers(0, 12))
def test_a_router_is_its_windowers_one_by_one(name: str, made_of: list[Call], stop: int) -> None:
    """Shared tags, huge ids, triggers and context; stopped and gone on from a snapshot; the counters too."""
    specs = SETS[name]
    router, alone = Router(specs), {key: Windower(spec) for key, spec in specs.items()}
    now = BASE
    first: Call = (1, 0, [(tag, 0, 1.0, 0) for tag in (1, 2, 3, 4, 5, -4, HUGE)])
    for index, call in enumerate([first, *made_of]):
        now += call[1]
        if index == stop:
            router = Router.restore(specs, router.snapshot())
        if call[0] == 0:
            made = router.tick(now)
            each = {key: one.tick(now) for key, one in alone.items()}
        else:
            columns = arguments(call, now)
            made = router.feed(*columns)  # type: ignore[arg-type]
            each = {key: one.feed(*columns) for key, one in alone.items()}  # type: ignore[arg-type]
        assert told(made) == told({key: windows for key, windows in each.items() if windows is not None})
    for key, one in alone.items():
        other = router.windowers[key]
        assert (one.late, one.untimed, one.ahead) == (other.late, other.untimed, other.ahead)
        assert one.waiting == other.waiting


def test_more_columns_than_can_be_numbered_together() -> None:
    """Pipelines that are due at once go on in several groups; each makes the window it would have made alone."""
    specs = {key: Spec("grid", tuple(Input(tag, 1) for tag in range(40_000)), SECOND, 1, 1, 0) for key in (1, 2, 3)}
    router, alone = Router(specs), Windower(specs[1])
    names, good = np.arange(40_000), np.zeros(40_000, np.uint32)
    values = names + 0.5
    for now in (BASE, BASE + SECOND):
        columns: tuple[Any, ...] = (1, names, np.full(40_000, now), values, {}, good, now, now)
        made, each = router.feed(*columns), alone.feed(*columns)
    assert each is not None
    assert list(made) == [1, 2, 3]
    assert set(told(made).values()) == set(told({1: each}).values())


def test_a_pipeline_that_the_snapshot_lacks_starts_anew() -> None:
    """A new version starts where the journal goes on; one that is gone is left out; what stays, stays."""
    old = Router({1: grid([1]), 2: grid([2])})
    old.feed(1, [1, 2], [BASE, BASE], [1.0, 2.0], {}, [0, 0], BASE, BASE)
    new = Router.restore({2: grid([2]), 3: grid([3])}, old.snapshot())
    assert new.windowers[2].waiting == ()
    assert new.windowers[3].waiting == (3,)
    assert list(new.tick(BASE + 2 * SECOND)) == [2]


def test_a_damaged_snapshot_is_refused() -> None:
    """Whole or not at all."""
    router = Router(SETS["one"])
    for damaged in (b"", b"\xc1", router.snapshot()[:-1]):
        with pytest.raises(SnapshotError):
            Router.restore(SETS["one"], damaged)
