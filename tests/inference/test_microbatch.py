"""Micro-batching: who is joined with whom, who goes first, who is refused, and what a failure costs the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from inference import DeviceLostError, InputError, Model, Placement, UnsupportedModelError
from inference.adapters.batching import Batching
from inference.adapters.session import CheckedSession
from inference.joining import Outcome
from inference.microbatch import BusyError, Microbatcher, Pace, Priority
from tests.inference import onnx_graphs as graphs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from inference import Session, Tensor

Import = Callable[[onnx.ModelProto], Model]
WITHIN_S = 20


@dataclass(slots=True)
class Chip:
    """A device of y = 2 x whose runs are seen, and held until the test lets them go."""

    model: Model
    runs: list[list[float]] = field(default_factory=list)
    """The first column of each run."""
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    warm: bool = False
    lost: bool = False

    def session(self) -> CheckedSession:
        """Made ready; its first run, the warm-up, is not held."""
        batching = Batching("rows", ("x",))
        return CheckedSession(self._call, self.model.inputs, ["y"], Placement(1, 1), batching)

    def _call(self, feeds: dict[str, Tensor]) -> list[Tensor]:
        x: Any = feeds["x"]
        if self.warm:
            self.runs.append(x[:, 0].tolist())
            self.entered.release()
            assert self.go.acquire(timeout=WITHIN_S)
        if self.lost:
            message = "the card fell off the bus"
            raise DeviceLostError(message)
        if (x == 13).any():
            message = "13 is refused"
            raise InputError(message)
        return [x * 2]


@dataclass(slots=True)
class Told:
    """What callers were told, in order."""

    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)
    each: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def of(self, who: str) -> Callable[[Outcome], None]:
        """The callback of one caller."""

        def then(outcome: Outcome) -> None:
            self.outcomes.append((who, outcome))
            self.each.release()

        return then

    def wait(self, count: int) -> dict[str, Outcome]:
        """By caller, once so many were told."""
        for _ in range(count):
            assert self.each.acquire(timeout=WITHIN_S)
        return dict(self.outcomes)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


def _chip(imported: Import, held: ExitStack, pace: Pace | None = None) -> tuple[Chip, Microbatcher]:
    chip = Chip(imported(graphs.mul()))
    made = Microbatcher(chip.model, chip.session, pace)
    held.callback(made.join, WITHIN_S)
    held.callback(made.close)
    held.callback(chip.go.release, 100)
    assert made.ready.result(WITHIN_S)
    chip.warm = True
    return chip, made


def _x(*rows: float) -> dict[str, Tensor]:
    return {"x": np.repeat(np.array(rows, dtype=np.float32)[:, None], 3, axis=1)}


def _first(outcome: Outcome) -> list[float]:
    assert isinstance(outcome, dict)
    values: list[float] = outcome["y"][:, 0].tolist()
    return values


def _busy_with(chip: Chip, batcher: Microbatcher, told: Told, value: float = 0.0) -> None:
    """One request is being run, and the others gather behind it."""
    batcher.submit(_x(value), told.of("first"))
    assert chip.entered.acquire(timeout=WITHIN_S)


def _asleep_after(batcher: Microbatcher) -> None:
    """The session has told its callers, and sleeps again."""
    wait_until(lambda: batcher.idle, WITHIN_S)


def test_an_idle_session_runs_a_request_at_once_and_by_itself(imported: Import, held: ExitStack) -> None:
    """A single request is in its run before any other has come."""
    chip, batcher = _chip(imported, held)
    told = Told()
    _busy_with(chip, batcher, told, 7)
    assert chip.runs == [[7]]
    chip.go.release()
    assert _first(told.wait(1)["first"]) == [14]


def test_what_gathers_during_a_run_is_one_run_and_everyone_gets_his_own_rows(imported: Import, held: ExitStack) -> None:
    """Three requests of one, two and one rows become one run of four; each is told its own rows."""
    chip, batcher = _chip(imported, held)
    told = Told()
    _busy_with(chip, batcher, told)
    batcher.submit(_x(1), told.of("a"))
    batcher.submit(_x(2, 3), told.of("b"))
    batcher.submit(_x(4), told.of("c"))
    chip.go.release(2)
    outcomes = told.wait(4)
    assert chip.runs == [[0], [1, 2, 3, 4]]
    assert (_first(outcomes["a"]), _first(outcomes["b"]), _first(outcomes["c"])) == ([2], [4, 6], [8])


def test_no_run_has_more_rows_than_it_may(imported: Import, held: ExitStack) -> None:
    """Rows beyond the limit wait for the next run; a request that is larger by itself is run by itself."""
    chip, batcher = _chip(imported, held, Pace(rows=3, budget_s=60))
    told = Told()
    _busy_with(chip, batcher, told)
    for who, rows in (("a", (1, 2)), ("b", (3, 4)), ("c", (5,)), ("d", (6, 7, 8, 9))):
        batcher.submit(_x(*rows), told.of(who))
    chip.go.release(4)
    told.wait(5)
    assert chip.runs == [[0], [1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_joining_stops_where_the_latency_budget_ends(imported: Import, held: ExitStack) -> None:
    """When past runs cost more a row than the budget has, each request is run by itself."""
    chip, batcher = _chip(imported, held, Pace(budget_s=1e-12))
    told = Told()
    _busy_with(chip, batcher, told)
    batcher.submit(_x(1), told.of("a"))
    batcher.submit(_x(2), told.of("b"))
    chip.go.release(3)
    told.wait(3)
    assert chip.runs == [[0], [1], [2]]


def test_pipelines_go_before_callers(imported: Import, held: ExitStack) -> None:
    """A pipeline's window that came last is in the next run, and a caller that came first is not."""
    chip, batcher = _chip(imported, held, Pace(rows=1))
    told = Told()
    _busy_with(chip, batcher, told)
    batcher.submit(_x(1), told.of("caller"))
    batcher.submit(_x(2), told.of("pipeline"), Priority.PIPELINE)
    chip.go.release(3)
    told.wait(3)
    assert chip.runs == [[0], [2], [1]]


