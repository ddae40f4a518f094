"""A run that is cancelled, and a process that is killed while it computes: what comes after has to be right."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Sequence, Tuple  # noqa: UP035 - Python 3.8

import numpy as np

from . import FAILED, PASSED, RefusalError, RunError
from .precision import CLASSES, coarser, native

if TYPE_CHECKING:
    from . import Apart, Question, Target

ENOUGH_S = 0.5
"""A run has to take so long that it can be cancelled."""
PART = 0.4
"""Of its time, after which it is cancelled or killed."""
ROOM_S = 60.0
SHORTEST_S = 0.2
"""Less may pass on a busy machine before a short answer is there."""
TRIES = 3


class Cancel(NamedTuple):
    """A long run that was given up."""

    model: str
    whole_ms: int
    """What the run takes when it is left alone."""
    after_ms: int
    """When it was given up."""
    ended_ms: int
    """When the caller had its answer, which is an error."""
    process_kept: bool
    """Whether the process lived on; where it did not let go of the run, it was replaced."""
    right_after: bool
    said: str


class Restart(NamedTuple):
    """A process killed in a run."""

    model: str
    killed_after_ms: int
    back_ms: int
    """From the kill to the next right answer, in a new process."""
    told: str
    """What the caller of the run was told."""
    right_after: bool


def long_enough(target: Target, questions: Sequence[Question]) -> Tuple[Optional[Question], float, str]:  # noqa: UP006, UP045
    """The first model, from small to large, whose run takes long; its time in s; or why there is none."""
    reason = f"every run of the kit's longest model ends within {ENOUGH_S:g} s"
    for one in questions:
        try:
            session = target.open(one.graph)
            session.run(one.inputs)
            began = time.monotonic()
            session.run(one.inputs)
            took = time.monotonic() - began
            session.close()
        except (RefusalError, RunError) as error:
            return None, 0.0, f"the long model: {error}"[:600]
        if took >= ENOUGH_S:
            return one, took, ""
    return None, 0.0, reason


def right(apart: Apart, question: Question, target: Target) -> bool:
    """Whether it answers as it should, by what the device computes in."""
    answer = apart.run(question.inputs)
    rtol, atol = CLASSES[coarser(native(target.precisions), question.precision)]
    return all(
        np.allclose(answer[name], value, rtol=max(rtol, 1e-3), atol=max(atol, 1e-3))
        for name, value in question.outputs.items()
    )


def cancel(target: Target, question: Question, whole_s: float, small: Question) -> Cancel:
    """Give a long run up, then ask the same process, or the one in its place, for something short."""
    for _ in range(TRIES):
        limit = max(SHORTEST_S, PART * whole_s)
        apart = target.apart(question.graph, limit)
        said, before = "", apart.pid()
        began = time.monotonic()
        try:
            apart.run(question.inputs)
        except RunError as error:
            said = str(error)[:300]
        ended = time.monotonic() - began
        if said or ended > limit:
            break
        # It was faster than when it was measured, and over before it could be given up.
        apart.close()
        whole_s = ended
    kept = apart.pid() == before
    try:
        # In the process that let go of the run, or in the one that takes its place.
        apart.open_again(small.graph)
        good = right(apart, small, target)
    finally:
        apart.close()
    return Cancel(question.graph.name, _ms(whole_s), _ms(limit), _ms(ended), kept, good, said)


def cancel_verdict(row: Cancel) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """A run that was given up has no answer; one that follows has the right one."""
    if not row.said:
        return FAILED, f"the run went on to its end although it was given up after {row.after_ms} ms"
    if not row.right_after:
        return FAILED, "what was asked afterwards was answered wrongly"
    return PASSED, ""


def restart(target: Target, question: Question, whole_s: float) -> Restart:
    """Kill the process in a run; open the model again and ask the same."""
    apart = target.apart(question.graph, max(ROOM_S, 10 * whole_s))
    told: List[str] = []  # noqa: UP006 - Python 3.8

    def ask() -> None:
        try:
            apart.run(question.inputs)
            told.append("")
        except RunError as error:
            told.append(str(error)[:300])

    try:
        for _ in range(TRIES):
            asking = threading.Thread(target=ask)
            asking.start()
            asking.join(PART * whole_s)
            if asking.is_alive():
                break
            # It was faster than when it was measured.
            whole_s = PART * whole_s
            told.clear()
        apart.kill()
        killed = time.monotonic()
        asking.join()
        apart.open_again()
        good = right(apart, question, target)
        back = time.monotonic() - killed
    finally:
        apart.close()
    return Restart(question.graph.name, _ms(PART * whole_s), _ms(back), told[0] if told else "", good)


def restart_verdict(row: Restart) -> Tuple[str, str]:  # noqa: UP006 - Python 3.8
    """The caller of the run is told; what comes after is right."""
    if not row.told:
        return FAILED, "the process was killed in a run, and the run answered all the same"
    return (PASSED, "") if row.right_after else (FAILED, "what was asked afterwards was answered wrongly")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
