"""A real worker: it is given a batch that kills, and goes on; it is asked for a replay, and answers."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from app.db import upgrade
from app.letters import service
from app.letters.schemas import unpack
from app.letters.tables import DeadWindowsRow
from app.queue import HOUSEKEEPING, REPLAY_LETTERS, Door, make_celery
from app.readings.tables import AppliedRow
from app.scoring.tables import PredictionRow
from app.settings import inherited
from tests.app.letters.deadly import KILLS, SCORES, TOP, kills, model, rows
from tests.app.works import INPUTS, LENGTH, Works
from tests.waiting import wait_for


@contextmanager
def serving(works: Works, redis_url: str, queue: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of this queue, with one child."""
    environment = {
        **inherited(), "HEADRACE_DATA_DIR": str(works.folder), "HEADRACE_DATABASE_URL": works.url,
        "HEADRACE_REDIS_URL": redis_url, "HEADRACE_QUEUE": queue,
    }  # fmt: skip
    with (works.folder / "worker.log").open("wb") as log:
        words = [sys.executable, "-m", "app.worker"]
        running = subprocess.Popen(words, cwd=TOP, env=environment, stderr=log, stdout=log)
        try:
            yield running
        finally:
            running.terminate()
            running.wait(60)


@kills
async def test_a_batch_that_kills_holds_up_no_worker(tmp_path: Path, redis_url: str) -> None:
    """Two children of a worker die over it; the third stores it, and the next batch is stored after it.

    What killed is mended and computed by the same worker, once it is asked to.
    """
    url, queue = f"sqlite:///{tmp_path / 'headrace.db'}", f"test.{secrets.token_hex(4)}"
    upgrade(url)
    works = Works(url, tmp_path, proto=model(), spec={"outputs": SCORES})
    with closing(Door(redis_url, make_celery(redis_url, queue))) as door, serving(works, redis_url, queue) as worker:
        door.send(works.message(1, works.block([2.0, KILLS, 3.0], 1)), queue, "first")
        door.send(works.message(2, works.block([4.0], 4)), queue, "second")
        await wait_for(lambda: len(rows(works, AppliedRow)) == 2, 120, "both batches are stored")
        found = sorted(rows(works, PredictionRow), key=lambda one: one.sequence)
        assert [one.reason.partition(":")[0] for one in found] == ["", "killed_worker", "", ""]
        (kept,) = rows(works, DeadWindowsRow)
        end = int(unpack(kept.body).end[0])
        service.correct(works.engine, "ada", kept.letter_id, {end: [[5.0] * INPUTS] * LENGTH})
        service.ask(works.engine, "ada", kept.letter_id, present=False)
        make_celery(redis_url, queue).send_task(REPLAY_LETTERS, queue=HOUSEKEEPING, ignore_result=True)
        await wait_for(lambda: rows(works, DeadWindowsRow)[0].state == "replayed", 60, "the letter is computed")
        (late,) = [one for one in rows(works, PredictionRow) if one.late]
        assert late.outputs["score"] == 5.0
        assert worker.poll() is None
    works.close()
