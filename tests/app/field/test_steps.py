"""A clock that is set is noticed and written down; one that is slewed, or merely runs, is not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from app.access.service import audit_page
from app.db import UnreachableError
from app.field.steps import STEP_NS, Steps, audited
from app.selftest.preload import Preload
from tests.waiting import wait_for

CHILD = """
import asyncio, sys
from app.field.steps import Steps

async def say(moved):
    print(round(moved / 1e9), flush=True, file=sys.stderr)

print("looking", flush=True, file=sys.stderr)
asyncio.run(Steps(say, look_s=0.01).run())
"""


class Clocks:
    """A wall clock and a monotonic one, which stand still."""

    def __init__(self) -> None:
        """At some moment."""
        self.wall, self.steady = 1_800_000_000_000_000_000, 5_000_000_000

    def steps(self) -> Steps:
        """Looks at them."""

        async def nobody(moved: int) -> None:
            raise AssertionError(moved)

        return Steps(nobody, wall=lambda: self.wall, steady=lambda: self.steady)


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(-STEP_NS + 1, STEP_NS - 1)), max_size=20))
def test_a_clock_that_runs_or_is_slewed_is_no_step(looks: list[tuple[int, int]]) -> None:
    """However often it is looked at, and however far it drifts in all."""
    clocks = Clocks()
    steps = clocks.steps()
    for passed, drift in looks:
        clocks.steady += passed
        clocks.wall += passed + drift
        assert steps.look() == 0


@given(st.integers(STEP_NS, 10**18), st.sampled_from([1, -1]))
def test_a_clock_that_is_set_is_seen_once(by: int, sign: int) -> None:
    """Ahead or behind, by its whole way."""
    clocks = Clocks()
    steps = clocks.steps()
    clocks.wall += sign * by
    assert (steps.look(), steps.look()) == (sign * by, 0)


def test_a_process_whose_clock_steps_says_so(preload: Preload) -> None:
    """Ahead, behind, right again: each way by itself, as the acceptance test does it to a gateway."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], env={**os.environ, **preload.environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "looking\n"
        for ahead, said in ((3, 3), (-3, -6), (0, 3)):
            preload.tell(ahead * 1_000_000_000)
            assert int(process.stderr.readline()) == said
        process.terminate()


async def test_it_is_noted_when_the_database_answers_again() -> None:
    """A step while it is away is not forgotten."""
    clocks, noted, away = Clocks(), list[int](), [True, True, False]

    async def note(moved: int) -> None:
        if away.pop(0):
            raise UnreachableError[0](None, None, Exception("away"))
        noted.append(moved)

    steps = Steps(note, wall=lambda: clocks.wall, steady=lambda: clocks.steady, look_s=0)
    clocks.wall += 2 * STEP_NS
    running = asyncio.create_task(steps.run())
    await wait_for(lambda: noted == [2 * STEP_NS])
    running.cancel()
    assert away == []


async def test_the_operator_finds_it_in_the_audit_log(engine: Engine) -> None:
    """Beside what people did: which gateway, and by how many seconds."""
    await audited(engine, "gateway-1")(-3_000_000_000)
    (entry,), intact = audit_page(engine, None, 10)
    assert intact
    assert (entry.who, entry.action, entry.target, entry.detail) == (
        "system", "clock_stepped", "gateway-1", {"by_s": -3.0},
    )  # fmt: skip
