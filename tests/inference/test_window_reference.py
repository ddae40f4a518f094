"""Grid windows are those of a slow and obvious implementation, and of any way of stopping and going on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from inference.window import Input, Spec, Windower, Windows, cut

SECOND = 1_000_000_000
BASE = 1_000_000 * SECOND
NO_TIME = int(np.iinfo(np.int64).min)
BAD_OF = {"bad_status": 0x80000000, "not_finite": 0x803C0000, "wrong_type": 0x80740000, "gap": 0x80310000}
ORDER = list(BAD_OF)


Told = tuple[int, int, list[list[float]], list[list[int]], str, int]
"""Sequence, end time, values, statuses, reason, newest source time."""


@dataclass
class Feed:
    """One call: a batch, or a tick when there is no connection."""

    received: int
    connection: int = 0
    alive_until: int = 0
    rows: list[tuple[int, int, float | str, int]] = field(default_factory=list)
    """tag, source time, value, status."""

    def into(self, windower: Windower) -> Windows | None:
        """Do it."""
        if not self.connection:
            return windower.tick(self.received)
        values = [math.nan if isinstance(row[2], str) else row[2] for row in self.rows]
        others = {i: row[2] for i, row in enumerate(self.rows) if isinstance(row[2], str)}
        tags, times, status = ([row[i] for row in self.rows] for i in (0, 1, 3))
        return windower.feed(
            self.connection, np.array(tags, np.int64), np.array(times, np.int64), np.array(values, np.float64), others,
            np.array(status, np.uint32), self.received, self.alive_until,
        )


@dataclass(frozen=True)
class Reading:
    """One reading as the obvious implementation keeps it."""

    time: int
    arrival: int
    value: float
    status: int
    flaw: str


class Obvious:
    """Keeps every reading of every input for ever and looks at all of them for each cell."""

    def __init__(self, spec: Spec) -> None:
        """Nothing fed yet."""
        self.spec = spec
        self.kept: list[list[Reading]] = [[] for _ in spec.inputs]
        self.alive: dict[int, list[int]] = {one.connection: [] for one in spec.inputs}
        self.clock = self.late = self.arrivals = self.sequence = 0
        self.closed: int | None = None
        self.known = [-1] * len(spec.inputs)
        self.rows: list[tuple[int, list[tuple[float, int, str]]]] = []

    def feed(self, feed: Feed) -> list[Told]:
        """What this call closed."""
        self.clock = max(self.clock, feed.received)
        if feed.connection in self.alive:
            instants = self.alive[feed.connection]
            if not instants or feed.alive_until > instants[-1]:
                instants.append(feed.alive_until)
        for row in feed.rows:
            for column, one in enumerate(self.spec.inputs):
                if one.tag == row[0]:
                    self.take(column, one, row, feed.received)
        return self.close()

    def take(self, column: int, one: Input, row: tuple[int, int, float | str, int], received: int) -> None:
        """Keep a reading, unless it has no time, is from the future, or is older than what closed rows have seen."""
        _, time, value, status = row
        if time < 0:
            if not one.use_received_time:
                return
            time = received
        if time > self.clock + 600 * SECOND:
            return
        flaw = flaw_of(one, value, status)
        number = math.nan if isinstance(value, str) else value
        if self.closed is not None and time <= self.closed:
            self.late += 1
            if time < self.known[column]:
                return
        self.arrivals += 1
        new = Reading(time, self.arrivals, number, status, flaw)
        content = repr(replace(new, arrival=0))
        self.kept[column] = [r for r in self.kept[column] if repr(replace(r, arrival=0)) != content]
        self.kept[column].append(new)
        self.kept[column].sort(key=lambda r: (r.time, r.arrival))

    def start(self) -> int | None:
        """The first row's time, once every input has a usable value."""
        if any(all(r.flaw for r in kept) for kept in self.kept):
            return None
        firsts = [min(r.time for r in kept if not r.flaw) for kept in self.kept]
        born = [self.alive[i.connection][0] - round(i.max_gap_s * SECOND)
                for i in self.spec.inputs if self.alive[i.connection]]
        reach = self.clock - max(self.spec.lateness_ns, 60 * SECOND)
        return math.ceil(max(*firsts, *born, reach) / self.spec.step_ns) * self.spec.step_ns

    def close(self) -> list[Told]:
        """Fill row after row while the clock or the order allows."""
        step = self.spec.step_ns
        if self.closed is None:
            first = self.start()
            if first is None:
                return []
            self.closed = first - step
        seen = [max((r.time for r in kept), default=-1) for kept in self.kept]
        limit = max(self.clock - self.spec.lateness_ns, min(seen))
        made: list[Told] = []
        while self.closed + step <= limit:
            self.closed += step
            cells = [self.cell(column, one, self.closed) for column, one in enumerate(self.spec.inputs)]
            self.rows.append((self.closed, cells))
            self.known = [max(r.time for r in kept if r.time <= self.closed) for kept in self.kept]
            if len(self.rows) >= self.spec.length and self.closed // step % self.spec.hop == 0:
                made.append(self.window())
        return made

    def window(self) -> Told:
        """The window that ends with the last row."""
        self.sequence += 1
        rows = self.rows[-self.spec.length:]
        reasons = [
            f"{cell[2]}:{self.spec.inputs[column].tag}"
            for _, cells in rows for column, cell in enumerate(cells) if cell[2]
        ]
        return (
            self.sequence, rows[-1][0], [[c[0] for c in cells] for _, cells in rows],
            [[c[1] for c in cells] for _, cells in rows], reasons[0] if reasons else "", max(self.known),
        )

    def since_lost(self, one: Input, t: int) -> int | None:
        """Since when the connection has been lost at t."""
        before = [instant for instant in self.alive[one.connection] if instant <= t]
        gap = round(one.max_gap_s * SECOND)
        if not self.alive[one.connection]:
            return gap - 1
        if t < self.alive[one.connection][0] - gap:
            return -1
        return before[-1] + gap if before and before[-1] + gap < t else None

    def cell(self, column: int, one: Input, t: int) -> tuple[float, int, str]:
        """Value, status and flaw of one input at t."""
        upto = [r for r in self.kept[column] if r.time <= t]
        later = [r for r in self.kept[column] if r.time > t]
        newest = upto[-1]
        usable = [r for r in upto if not r.flaw][-1]
        value, status, flaw, since = usable.value, usable.status, newest.flaw, 2 * t
        lost = self.since_lost(one, t)
        if lost is not None and newest.time + round(one.max_gap_s * SECOND) < t:
            flaw, since = "gap", max(lost, newest.time + round(one.max_gap_s * SECOND))
        if one.resample == "linear" and not flaw and newest.time < t and later and not later[0].flaw:
            value, status = line(newest, later[0], t), max(newest.status, later[0].status)
        inside = [r for r in upto if r.time > t - self.spec.step_ns]
        if one.resample in {"mean", "min", "max"} and not all(r.flaw for r in inside):
            value, status, flaw = aggregate(one, inside)
        if flaw and one.policy in {"hold", "interpolate"}:
            after = [r for r in upto if (r.time, r.arrival) > (usable.time, usable.arrival)]
            if t - min([since, *(r.time for r in after)]) <= round(one.hold_s * SECOND):
                value, status, flaw = *held(one, usable, later, t), ""
        if not flaw and not math.isfinite(value):
            flaw = "not_finite"
        if flaw == "bad_status" and newest.status >> 30 > 1:
            return math.nan, newest.status, flaw
        return (math.nan, BAD_OF[flaw], flaw) if flaw else (value, status, flaw)


