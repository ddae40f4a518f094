"""The worker's own timers."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.beat import PersistentScheduler
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Timer

from app.queue import COMPACT, HISTORY, HOUSEKEEPING, celery
from app.settings import settings
from app.worker import FORGET_S, FinishedLimits, forget_cancelled, fresh_calendar


def _timer() -> Any:  # noqa: ANN401 - the library is not typed
    return Timer()  # type: ignore[no-untyped-call]


def test_limits_of_tasks_that_are_done_are_forgotten_and_the_others_kept_in_order() -> None:
    """Ten of a hundred still count."""
    timer = _timer()
    fired: list[int] = []
    entries = [timer.call_after(840 - number, fired.append, (number,)) for number in range(100)]
    for number, entry in enumerate(entries):
        if number % 10:
            entry.cancel()
    forget_cancelled(timer)
    assert len(timer) == 10
    for one in timer.queue:
        one.entry()
    assert fired == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]


def test_what_is_due_while_others_are_forgotten_still_fires_once() -> None:
    """The worker's loop is in the middle of its timers then."""
    hub: Any = Hub(_timer())  # type: ignore[no-untyped-call]
    fired: list[str] = []
    hub.timer.call_after(0, forget_cancelled, (hub.timer,))
    hub.timer.call_after(0, fired.append, ("kept",))
    hub.timer.call_after(0, fired.append, ("cancelled",)).cancel()
    hub.fire_timers()
    assert fired == ["kept"]
    assert len(hub.timer) == 0


def test_a_worker_forgets_them_again_and_again() -> None:
    """From its start."""
    assert FinishedLimits in celery.steps["worker"]
    timer = _timer()
    worker = SimpleNamespace(timer=timer)
    FinishedLimits(worker).start(worker)
    (step,) = timer.queue
    assert step.eta - time.monotonic() <= FORGET_S
    for _ in range(2):
        timer.call_after(840, lambda: None).cancel()
        step.entry()
        assert {id(one.entry) for one in timer.queue} == {id(step.entry)}
        step.entry._last_run -= FORGET_S  # noqa: SLF001 - as if that had passed


def test_the_history_is_compacted_once_a_minute_by_beat_and_not_by_workers() -> None:
    """On a queue of beat's own: what takes seconds must not stand before what is new."""
    (entry,) = (one for one in celery.conf.beat_schedule.values() if one["task"] == COMPACT)
    assert (entry["schedule"], entry["options"]["queue"]) == (60.0, HISTORY)
    assert HISTORY not in (HOUSEKEEPING, settings().queue)


@pytest.mark.parametrize("left", [0, 700])
def test_a_calendar_of_which_a_power_cut_has_left_half_keeps_beat_from_nothing(tmp_path: Path, left: int) -> None:
    """The library reads what an earlier one wrote, never synced, and would die of it."""

    def calendar(file: str) -> Any:  # noqa: ANN401 - the library is not typed
        made = PersistentScheduler(app=celery, schedule_filename=file, lazy=True)
        made.setup_schedule()
        return made

    file = fresh_calendar(tmp_path)
    calendar(file).close()
    data = Path(f"{file}.dat")
    if not data.exists():
        pytest.skip("this Python has another kind of dbm")
    data.write_bytes(data.read_bytes()[:left])
    with pytest.raises(EOFError):
        calendar(file)
    made = calendar(fresh_calendar(tmp_path))
    assert set(celery.conf.beat_schedule) <= set(made.schedule)
    made.close()
