"""What workers say of themselves is foreign: it is read with limits, and what is not theirs is left out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import msgspec
import pytest

from app import lives, times
from app.health.api import devices
from app.queue import MAX_LIVE, Door
from app.workers import LostLive, WorkerLive, age_s, as_json, lost_by, read


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
