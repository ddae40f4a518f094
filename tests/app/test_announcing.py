"""What a worker announces, with a real Redis and real looks at the devices of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from app import lives, workers
from app.announcing import Announcer, Look
from app.queue import DEFAULT_QUEUE, Door
from app.workers import LOST, PREFIX, LostLive, WorkerLive
from tests.app.scoring.test_devices import variable
from tests.waiting import wait_until


class Known(Look):
    """A look that is over, with what it found in the test's hand."""

    def __init__(self, *found: str) -> None:
        """A child that says it."""
        said = msgspec.json.encode(found).decode()
        self._began = float("inf")
        self._child = subprocess.Popen(
            [sys.executable, "-c", "import sys; print(sys.argv[1])", said], stdout=subprocess.PIPE
        )
        self._child.wait()


@pytest.fixture
def door(redis_url: str) -> Iterator[Door]:
    """A door that is closed afterwards; nothing of this process stays behind it."""
    made = Door(redis_url)
    yield made
    made.drop_live(f"{PREFIX}{lives.me()}")
    made.drop_live(f"{LOST}{lives.me()}:child")
    made.close()


def said(door: Door) -> WorkerLive | None:
    """What this process announces."""
    found, _ = workers.read(door.read_live(PREFIX))
    return next((one for one in found if one.id == lives.me()), None)


def test_a_worker_says_nothing_before_it_has_looked_and_then_what_it_has_found(door: Door) -> None:
    """What it announces to take from is what it takes from, not what it is going to."""
    announcer = Announcer(lambda: door, None)
    announcer.turn()
    assert said(door) is None
    assert announcer.wanted == {DEFAULT_QUEUE}
    announcer.serving = frozenset((DEFAULT_QUEUE,))

    def found() -> WorkerLive | None:
        announcer.turn()
        return said(door)

    one = wait_until(found, 120, "the devices are found")
    assert one is not None
    assert "cpu" in one.devices
    assert "cpu" in one.classes
    assert one.queues == (DEFAULT_QUEUE,)
    assert "infer.reference" in announcer.wanted
    announcer.serving = announcer.wanted
    announcer.turn()
    assert "infer.reference" in said(door).queues  # type: ignore[union-attr]  # it was there a moment ago


def test_what_a_child_has_lost_is_not_announced_until_it_is_well(door: Door) -> None:
    """The maker's other device still is, though not as its first; with none left its queue is not wanted."""
    announcer = Announcer(lambda: door, None, lambda: Known("cpu", "ascend:0", "ascend:1"))
    announcer.serving = frozenset((DEFAULT_QUEUE, "infer.ascend"))

    def lose(*devices: str) -> WorkerLive:
        left = msgspec.json.encode(LostLive(lives.me(), devices))
        door.put_live(f"{LOST}{lives.me()}:child", left)
        announcer.turn()
        one = said(door)
        assert one is not None
        return one

    one = lose()
    assert (one.devices, one.classes, one.lost) == (("cpu", "ascend:0", "ascend:1"), ("ascend", "cpu"), ())
    one = lose("ascend:0")
    assert (one.devices, one.classes, one.lost) == (("cpu", "ascend:1"), ("cpu",), ("ascend:0",))
    assert "infer.ascend" in one.queues
    one = lose("ascend:0", "ascend:1")
    assert (one.devices, one.queues) == (("cpu",), (DEFAULT_QUEUE,))
    assert announcer.wanted == {DEFAULT_QUEUE}
    assert set(lose().queues) == {DEFAULT_QUEUE, "infer.ascend"}


def test_a_fixed_queue_is_the_only_one_that_is_wanted(door: Door) -> None:
    """Whatever devices there are, which are announced all the same."""
    announcer = Announcer(lambda: door, "line2", lambda: Known("cpu", "ascend:0"))
    announcer.serving = frozenset(("line2",))
    announcer.turn()
    assert announcer.wanted == {"line2"}
    one = said(door)
    assert one is not None
    assert (one.devices, one.queues) == (("cpu", "ascend:0"), ("line2",))


def test_a_look_that_fails_leaves_a_worker_that_takes_what_every_worker_takes(door: Door) -> None:
    """It says that it knows of no device, and looks again."""
    with variable("HEADRACE_QUEUE", "no such name"):
        announcer = Announcer(lambda: door, None)
        announcer.turn()
    announcer.serving = frozenset((DEFAULT_QUEUE,))

    def found() -> WorkerLive | None:
        announcer.turn()
        return said(door)

    one = wait_until(found, 60, "it announces itself")
    assert one is not None
    assert (one.devices, one.queues) == ((), (DEFAULT_QUEUE,))
