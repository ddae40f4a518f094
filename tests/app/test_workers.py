"""What workers say of themselves is foreign: it is read with limits, and what is not theirs is left out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import msgspec
import pytest

from app import lives, times
from app.health.api import devices
from app.queue import MAX_LIVE, Door
from app.workers import PATIENCE_S, LostLive, Others, WorkerLive, age_s, as_json, lost_by, read


@pytest.fixture
def door(redis_url: str) -> Iterator[Door]:
    """A door that is closed afterwards."""
    made = Door(redis_url)
    yield made
    made.close()


def worker(**changes: object) -> dict[str, object]:
    """What a good one says."""
    return {"id": "h/1:2:3", "host": "h", "pid": 2, "at": 5, "devices": ["cpu", "ascend:0"],
            "classes": ["cpu"], "queues": ["infer.cpu"],
            **changes}  # fmt: skip


def test_what_a_worker_says_is_read() -> None:
    """Its devices, whose first ones they are, and its queues."""
    ((one,), unreadable) = read([msgspec.json.encode(worker())])
    assert (one.devices, one.classes, one.queues) == (("cpu", "ascend:0"), ("cpu",), ("infer.cpu",))
    assert unreadable == 0


@pytest.mark.parametrize(
    "said",
    [
        b"", b"{", b"[]", b"\xff", b"[" * 5000, b"null",
        *(msgspec.json.encode(one) for one in (
            worker(devices=["x"] * 257), worker(devices=["x" * 101]), worker(devices=[""]), worker(devices="cpu"),
            worker(queues=["infer cpu"]), worker(queues=["q"] * 65), worker(queues=["q" * 61]), worker(queues=["q\n"]),
            worker(pid=-1), worker(at=-1), worker(at=2**63), worker(host="h" * 256), worker(id=""), worker(more=1),
            worker(host="\x1b[2J"), worker(devices=["a b"]), worker(devices=["a\n"]),
        )),
    ],
)  # fmt: skip
def test_what_is_not_of_a_worker_is_left_out_and_counted(said: bytes) -> None:
    """It costs the others nothing."""
    found, unreadable = read([said, msgspec.json.encode(worker())])
    assert [one.id for one in found] == ["h/1:2:3"]
    assert unreadable == 1


def test_figures_that_are_too_large_or_of_another_kind_are_not_read(door: Door) -> None:
    """The others are, in the order of their keys; one that is taken back is gone."""
    prefix = f"test:{secrets.token_hex(4)}:"
    door.put_live(f"{prefix}b", b"2")
    door.put_live(f"{prefix}a", b"1", 5)
    door.put_live(f"{prefix}c", bytes(MAX_LIVE + 1))
    door._redis.lpush(f"{prefix}d", "x")  # noqa: SLF001 - somebody writes there
    assert door.read_live(prefix) == [b"1", b"2"]
    assert 0 < int(door._redis.ttl(f"{prefix}a")) <= 5  # noqa: SLF001 - what Redis itself says
    door._redis.delete(f"{prefix}d")  # noqa: SLF001 - and takes it away
    door.drop_live(f"{prefix}a")
    assert door.read_live(prefix)[:1] == [b"2"]


def test_what_a_child_has_lost_counts_while_it_lives() -> None:
    """What one that has ended has left behind does not, nor what cannot be read."""
    gone = lives.me().rpartition(":")[0] + ":1"
    left = [LostLive(lives.me(), ("simnpu:1",)), LostLive(lives.me(), ("cpu",)), LostLive(gone, ("ascend:0",))]
    assert lost_by([*map(msgspec.json.encode, left), b"{"]) == {"simnpu:1", "cpu"}
    assert lost_by([]) == set()


def test_devices_of_workers_are_counted_by_class() -> None:
    """Each figure has one sample, for what it can use and for what it has lost."""
    there = WorkerLive("i", "h", 1, 0, ("cpu", "ascend:0", "ascend:2"), ("cpu", "ascend"), ("ascend:1",))
    samples = [sample for metric in devices([there]) for sample in metric.samples]
    found = {(one.name, one.labels.get("device_class"), one.labels["worker"]): one.value for one in samples}
    assert found == {
        ("headrace_worker_devices", "ascend", "h:1"): 2, ("headrace_worker_devices", "cpu", "h:1"): 1,
        ("headrace_worker_devices_lost", None, "h:1"): 1,
    }  # fmt: skip


def test_a_worker_is_shown_with_its_age() -> None:
    """In seconds; a clock that is ahead makes it no younger than new."""
    one = WorkerLive("i", "h", 1, times.now() - 2 * times.NANOS, ("cpu",))
    assert 2 <= age_s(one) < 60
    assert age_s(msgspec.structs.replace(one, at=times.now() + 100 * times.NANOS)) == 0
    assert as_json(one)["devices"] == ("cpu",)
    assert as_json(one)["at"].endswith("Z")


class Elsewhere:
    """Workers and a clock in the test's hand, and who was asked."""

    def __init__(self, *there: WorkerLive) -> None:
        """At a thousand seconds."""
        self.there, self.now, self.asked = list(there), 1000.0, list[str]()
        self.others = Others("task", lambda: self.now, lambda: self.there, lambda _, queue: self.asked.append(queue))