def test_other_shapes_and_types_are_not_joined(imported: Import, held: ExitStack) -> None:
    """A request of another element type has a run of its own, between the others in their order."""
    chip, batcher = _chip(imported, held)
    told = Told()
    _busy_with(chip, batcher, told)
    batcher.submit(_x(1), told.of("a"))
    batcher.submit({"x": np.full((1, 3), 2.0)}, told.of("b"))
    batcher.submit(_x(3), told.of("c"))
    batcher.submit({"x": np.ones((1, 4), np.float32)}, told.of("d"))
    chip.go.release(4)
    outcomes = told.wait(5)
    assert chip.runs == [[0], [1], [2], [3]]
    assert isinstance(outcomes["d"], InputError)


def test_a_request_that_fails_does_not_fail_its_neighbours(imported: Import, held: ExitStack) -> None:
    """When a run of three is refused each is run by itself: the bad one is told why, the others have their answers."""
    chip, batcher = _chip(imported, held)
    told = Told()
    _busy_with(chip, batcher, told)
    for who, value in (("a", 1), ("bad", 13), ("c", 3)):
        batcher.submit(_x(value), told.of(who))
    chip.go.release(5)
    outcomes = told.wait(4)
    assert chip.runs == [[0], [1, 13, 3], [1], [13], [3]]
    assert (_first(outcomes["a"]), _first(outcomes["c"])) == ([2], [6])
    assert isinstance(outcomes["bad"], InputError)


def test_a_full_queue_refuses_and_says_when_to_come_again(imported: Import, held: ExitStack) -> None:
    """The request beyond the limit is refused at once, those before it are answered, and it is counted."""
    chip, batcher = _chip(imported, held, Pace(waiting=2))
    told = Told()
    _busy_with(chip, batcher, told)
    batcher.submit(_x(1), told.of("a"))
    batcher.submit(_x(2), told.of("b"))
    with pytest.raises(BusyError, match="come again") as refusal:
        batcher.submit(_x(3), told.of("c"))
    assert refusal.value.retry_after_s > 0
    chip.go.release(2)
    assert set(told.wait(3)) == {"first", "a", "b"}
    assert batcher.figures.refused == 1


def test_rows_that_wait_are_limited_as_well(imported: Import, held: ExitStack) -> None:
    """A request with many rows is refused where a small one is taken; an empty queue takes either."""
    chip, batcher = _chip(imported, held, Pace(waiting_rows=3))
    told = Told()
    batcher.submit(_x(1, 2, 3, 4, 5), told.of("first"))
    assert chip.entered.acquire(timeout=WITHIN_S)
    batcher.submit(_x(1, 2), told.of("a"))
    with pytest.raises(BusyError):
        batcher.submit(_x(3, 4), told.of("b"))
    batcher.submit(_x(5), told.of("c"))
    chip.go.release(2)
    assert set(told.wait(3)) == {"first", "a", "c"}


def test_who_has_waited_too_long_is_refused_and_costs_no_run(imported: Import, held: ExitStack) -> None:
    """Nobody waits for an answer that is older than the patience of its caller."""
    chip, batcher = _chip(imported, held, Pace(patience_s=-1))
    told = Told()
    batcher.submit(_x(1), told.of("a"))
    assert isinstance(told.wait(1)["a"], BusyError)
    assert chip.runs == []


