"""The Celery worker and its beat: `python -m app.worker` and `python -m app.worker beat`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps
from celery.beat import EmbeddedService
from celery.signals import setup_logging, worker_ready, worker_shutting_down

import app as rooms
from app import engines, log, notify
from app.announcing import Announcer
from app.housekeeping import housekeeping_of
from app.queue import (
    COMPACT,
    DEFAULT_QUEUE,
    HISTORY,
    HOUSEKEEPING,
    RECOMPUTE,
    REPLAY_LETTERS,
    RETENTION,
    THIN,
    WATCH,
    celery,
    door,
)
from app.settings import settings

if TYPE_CHECKING:
    from kombu.asynchronous.timer import Timer

FORGET_S: Final = 10.0
FOLLOW_S: Final = 1.0
SCHEDULE: Final = "beat-schedule"

celery.conf.beat_schedule = {
    "retention": {"task": RETENTION, "schedule": 600.0, "options": {"queue": HISTORY, "expires": 600.0}},
    "history": {"task": COMPACT, "schedule": 60.0, "options": {"queue": HISTORY, "expires": 60.0}},
    "thinning": {"task": THIN, "schedule": 600.0, "options": {"queue": HISTORY, "expires": 600.0}},
    "promises": {"task": WATCH, "schedule": 60.0, "options": {"queue": HOUSEKEEPING, "expires": 60.0}},
    "letters": {"task": REPLAY_LETTERS, "schedule": 10.0, "options": {"queue": HOUSEKEEPING, "expires": 10.0}},
    # Some windows that a filled gap touches close only later; and who filled it may have found the queue away.
    "recomputing": {"task": RECOMPUTE, "schedule": 5.0, "options": {"queue": HOUSEKEEPING, "expires": 5.0}},
}


def load_tasks() -> None:
    """Import every feature's tasks, so that they register."""
    here = Path(rooms.__path__[0])
    for module in pkgutil.iter_modules(rooms.__path__):
        if module.ispkg and (here / module.name / "tasks.py").exists():
            importlib.import_module(f"app.{module.name}.tasks")


load_tasks()
engines.use(settings())


def forget_cancelled(timer: Timer) -> None:
    """Take out what was cancelled: the library leaves it until it would have been due."""
    waiting = [one for one in timer.queue if not one.entry.canceled]
    timer.clear()  # type: ignore[no-untyped-call]
    for one in waiting:
        timer.enter_at(one.entry, one.eta, one.priority)  # type: ignore[no-untyped-call]


class FinishedLimits(bootsteps.StartStopStep):  # type: ignore[misc]  # the library is not typed
    """Each task's time limit is a timer of 14 minutes that outlives the task.

    At 1.4 KB each they would be 40 MiB at 35 tasks a second.
    """

    requires = ("celery.worker.components:Timer",)

    def start(self, parent: Any) -> None:  # noqa: ANN401 - a worker of the library
        """Once, when the worker starts."""
        parent.timer.call_repeatedly(FORGET_S, forget_cancelled, (parent.timer,))


celery.steps["worker"].add(FinishedLimits)


def fresh_calendar(folder: Path) -> str:
    """Where the calendar is written down; nothing is read of what an earlier one has left there.

    The library never syncs it: after a power cut it may be half of one, of which the library dies.
    """
    for left in folder.glob(f"{SCHEDULE}*"):
        left.unlink()
    return str(folder / SCHEDULE)


class Calendar(bootsteps.StartStopStep):  # type: ignore[misc]  # the library is not typed
    """The calendar of periodic work, in a thread beside the work that this process does itself."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:  # noqa: ANN401 - a worker of the library
        """Once, when the worker starts."""
        self._beat = EmbeddedService(parent.app, thread=True, schedule_filename=fresh_calendar(settings().data_dir))
        self._beat.start()

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - a worker of the library
        """What is due is written down."""
        self._beat.stop()


def follow(consumer: Any, announcer: Announcer) -> None:  # noqa: ANN401 - of the library
    """Take work for the devices that are here now, and for no others; in the worker's own loop."""
    tasks = consumer.task_consumer
    if tasks is None:
        # Redis is away; when it is back the library takes from the same queues again.
        return
    serving = {one.name for one in tasks.queues if not one.name.startswith(HOUSEKEEPING)}
    for queue in sorted(announcer.wanted - serving):
        for one in (queue, housekeeping_of(queue)):
            consumer.add_task_queue(one)
    for queue in sorted(serving - announcer.wanted):
        for one in (queue, housekeeping_of(queue)):
            consumer.cancel_task_queue(one)
    announcer.serving = announcer.wanted


def announce(announcer: Announcer) -> None:
    """From the moment the worker takes work until it is told to stop."""

    def begin(sender: Any, **_: object) -> None:  # noqa: ANN401 - of the library
        announcer.start()
        sender.timer.call_repeatedly(FOLLOW_S, follow, (sender, announcer))

    def end(**_: object) -> None:
        announcer.stop()

    worker_ready.connect(begin, weak=False)
    worker_shutting_down.connect(end, weak=False)


def _serving(**_: object) -> None:
    notify.ready()


def _logging(**_: object) -> None:
    """Ours, in the worker's children too. Celery's own would write two lines a task."""
    here = settings()
    log.configure(here.log_level, here.log_format)


# Celery holds weak references to its listeners unless told otherwise.
setup_logging.connect(_logging, weak=False)
worker_ready.connect(_serving, weak=False)


def main() -> None:
    """Run until SIGTERM; a message in work is finished first."""
    here = settings()
    _logging()
    if sys.argv[1:] == ["beat"]:
        celery.steps["worker"].add(Calendar)
        _work("headrace-beat@%h", [HISTORY], "--pool", "solo")
    else:
        announce(Announcer(door, here.queue))
        served = here.queue or DEFAULT_QUEUE
        _work("headrace@%h", [served, HOUSEKEEPING], "--concurrency", str(here.worker_concurrency))


def _work(name: str, queues: list[str], *options: str) -> None:
    celery.worker_main([
        "worker", "--hostname", name, "--queues", ",".join(queues), *options, "--loglevel", settings().log_level,
        "--without-gossip", "--without-mingle",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