def having(name: str, *devices: str) -> WorkerLive:
    """A worker that serves a queue for each class of its devices."""
    classes = tuple(sorted({one.partition(":")[0] for one in devices}))
    return WorkerLive(name, "h", 1, 0, devices, classes, (), tuple(f"infer.{one}" for one in classes))


NPU, GPU, PLAIN, NOWHERE = ("simnpu", "cpu"), ("webgpu",), ("cpu",), ("metax",)
ORDERS = {1: NPU, 2: GPU, 3: PLAIN, 4: NOWHERE}


def test_work_of_devices_that_others_have_is_left_to_them() -> None:
    """They are asked, each class once; what is here is done here, by the device that is wished for."""
    there = Elsewhere(having(lives.parent(), "cpu", "webgpu:0"), having("b", "cpu", "simnpu:0"))
    assert there.others(ORDERS) == {1, 4}
    assert there.asked == ["infer.simnpu"]
    assert there.others({3: PLAIN}) == set()


def test_a_worker_does_not_ask_itself() -> None:
    """Its neighbour of the same class has the other card: beat comes to him, too."""
    there = Elsewhere(having(lives.parent(), "cpu", "simnpu:0"), having("b", "cpu", "simnpu:1"))
    assert there.others({1: ("simnpu:1", "cpu"), 2: ("simnpu:0",)}) == {1}
    assert there.asked == []


def test_nothing_is_refused_before_it_is_known_what_is_here() -> None:
    """While a worker has not looked, or Redis is not heard, only what begins with the CPU is certain."""
    assert Elsewhere().others(ORDERS) == {1, 2, 4}
    assert Elsewhere(having("b", "cpu", "simnpu:0")).others(ORDERS) == {1, 2, 4}


def test_work_is_not_left_for_ever() -> None:
    """After a time it is done by what is here, or refused; a device that comes meanwhile has it."""
    there = Elsewhere(having(lives.parent(), "cpu"))
    assert there.others(ORDERS) == {2, 4}
    there.now += PATIENCE_S - 1
    assert there.others(ORDERS) == {2, 4}
    there.there.append(having("b", "webgpu:0"))
    there.now += 2
    assert there.others(ORDERS) == set()
    assert there.others({3: PLAIN}) == set()
    assert there.others(ORDERS) == {2, 4}, "it begins anew with new work"


def test_others_are_asked_now_and_then(door: Door) -> None:
    """Not for each piece: one who has been asked lately is not asked again."""
    key = f"test:{secrets.token_hex(4)}"
    assert [door.first(key, 5) for _ in range(3)] == [True, False, False]
    assert 0 < int(door._redis.ttl(key)) <= 5  # noqa: SLF001 - what Redis itself says
