"""The samples of a cycle are laid on even points as a slow and obvious implementation lays them."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from inference.window import Input, Spec, Windower, cut

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
PART = 5
SPEC = Spec("trigger", (Input(1, 1), Input(2, 1)), 0, 4, 0, 0, trigger=PART, trigger_connection=1)
TENTH = SECOND // 10
LAST_USABLE, SUBSTITUTE = 0x40900000, 0x40910000


@dataclass(frozen=True)
class Sample:
    """One sample; the time is in tenths of a second after BASE."""

    tag: int
    time: int
    value: float
    status: int

    def flaw(self, one: Input) -> str:
        """Why it cannot be used."""
        if self.status >> 30 > (0 if one.policy == "good" else 1):
            return "bad_status"
        return "" if math.isfinite(self.value) else "not_finite"


Cells = list[tuple[float, int]]


def expected(spec: Spec, samples: list[Sample], end: int) -> str | list[Cells]:
    """The reason, or the columns."""
    inside = [s for s in samples if 0 < s.time <= end]
    used = [s.time for s in inside for one in spec.inputs if s.tag == one.tag and not s.flaw(one)]
    flawed = [(one, s) for one in spec.inputs for s in sorted(inside, key=lambda s: s.time) if s.tag == one.tag]
    if not used:
        return f"{flawed[0][1].flaw(flawed[0][0])}:{flawed[0][0].tag}" if flawed else "no_data:1"
    if spec.max_length_ns and (max(used) - min(used)) * TENTH > spec.max_length_ns:
        return f"too_long:{PART}"
    points = [(max(used) - min(used)) * i / (spec.length - 1) + min(used) for i in range(spec.length)]
    columns: list[Cells] = []
    for one in spec.inputs:
        filled = column(one, [s for s in samples if s.tag == one.tag and s.time <= end], points)
        if isinstance(filled, str):
            return f"{filled}:{one.tag}"
        columns.append(filled)
    return columns


def column(one: Input, samples: list[Sample], points: list[float]) -> str | Cells:
    """One input: of samples at the same time the last to arrive, in order of time."""
    own = sorted({s.time: s for s in samples if s.time > 0}.values(), key=lambda s: s.time)
    good = [s for s in own if not s.flaw(one)]
    holds = one.policy in {"hold", "interpolate"}
    if not good:
        before = [s for s in sorted(samples, key=lambda s: s.time) if s.time <= 0 and not s.flaw(one)]
        if holds and before and (points[-1] - before[-1].time) / 10 <= one.hold_s:
            return [(before[-1].value, LAST_USABLE)] * len(points)
        return own[0].flaw(one) if own else "no_data"
    if len(good) < len(own) and not holds:
        return next(s.flaw(one) for s in own if s.flaw(one))
    if (good[0].time - points[0]) / 10 > one.max_gap_s:
        return "gap"
    cells = [cell(one, own, good, at) for at in points]
    reasons = [c for c in cells if isinstance(c, str)]
    return reasons[0] if reasons else [c for c in cells if not isinstance(c, str)]


def cell(one: Input, own: list[Sample], good: list[Sample], at: float) -> str | tuple[float, int]:
    """One point: on the line between usable neighbours, and what is said when the newest sample is not usable."""
    left = good[max(0, bisect_right(good, at, key=lambda s: s.time) - 1)]
    right = good[min(len(good) - 1, bisect_left(good, at, key=lambda s: s.time))]
    span = right.time - left.time
    value = left.value + (right.value - left.value) * ((at - left.time) / span if span > 0 else 0)
    newest = own[max(0, bisect_right(own, at, key=lambda s: s.time) - 1)]
    if not newest.flaw(one):
        return value, max(left.status, right.status)
    if left.time > newest.time:
        return newest.flaw(one)
    since = min(s.time for s in own if s.time > left.time)
    if (at - since) / 10 > one.hold_s:
        return newest.flaw(one)
    if one.policy == "interpolate" and right.time > newest.time:
        return value, SUBSTITUTE
    return left.value, LAST_USABLE


samples_of = st.builds(
    Sample, st.sampled_from([1, 2]), st.integers(-10, 50), st.sampled_from([0.0, 1.0, -3.5, 8.0, math.nan]),
    st.sampled_from([0, 0, 0, 0, 0x40950000, 0x80000000]),
)
many = st.one_of(st.lists(samples_of, max_size=14), st.lists(samples_of, min_size=8, max_size=14).map(
    lambda made: [replace(s, value=s.value if math.isfinite(s.value) else 2.0) for s in made]))
specs = st.builds(
    lambda policies, hold, gap, length, limit: replace(
        SPEC, length=length, max_length_ns=limit,
        inputs=tuple(
            replace(one, policy=policy, hold_s=hold, max_gap_s=gap)
            for one, policy in zip(SPEC.inputs, policies, strict=True)
        ),
    ),
    st.tuples(*[st.sampled_from(["good", "uncertain", "hold", "hold", "interpolate", "interpolate"])] * 2),
    st.sampled_from([0.0, 0.5, 2.0, 100.0]), st.sampled_from([0.5, 60.0]), st.integers(2, 6),
    st.sampled_from([0, 0, 3 * SECOND]),
)


@settings(max_examples=300, deadline=None)
@given(specs, many, st.integers(1, 45))
def test_a_cycle_is_that_of_the_obvious_implementation(spec: Spec, samples: list[Sample], end: int) -> None:
    """Values, statuses and reasons, for samples in any order, repeated stamps and losses anywhere."""
    early, late = [s for s in samples if s.time <= 0], [s for s in samples if s.time > 0]
    windower = Windower(spec)
    for index, batch in enumerate((early, late)):
        times = [BASE + s.time * TENTH for s in batch] + [BASE + index * end * TENTH]
        # The connection is heard of every tenth, so that only the samples decide.
        now = BASE + index * end * TENTH
        for tenth in range(BASE, now, TENTH):
            windower.feed(1, [], [], [], {}, [], BASE, tenth)
        made = windower.feed(
            1, [s.tag for s in batch] + [PART], times, [s.value for s in batch] + [100.0 + index], {},
            [s.status for s in batch] + [0], now, now,
        )
    assert made is not None
    wanted = expected(spec, early + late, end)
    event("refused" if isinstance(wanted, str) else "filled")
    if isinstance(wanted, str):
        assert made.refused == ((0, wanted),)
        return
    assert made.refused == ()
    assert cut(made)[0].T.tolist() == [pytest.approx([value for value, _ in cells]) for cells in wanted]
    assert made.status.T.tolist() == [[status for _, status in cells] for cells in wanted]


def test_too_many_samples_of_one_cycle_refuse_it() -> None:
    """Without a limit on the cycle memory is bounded all the same, and a cycle that lost samples is not answered."""
    windower = Windower(SPEC)
    windower.feed(1, [PART], [BASE], [1.0], {}, [0], BASE, BASE)
    size = 100_000
    for index in range(12):
        times = BASE + SECOND + index * SECOND + np.arange(size) * (SECOND // size)
        now = int(times[-1])
        windower.feed(1, np.full(size, 1), times, np.ones(size), {}, np.zeros(size, np.uint32), now, now)
    end = now + SECOND
    made = windower.feed(1, [2, PART], [now, end], [1.0, 2.0], {}, [0, 0], end, end)
    assert made is not None
    assert made.refused == ((0, f"too_long:{PART}"),)
