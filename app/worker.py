"""The Celery worker and its beat: `python -m app.worker` and `python -m app.worker beat`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from celery.signals import beat_init, setup_logging, worker_ready

import app as rooms
from app import log, notify
from app.queue import HOUSEKEEPING, RECOMPUTE, celery
from app.settings import settings

celery.conf.beat_schedule = {
    "sent-outbox-rows": {"task": "headrace.retention", "schedule": 3600.0, "options": {"queue": HOUSEKEEPING}},
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


def _serving(**_: object) -> None:
    notify.ready()


def _logging(**_: object) -> None:
    """Ours, in the worker's children too. Celery's own would write two lines a task."""
    here = settings()
    log.configure(here.log_level, here.log_format)


# Celery holds weak references to its listeners unless told otherwise.
setup_logging.connect(_logging, weak=False)
worker_ready.connect(_serving, weak=False)
beat_init.connect(_serving, weak=False)


def main() -> None:
    """Run until SIGTERM; a message in work is finished first."""
    here = settings()
    _logging()
    if sys.argv[1:] == ["beat"]:
        celery.Beat(schedule=str(here.data_dir / "beat-schedule"), loglevel=here.log_level).run()
        return
    celery.worker_main(
        [
            "worker",
            "--queues",
            f"{here.queue},{HOUSEKEEPING}",
            "--concurrency",
            str(here.worker_concurrency),
            "--loglevel",
            here.log_level,
            "--without-gossip",
            "--without-mingle",
            "--hostname",
            "headrace@%h",
        ]
    )


if __name__ == "__main__":
    main()
