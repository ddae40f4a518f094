"""How fast a device answers at which batch, and whether threads that ask at once get the same answers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, List, NamedTuple, Tuple  # noqa: UP035 - Python 3.8

import numpy as np

from . import FAILED, NOT_POSSIBLE, PASSED, RefusalError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import Feeds, Question, Target

BATCHES = (1, 8, 64, 256)
WARM, RUNS, BUDGET_S = 10, 200, 3.0
THREADS, EACH = 4, 50
_FEWEST = 5


class Latency(NamedTuple):
    """Of one run, through the session, in ns; what is done once (first runs) is told apart."""

    model: str
    batch: int
    runs: int
    first_ns: int
    """The very first run at this batch."""
    p50_ns: int
    p99_ns: int
    rows_per_s: float
    """At the median."""
    reason: str = ""
    """Why there are no figures."""


class Concurrency(NamedTuple):
    """Threads with a session each, asked at once."""

    model: str
    threads: int
    runs: int
    other_answers: int
    """Runs whose answer was not that of the same rows asked alone."""
    errors: Tuple[str, ...]  # noqa: UP006 - Python 3.8


def rows_of(question: Question, rows: int) -> Feeds:
    """The golden rows again and again until there are so many."""
    return {name: np.resize(value, (rows, *value.shape[1:])) for name, value in question.inputs.items()}


def latency(target: Target, questions: Sequence[Question]) -> List[Latency]:  # noqa: UP006 - Python 3.8
    """Each model at each batch; models whose rows are not independent are left out."""
    found = []
    for one in questions:
        if not one.batched:
            continue
        try:
            session = target.open(one.graph)
        except (RefusalError, RunError) as error:
            found.append(Latency(one.graph.name, 0, 0, 0, 0, 0, 0.0, str(error)[:300]))
            continue
        for batch in BATCHES:
            try:
                found.append(_timed(session, one, batch))
            except RunError as error:
                found.append(Latency(one.graph.name, batch, 0, 0, 0, 0, 0.0, str(error)[:300]))
        session.close()
    return found


def _timed(session: Any, question: Question, batch: int) -> Latency:  # noqa: ANN401 - an open session
    feeds = rows_of(question, batch)
    until = time.monotonic() + BUDGET_S
    first = _once(session, feeds)
    for _ in range(WARM - 1):
        if time.monotonic() < until:
            session.run(feeds)
    taken: List[int] = []  # noqa: UP006 - Python 3.8
    while len(taken) < RUNS and (time.monotonic() < until or len(taken) < _FEWEST):
        taken.append(_once(session, feeds))
    middle, last = (int(one) for one in np.percentile(taken, (50, 99)))
    return Latency(question.graph.name, batch, len(taken), first, middle, last, round(1e9 * batch / max(middle, 1), 1))


def _once(session: Any, feeds: Feeds) -> int:  # noqa: ANN401 - an open session
    began = time.perf_counter_ns()
    session.run(feeds)
    return time.perf_counter_ns() - began


def latency_verdict(rows: List[Latency]) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """Figures are told, not judged: what is fast enough is a pipeline's to say. Runs that failed are judged."""
    wrong = [f"{one.model} at {one.batch}: {one.reason}" for one in rows if one.reason and one.batch]
    if wrong:
        return FAILED, "; ".join(wrong)[:600]
    if any(one.runs for one in rows):
        return PASSED, ""
    return NOT_POSSIBLE, "the device takes none of the models"


def concurrency(target: Target, question: Question) -> Concurrency:
    """Threads, each with a session of its own and other rows, held to what the same rows answer alone."""
    sessions = [target.open(question.graph) for _ in range(THREADS)]
    try:
        feeds = [{name: np.roll(value, number, 0) for name, value in rows_of(question, 8).items()}
                 for number in range(THREADS)]
        alone = [session.run(one) for session, one in zip(sessions, feeds)]  # noqa: B905 - Python 3.8
        wrong, errors = [0] * THREADS, [""] * THREADS
        gate = threading.Barrier(THREADS)

        def ask(number: int) -> None:
            gate.wait()
            try:
                for _ in range(EACH):
                    wrong[number] += not _same(sessions[number].run(feeds[number]), alone[number])
            except RunError as error:
                errors[number] = str(error)[:300]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        for session in sessions:
            session.close()
    return Concurrency(question.graph.name, THREADS, THREADS * EACH, sum(wrong), tuple(one for one in errors if one))


def _same(have: Feeds, want: Feeds) -> bool:
    return all(np.allclose(have[name], value, rtol=1e-5, atol=1e-6, equal_nan=True) for name, value in want.items())


def concurrency_verdict(row: Concurrency) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """One other answer or error is one too many."""
    if row.errors:
        return FAILED, "; ".join(row.errors)
    if row.other_answers:
        return FAILED, f"{row.other_answers} of {row.runs} runs answered otherwise than alone"
    return PASSED, ""
