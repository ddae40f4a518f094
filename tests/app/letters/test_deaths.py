"""A batch that kills its worker: attempts are counted before the work, and the window that kills is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec
import pytest
from sqlalchemy import select, text, update

from app import lives, times
from app.db import noting, reading, writing
from app.events.tables import EventRow
from app.letters import service
from app.letters.schemas import unpack
from app.letters.tables import AttemptRow, DeadWindowsRow
from app.messages import Message
from app.pipelines.service import versions
from app.probing import MOST_DEATHS, Prober
from app.readings.tables import AppliedRow, BatchRow, DeadLetterRow
from app.scoring.tables import PredictionRow
from tests.app.letters.deadly import KILLS, dies, kills, rows, worker
from tests.app.works import SECOND, Works, record

GONE = "elsewhere/00000000:1:1"


def decoded(body: bytes) -> Message:
    """A message as a worker reads it."""
    return msgspec.msgpack.decode(body, type=Message)


@kills
def test_the_window_that_kills_is_found_and_the_others_are_answered(works: Works) -> None:
    """Two workers die; the third answers seven of eight windows, and the killer is a tombstone that is kept whole."""
    values = [0.5 + n for n in range(1, 9)]
    values[5] = KILLS
    message = works.message(1, works.block(values, 1), of=record(1, [1.0, 2.0]))
    dies(works, message)
    dies(works, message)
    assert rows(works, AppliedRow) == rows(works, PredictionRow) == []
    assert worker(works, message) == 0
    found = sorted(rows(works, PredictionRow), key=lambda one: one.sequence)
    assert [one.sequence for one in found] == list(range(1, 9))
    assert [one.sequence for one in found if one.reason] == [6]
    assert found[5].reason.startswith("killed_worker: ")
    assert (found[5].outputs, found[5].status >> 30) == ({}, 2)
    assert [one.outputs["score"] for one in found if not one.reason] == [one for one in values if one != KILLS]
    (batch,) = rows(works, BatchRow)
    assert batch.count == 2, "the readings are kept"
    (letter,), (kept,) = rows(works, DeadLetterRow), rows(works, DeadWindowsRow)
    assert (letter.address, letter.reason) == ("watch", "killed_worker")
    assert (kept.windows, kept.kept, kept.state, kept.first_end) == (1, 1, "open", found[5].end_time)
    assert unpack(kept.body).values.tolist() == [[[KILLS] * 2] * 4]
    (event,) = rows(works, EventRow)
    assert event.prediction_id == found[0].id, "rules go on over the tombstone"
    assert rows(works, AttemptRow) == []


@kills
def test_deaths_are_counted_though_nothing_else_of_them_is_left(works: Works) -> None:
    """What a worker notes before its work outlives it."""
    message = works.message(1, works.block([KILLS], 1))
    for deaths in range(2):
        dies(works, message)
        assert [one.deaths for one in rows(works, AttemptRow)] == [deaths]
    assert service.begin(works.engine, decoded(message)) == 2


def begun(works: Works, number: int = 1) -> int | None:
    """How many died over a message before this process began with it."""
    return service.begin(works.engine, decoded(works.message(number, works.block([2.0], 1))))


def test_whoever_still_works_has_not_died(works: Works) -> None:
    """A message that is handed out again while a living process works on it counts no death, however often."""
    assert [begun(works) for _ in range(4)] == [0, 0, 0, 0]
    (row,) = rows(works, AttemptRow)
    assert (row.process, row.deaths) == (lives.me(), 0)


def test_one_of_another_host_counts_once_no_task_could_run_so_long(works: Works) -> None:
    """It cannot be asked for: before that it is taken to live."""
    assert begun(works) == 0
    with writing(works.engine) as session:
        session.execute(update(AttemptRow).values(process=GONE))
    assert begun(works) == 0
    with writing(works.engine) as session:
        session.execute(update(AttemptRow).values(at=times.now() - (service.LONGEST_S + 1) * times.NANOS))
    assert begun(works) == 1


def test_what_has_killed_in_every_way_is_stored_without_answers(works: Works) -> None:
    """After a third death nothing is run: readings and windows are kept, each number has its tombstone."""
    message = works.message(1, works.block([0.5, 2.5], 1), of=record(1, [1.0]))
    service.begin(works.engine, decoded(message))
    with writing(works.engine) as session:
        session.execute(update(AttemptRow).values(deaths=3))
    assert works.scorer.apply(message)
    assert {one.reason.partition(":")[0] for one in rows(works, PredictionRow)} == {"killed_worker"}
    assert [one.count for one in rows(works, BatchRow)] == [1]
    assert [(one.windows, one.kept) for one in rows(works, DeadWindowsRow)] == [(2, 2)]
    assert rows(works, AttemptRow) == []


def test_a_repeat_is_not_computed_again(works: Works) -> None:
    """What is applied is known before the work, and leaves no attempt behind."""
    assert works.scorer.apply(works.message(1, works.block([2.0], 1)))
    assert begun(works) is None
    assert rows(works, AttemptRow) == []


def test_readings_alone_leave_no_attempt(works: Works) -> None:
    """A message without windows runs no model."""
    assert works.scorer.apply(works.message(1))
    assert rows(works, AttemptRow) == []


@kills
def test_engines_that_keep_dying_are_given_up(works: Works) -> None:
    """When every window kills, it ends after so many deaths, and says so."""
    version = versions(works.engine, [works.version])[0][works.version]
    with Prober(works.folder / "models", most_deaths=3) as prober:
        (found,) = prober.score([(version, works.block([KILLS] * 6, 1))])
    assert [one.partition(":")[0] for one in found.reason] == ["killed_worker"] * 6
    assert any("3 engines have died" in one for one in found.reason)
    assert MOST_DEATHS > 3


def test_what_takes_too_long_is_given_up(works: Works) -> None:
    """Windows that hang, one after the other, do not outlast the task: what was not run by then says so."""
    version = versions(works.engine, [works.version])[0][works.version]
    with Prober(works.folder / "models", most_s=0) as prober:
        (found,) = prober.score([(version, works.block([2.0, 3.0], 1))])
    assert all("0 engines have died; the rest was not run" in one for one in found.reason)
    assert found.dead is not None
    assert found.dead.windows == (0, 1), "they are kept"


def test_a_note_does_not_wait_for_the_disk_and_the_next_commit_does(works: Works) -> None:
    """The same connection, while it notes and afterwards."""
    asked = "PRAGMA synchronous" if works.engine.dialect.name == "sqlite" else "SHOW synchronous_commit"
    with noting(works.engine) as session:
        assert session.scalar(text(asked)) in (1, "off")
    with reading(works.engine) as session:
        assert session.scalar(text(asked)) in (2, "on")


def test_a_process_that_is_gone_is_told_from_one_that_lives() -> None:
    """By host, process id and start time: an id that was given to another process does not stand for the first."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        host, _, rest = lives.me().partition(":")
        name = f"{host}:{other.pid}:{rest.partition(':')[2]}"
        assert lives.is_gone(name), "it was started at another time"
        assert lives.is_gone(lives.me()) is False
        os.kill(other.pid, signal.SIGKILL)
    assert lives.is_gone(f"{host}:none:1")
    assert lives.is_gone(GONE) is None


@pytest.mark.parametrize("values", [[2.0], [2.0, 3.0]])
def test_what_was_noted_is_seen_by_others(works: Works, values: list[float]) -> None:
    """Another connection sees the attempt as soon as it is begun."""
    message = decoded(works.message(9, works.block(values, 1, at=SECOND)))
    assert service.begin(works.engine, message) == 0
    other = works.worker()
    with reading(other.engine) as session:
        assert session.scalar(select(AttemptRow.number)) == 9
    other.close()