def test_a_round_that_is_handed_in_without_waking_is_one_run(imported: Import, held: ExitStack) -> None:
    """An idle session sleeps on until it is woken, and takes all three at once."""
    chip, batcher = _chip(imported, held)
    told = Told()
    chip.go.release(2)
    batcher.run(_x(0))
    _asleep_after(batcher)
    for who, value in (("a", 1), ("b", 2), ("c", 3)):
        batcher.submit(_x(value), told.of(who), wake=False)
    batcher.wake_up()
    told.wait(3)
    assert chip.runs == [[0], [1, 2, 3]]


def test_a_short_run_is_done_by_whoever_has_the_turn(imported: Import, held: ExitStack) -> None:
    """The caller is told before `turn` returns, on its own thread; what comes later is run as ever."""
    chip, batcher = _chip(imported, held, Pace(aside_s=60))
    told, threads = Told(), []
    chip.go.release(5)
    batcher.run(_x(0))
    _asleep_after(batcher)
    batcher.submit(_x(1), lambda _: threads.append(threading.current_thread()), wake=False)
    batcher.submit(_x(2), told.of("b"), wake=False)
    batcher.turn()
    assert threads == [threading.current_thread()]
    assert _first(told.wait(1)["b"]) == [4]
    assert _first(batcher.run(_x(3))) == [6]
    assert chip.runs == [[0], [1, 2], [3]]


def test_a_long_run_is_left_to_the_thread(imported: Import, held: ExitStack) -> None:
    """`turn` returns at once when runs take longer than may be done aside, and while one is under way."""
    chip, batcher = _chip(imported, held, Pace(aside_s=1e-12))
    told = Told()
    chip.go.release()
    batcher.run(_x(0))
    batcher.submit(_x(1), told.of("a"), wake=False)
    batcher.turn()
    assert told.outcomes == []
    batcher.submit(_x(2), told.of("b"), wake=False)
    batcher.turn()
    chip.go.release(2)
    assert set(told.wait(2)) == {"a", "b"}


def test_a_device_lost_during_a_turn_ends_the_session(imported: Import, held: ExitStack) -> None:
    """Who had the turn is told by its callback, not by an exception, and the thread ends."""
    chip, batcher = _chip(imported, held, Pace(aside_s=60))
    told = Told()
    chip.go.release(2)
    batcher.run(_x(0))
    _asleep_after(batcher)
    chip.lost = True
    batcher.submit(_x(1), told.of("a"), wake=False)
    batcher.turn()
    assert isinstance(told.wait(1)["a"], DeviceLostError)
    batcher.join(WITHIN_S)
    with pytest.raises(DeviceLostError, match="bus"):
        batcher.submit(_x(2), told.of("later"))


def test_a_lost_device_is_told_to_all_and_ends_the_session(imported: Import, held: ExitStack) -> None:
    """Those in the run, those in the queue and those who come later are told that the device is lost."""
    chip, batcher = _chip(imported, held, Pace(rows=1))
    told = Told()
    _busy_with(chip, batcher, told)
    batcher.submit(_x(1), told.of("behind"))
    chip.lost = True
    chip.go.release()
    outcomes = told.wait(2)
    assert all(isinstance(one, DeviceLostError) for one in outcomes.values())
    with pytest.raises(DeviceLostError, match="bus"):
        batcher.submit(_x(2), told.of("later"))


def test_who_waits_is_told_when_the_session_is_closed(imported: Import, held: ExitStack) -> None:
    """The run under way is finished, what is behind it is refused, and the thread ends."""
    chip, batcher = _chip(imported, held, Pace(rows=1))
    told = Told()
    _busy_with(chip, batcher, told)
    batcher.submit(_x(1), told.of("behind"))
    batcher.close()
    chip.go.release()
    outcomes = told.wait(2)
    assert _first(outcomes["first"]) == [0]
    assert isinstance(outcomes["behind"], DeviceLostError)


def test_a_model_that_no_device_takes_says_so(imported: Import, held: ExitStack) -> None:
    """What the preparation raises is raised for whoever waits for it, and for requests."""
    model = imported(graphs.mul())

    def prepare() -> Session:
        message = "node Mul is not known here"
        raise UnsupportedModelError(message)

    batcher = Microbatcher(model, prepare)
    held.callback(batcher.join, WITHIN_S)
    with pytest.raises(UnsupportedModelError, match="Mul"):
        batcher.ready.result(WITHIN_S)
    batcher.join(WITHIN_S)
    with pytest.raises(UnsupportedModelError, match="Mul"):
        batcher.run(_x(1))