def line(before: Reading, after: Reading, t: int) -> float:
    """Linear between two readings."""
    return before.value + (after.value - before.value) * ((t - before.time) / (after.time - before.time))


def flaw_of(one: Input, value: float | str, status: int) -> str:
    """Why a reading cannot be used."""
    if status >> 30 > (0 if one.policy == "good" else 1):
        return "bad_status"
    if isinstance(value, str):
        return "wrong_type"
    return "" if math.isfinite(value) else "not_finite"


def held(one: Input, usable: Reading, later: list[Reading], t: int) -> tuple[float, int]:
    """What stands in for a loss."""
    following = [r for r in later if not r.flaw]
    if one.policy == "interpolate" and following:
        return line(usable, following[0], t), 0x40910000
    return usable.value, 0x40900000


def aggregate(one: Input, inside: list[Reading]) -> tuple[float, int, str]:
    """Mean in the order of time, min or max, over the usable readings of a cell; and what leaving others out means."""
    good, flaws = [r for r in inside if not r.flaw], [r.flaw for r in inside if r.flaw]
    status = max(r.status for r in good)
    if flaws:
        status = max(status, 0x40950000)
    flaw = max(flaws, key=ORDER.index) if flaws and one.policy == "good" else ""
    if one.resample != "mean":
        return (min if one.resample == "min" else max)(r.value for r in good), status, flaw
    total = 0.0
    for reading in good:
        total += reading.value
    return total / len(good), status, flaw


def plain(windows: Windows | None) -> list[tuple[int, int, list[list[float]], list[list[int]], str]]:
    """Windows as the obvious implementation tells them."""
    if windows is None:
        return []
    reasons = dict(windows.refused)
    blocks = cut(windows)
    statuses = [windows.status[first : first + windows.length].tolist() for first in windows.first_row]
    return [
        (int(windows.sequence[i]), int(windows.end_time[i]), blocks[i].tolist(), statuses[i], reasons.get(i, ""))
        for i in range(len(windows))
    ]


