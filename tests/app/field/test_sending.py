"""Messages into queues of a real Redis, with what workers announce in the test's hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
import structlog
from kombu.connection import Connection

from app import workers
from app.field.flight import Flight
from app.field.routing import Router
from app.field.sending import FOLLOW_S, Sending
from app.journal import Position
from app.journal.service import Progress
from app.log import MESSAGES_SENT_AGAIN, WORK_MOVED, WORKERS_UNREADABLE
from app.messages import VERSION, Message, Stop, decoded, encoded
from app.queue import CONTENT_TYPE, DEFAULT_QUEUE, LARGE, Door, queue_of
from app.records import Record
from app.workers import WorkerLive
from tests.waiting import wait_for

NPU = (("simnpu", "cpu"),)
CPU = (("cpu",),)
BOTH = (("ascend",), ("simnpu",))
WAY = ("infer.ascend", "infer.simnpu")


@dataclass
class There:
    """What is under way, and how it is sent."""

    door: Door
    sending: Sending
    flight: Flight
    url: str
    applied: set[Position] = field(default_factory=set)

    def announce(self, name: str, *devices: str) -> None:
        """As a worker with these devices does."""
        queues = tuple(sorted({DEFAULT_QUEUE, *map(queue_of, devices)}))
        classes = tuple({one.partition(":")[0] for one in devices})
        said = WorkerLive(name, name, 1, 0, devices, classes, (), queues)
        self.door.put_live(f"{workers.PREFIX}{name}", msgspec.json.encode(said))

    def waiting(self) -> dict[str, int]:
        """Messages in each queue."""
        return {one: self.door.waiting(one) for one in (DEFAULT_QUEUE, "infer.simnpu", "line2")}

    async def send(self, number: int, orders: tuple[tuple[str, ...], ...]) -> None:
        """One message."""
        message = encoded(Message(VERSION, "j", 1, number, Record(1, 1, 1, 1, 0, 0, 0, 0, (), b""), ()))
        await self.sending.send(Position(1, number), message, orders)

    def taken(self, queue: str) -> Message:
        """As a worker takes the next one."""
        with Connection(self.url) as connection:  # type: ignore[no-untyped-call]
            waiting = connection.SimpleQueue(queue)
            waiting.consumer.accept = {CONTENT_TYPE}
            found = waiting.get(timeout=10)
            found.ack()
            waiting.close()
        return decoded(found.payload[0][0])


def _there(url: str, fixed: str | None = None, resend_after_s: float = 10) -> There:
    door, flight = Door(url), Flight(64, resend_after_s)
    applied: set[Position] = set()
    return There(door, Sending(door, flight, Router(fixed), "j", applied.__contains__), flight, url, applied)


@pytest.fixture
async def there(redis: str) -> AsyncIterator[There]:
    """Nothing is announced yet."""
    made = _there(redis)
    yield made
    await made.sending.close()
    made.door.close()


async def test_what_waits_where_nobody_is_any_more_is_sent_on(there: There) -> None:
    """To where it goes now, and told; what is applied meanwhile, or waits elsewhere, is not sent again."""
    there.announce("one", "cpu", "simnpu:0")
    there.announce("two", "cpu")
    await there.sending.follow()
    for number in (1, 2, 3):
        await there.send(number, NPU)
    await there.send(4, CPU)
    assert there.waiting() == {DEFAULT_QUEUE: 1, "infer.simnpu": 3, "line2": 0}
    there.applied.add(Position(1, 2))
    there.door.drop_live(f"{workers.PREFIX}one")

    async def moved() -> bool:
        await there.sending.follow()
        return there.flight.within("infer.simnpu") == 1

    with structlog.testing.capture_logs() as logs:
        await wait_for(moved, 20, "all but what is applied is sent on")
    assert there.waiting()[DEFAULT_QUEUE] == 3
    again = [(one["event"], one.get("why"), one.get("to")) for one in logs]
    assert again[:2] == [(WORK_MOVED, None, DEFAULT_QUEUE), (MESSAGES_SENT_AGAIN, "moved", None)]
    assert there.flight.within(DEFAULT_QUEUE) == 3


async def test_it_is_asked_what_workers_have_once_a_second_and_not_for_each_message(there: There, redis: str) -> None:
    """However many messages there are."""
    asked = Door(redis)

    def scans() -> int:
        found = asked._redis.info("commandstats")  # noqa: SLF001 - what Redis itself says
        return int(found.get("cmdstat_scan", {"calls": 0})["calls"])

    before, began = scans(), time.monotonic()
    for number in range(50):
        await there.sending.follow()
        await there.send(number, NPU)
    assert 1 <= scans() - before <= 1 + (time.monotonic() - began) / FOLLOW_S
    asked.close()


async def test_what_no_worker_says_is_told_once_and_costs_nothing(there: There) -> None:
    """Redis is a neighbour."""
    there.announce("one", "cpu", "simnpu:0")
    there.door.put_live(f"{workers.PREFIX}two", b'{"id": "two"}')
    with structlog.testing.capture_logs() as logs:
        await there.sending.follow()
        await asyncio.sleep(0)
        there.sending._followed_at -= FOLLOW_S  # noqa: SLF001 - as if that had passed
        await there.sending.follow()
    assert [one["event"] for one in logs] == [WORKERS_UNREADABLE]
    await there.send(1, NPU)
    assert there.waiting()["infer.simnpu"] == 1


async def test_a_fixed_queue_has_everything(redis: str) -> None:
    """Whatever is announced, and nobody is asked."""
    there = _there(redis, "line2")
    there.announce("one", "cpu", "simnpu:0")
    await there.sending.follow()
    await there.send(1, NPU)
    await there.send(2, ())
    assert there.waiting() == {DEFAULT_QUEUE: 0, "infer.simnpu": 0, "line2": 2}
    await there.sending.close()
    there.door.close()


async def test_only_a_queue_that_somebody_takes_from_is_late(redis: str) -> None:
    """What lies in the one is waiting for its worker; of the other a message was taken and is not applied."""
    there = _there(redis, resend_after_s=0.0)
    there.announce("one", "cpu", "simnpu:0")
    await there.sending.follow()
    await there.send(1, NPU)
    await there.send(2, NPU)
    await there.send(3, CPU)
    there.door._redis.rpop("infer.simnpu")  # noqa: SLF001 - a worker takes it, and dies
    await wait_for(lambda: len(there.flight.overdue(time.monotonic())) == 3, 5, "all of it is late")
    await there.sending.chase()
    assert there.waiting() == {DEFAULT_QUEUE: 1, "infer.simnpu": 3, "line2": 0}
    there.flight.land(Progress({1: 3}, {}), time.monotonic())
    assert there.flight.within("infer.simnpu") == there.flight.within(DEFAULT_QUEUE) == 0
    await there.sending.close()
    there.door.close()


async def test_what_was_taken_while_the_database_was_away_is_sent_again_at_once(there: There) -> None:
    """Workers have let go of it; what nobody has taken lies where it is, and the next wait is the first one again."""
    there.announce("one", "cpu", "simnpu:0")
    await there.sending.follow()
    for number in (1, 2):
        await there.send(number, CPU)
    await there.send(3, NPU)
    for _ in range(3):
        there.flight.repeat(Position(1, 1), time.monotonic())
    there.door._redis.rpop(DEFAULT_QUEUE)  # noqa: SLF001 - a worker takes it, and the database does not answer
    with structlog.testing.capture_logs() as logs:
        await there.sending.database_back()
    assert [(one["event"], one["why"], one["messages"]) for one in logs] == [(MESSAGES_SENT_AGAIN, "database_back", 2)]
    assert there.waiting() == {DEFAULT_QUEUE: 3, "infer.simnpu": 1, "line2": 0}
    first = there.flight.get(Position(1, 1))
    assert first is not None
    assert first.sent == 1


async def test_a_message_says_where_it_goes_from_its_first_worker(there: There) -> None:
    """And which windows are for it there; it goes another way when a queue on it is served no more."""
    there.announce("one", "cpu", "ascend:0")
    there.announce("two", "cpu", "simnpu:0")
    await there.sending.follow()
    await there.send(1, BOTH)
    await there.send(2, BOTH[1:])
    assert there.taken("infer.ascend").stops == (Stop("infer.simnpu", BOTH[1:]),)
    assert there.taken("infer.simnpu").stops == ()
    assert (there.flight.within(*WAY), there.flight.within("infer.simnpu")) == (1, 1)
    there.door.drop_live(f"{workers.PREFIX}two")

    async def elsewhere() -> bool:
        await there.sending.follow()
        return not there.flight.within(*WAY)

    await wait_for(elsewhere, 20, "it is sent on")
    assert there.flight.within("infer.ascend") == 1
    again = there.taken("infer.ascend")
    assert (again.number, again.stops) == (1, ())


async def test_a_message_may_lie_in_any_queue_on_its_way(redis: str) -> None:
    """It is late where none of them has it: then a worker has it, or it is lost."""
    there = _there(redis, resend_after_s=0.0)
    there.announce("one", "cpu", "ascend:0")
    there.announce("two", "cpu", "simnpu:0")
    await there.sending.follow()
    await there.send(1, BOTH)
    await wait_for(lambda: there.flight.overdue(time.monotonic()), 5, "it is late")
    first = there.taken("infer.ascend")
    there.door.send(encoded(first), "infer.simnpu", first.name)
    await there.sending.chase()
    assert there.door.waiting("infer.ascend") == 0
    there.taken("infer.simnpu")
    await there.sending.chase()
    assert there.door.waiting("infer.ascend") == 1
    await there.sending.close()
    there.door.close()


async def test_a_backlog_on_one_way_hides_no_loss_on_another(redis: str) -> None:
    """Ways that share a queue are counted together: what lies there may be of either."""
    there = _there(redis, resend_after_s=0.0)
    there.announce("one", "cpu", "ascend:0")
    there.announce("two", "cpu", "simnpu:0")
    await there.sending.follow()
    for number in range(1, 6):
        await there.send(number, BOTH[:1])
    await there.send(6, BOTH)
    lost = [there.taken("infer.ascend") for _ in range(6)]
    for one in lost[:5]:
        there.door.send(encoded(one), "infer.ascend", one.name)
    await wait_for(lambda: len(there.flight.overdue(time.monotonic())) == 6, 5, "all of it is late")
    await there.sending.chase()
    assert there.door.waiting("infer.ascend") > 5
    await there.sending.close()
    there.door.close()


async def test_a_large_message_that_goes_another_way_has_another_name(there: There) -> None:
    """What it says differs: a worker that comes late with the old one must not find the new one's way."""
    there.announce("one", "cpu", "ascend:0")
    there.announce("two", "cpu", "simnpu:0")
    await there.sending.follow()
    large = Record(1, 1, 1, 1, 0, 0, 0, 0, (), b"x" * 2 * LARGE)
    for number, orders in ((1, BOTH), (2, BOTH[1:])):
        message = encoded(Message(VERSION, "j", 1, number, large, ()))
        await there.sending.send(Position(1, number), message, orders)
    assert there.door.fetch("j:1:1") is None
    whole = there.door.fetch("j:1:1:infer.ascend>infer.simnpu")
    assert whole is not None
    assert decoded(whole).stops == (Stop("infer.simnpu", BOTH[1:]),)
    assert there.door.fetch("j:1:2") is not None