quarters = st.integers(0, 40).map(lambda n: n * SECOND // 4)
inputs = st.builds(
    Input, tag=st.integers(1, 3), connection=st.integers(1, 2),
    resample=st.sampled_from(["last", "linear", "mean", "min", "max"]),
    policy=st.sampled_from(["good", "uncertain", "hold", "interpolate"]),
    hold_s=st.sampled_from([0.0, 1.0, 2.5, 1000.0]), max_gap_s=st.sampled_from([0.0, 1.0, 3.0, 60.0]),
    use_received_time=st.booleans(),
)
specs = st.builds(
    Spec, kind=st.just("grid"), inputs=st.lists(inputs, min_size=1, max_size=3).map(tuple),
    step_ns=st.sampled_from([SECOND // 2, SECOND, 3 * SECOND]), length=st.integers(1, 4), hop=st.integers(1, 3),
    lateness_ns=st.sampled_from([0, SECOND // 2, 3 * SECOND]),
)
STATUSES = [0, 0, 0, 0, 0x00300000, 0x40000000, 0x40950000, 0x80000000, 0x80050000, 0xC0000000]
values: st.SearchStrategy[float | str] = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, "text"]), st.floats(-1e6, 1e6),
)


@st.composite
def sequences(draw: st.DrawFn) -> list[Feed]:
    """Some seconds of a plant: all tags once, then batches and ticks, early, late, repeated, silent, lost."""
    first: list[tuple[int, int, float | str, int]] = [(tag, BASE, float(tag), 0) for tag in (1, 2, 3)]
    made = [Feed(BASE, c, BASE, first) for c in (1, 2)]
    if draw(st.booleans()):
        made = made[1:]
    now = BASE
    for _ in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0, SECOND // 4, SECOND // 2, SECOND, 2 * SECOND, 7 * SECOND]))
        if draw(st.integers(0, 4)) == 0:
            made.append(Feed(now))
            continue
        newest = now + 2 * SECOND
        times = st.one_of(quarters.map(newest.__sub__), st.just(NO_TIME))
        row = st.tuples(st.integers(1, 4), times, values, st.sampled_from(STATUSES))
        rows: list[tuple[int, int, float | str, int]] = draw(st.lists(row, max_size=8))
        made.append(Feed(now, draw(st.integers(1, 2)), now - draw(st.sampled_from([0, 0, SECOND])), rows))
        if draw(st.integers(0, 9)) == 0:
            made.append(made[-1])
    return made


@settings(max_examples=200, deadline=None)
@given(specs, sequences())
def test_windows_are_those_of_the_obvious_implementation(spec: Spec, feeds: list[Feed]) -> None:
    """Values, statuses, order, numbers, reasons and counters are what the rules say, cell by cell."""
    fast, slow = Windower(spec), Obvious(spec)
    for feed in feeds:
        made, expected = feed.into(fast), slow.feed(feed)
        event(f"{min(3, len(expected))} windows")
        assert repr(plain(made)) == repr([window[:5] for window in expected])
        assert fast.late == slow.late
        if made is not None:
            assert made.newest == expected[-1][5]
            assert made.quality.tolist() == [max(map(max, window[3])) for window in expected]
            assert (made.end_time - made.start_time == spec.length * spec.step_ns).all()


@settings(max_examples=75, deadline=None)
@given(specs, sequences(), st.data())
def test_a_snapshot_changes_nothing(spec: Spec, feeds: list[Feed], data: st.DataObject) -> None:
    """Stopping after any call and going on from the snapshot gives the same bytes as never stopping."""
    stop = data.draw(st.integers(0, len(feeds)))
    straight, stopped = Windower(spec), Windower(spec)
    for index, feed in enumerate(feeds):
        if index == stop:
            stopped = Windower.restore(spec, stopped.snapshot())
        one, other = feed.into(straight), feed.into(stopped)
        assert repr(one) == repr(other)
        assert one is None or other is None or one.block.tobytes() == other.block.tobytes()
    assert straight.snapshot() == Windower.restore(spec, straight.snapshot()).snapshot()
    assert straight.late == stopped.late


@pytest.mark.parametrize("lateness_ns", [0, SECOND])
def test_the_obvious_implementation_sees_windows(lateness_ns: int) -> None:
    """The comparison is not between two empty answers."""
    spec = Spec("grid", (Input(1, 1),), SECOND, 2, 1, lateness_ns)
    slow = Obvious(spec)
    slow.feed(Feed(BASE, 1, BASE, [(1, BASE, 1.0, 0)]))
    assert len(slow.feed(Feed(BASE + 5 * SECOND))) == 5 - lateness_ns // SECOND
