"""The one door to Celery and Redis, against a real Redis."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from kombu.connection import Connection
from kombu.serialization import loads

from app.errors import QueueError
from app.launcher import servers
from app.queue import BELL, BESIDE_TTL_S, CONFIGURATION, CONTENT_TYPE, MAX_BODY, SERIALIZER, TASK, Door, make_celery
from app.settings import Settings
from tests.waiting import wait_for


@pytest.fixture
def door(redis_url: str) -> Iterator[Door]:
    """A door that is closed afterwards."""
    made = Door(redis_url)
    yield made
    made.close()


@pytest.fixture
def queue() -> str:
    """A queue of the test's own."""
    return f"test.{secrets.token_hex(4)}"


def _loads(data: bytes) -> object:
    """As a worker does."""
    return loads(data, CONTENT_TYPE, "binary", accept={CONTENT_TYPE})  # type: ignore[no-untyped-call]


def _take(url: str, queue: str) -> tuple[list[object], dict[str, object]]:
    """The arguments of the task that the next message asks for, and what stands about it."""
    with Connection(url) as connection:  # type: ignore[no-untyped-call]
        waiting = connection.SimpleQueue(queue)
        waiting.consumer.accept = {CONTENT_TYPE}
        message = waiting.get(timeout=10)
        message.ack()
        waiting.close()
        return list(message.payload[0]), {**message.headers, "content_type": message.content_type}


def test_a_message_arrives_byte_for_byte(door: Door, queue: str, redis_url: str) -> None:
    """What a worker gets is the bytes that were sent, under the task's name, in msgpack and never pickle."""
    body = bytes(range(256)) * 60
    door.send(body, queue, "one")
    assert door.waiting(queue) == 1
    found, about = _take(redis_url, queue)
    assert found == [body]
    assert about["task"] == TASK
    assert about["content_type"] == CONTENT_TYPE


def test_a_large_message_waits_beside_the_queue(door: Door, queue: str, redis_url: str) -> None:
    """It is there byte for byte, once however often it is sent, until it is done with; in the queue is its name."""
    name, body = secrets.token_hex(4), bytes(range(256)) * 300
    for _ in range(2):
        door.send(body, queue, name)
    kept = door._redis.keys(f"headrace:message:{name}*")  # noqa: SLF001 - what Redis itself says
    assert len(kept) == 1
    assert 0 < int(door._redis.ttl(kept[0])) <= BESIDE_TTL_S  # noqa: SLF001 - what Redis itself says
    raw = door._redis.lindex(queue, 0)  # noqa: SLF001 - what Redis itself says
    assert isinstance(raw, bytes)
    assert len(raw) < 2_000
    assert _take(redis_url, queue)[0] == [b"", name]
    assert door.fetch(name) == body
    door.drop(name)
    assert door.fetch(name) is None
    door.drop(name)


def test_what_waits_beside_the_queue_is_no_larger_than_allowed(door: Door) -> None:
    """Redis is a neighbour: what is too large is not taken, however it came there."""
    name = secrets.token_hex(4)
    key = f"headrace:message:{name}"
    door._redis.set(key, bytes(MAX_BODY), ex=60)  # noqa: SLF001 - somebody writes there
    found = door.fetch(name)
    assert found is not None
    assert len(found) == MAX_BODY
    door._redis.append(key, b"x")  # noqa: SLF001 - and more
    assert door.fetch(name) is None
    door.drop(name)


def test_order_is_kept(door: Door, queue: str, redis_url: str) -> None:
    """Messages come out in the order they went in."""
    for i in range(20):
        door.send(bytes([i]), queue, str(i))
    assert [_take(redis_url, queue)[0] for _ in range(20)] == [[bytes([i])] for i in range(20)]


def test_the_mark_changes_when_memory_is_lost(door: Door) -> None:
    """A mark stays the same until Redis forgets it; it is another one afterwards."""
    journal = secrets.token_hex(4)
    mark = door.mark(journal)
    assert door.marked(journal) == mark
    door._redis.delete(f"headrace:marker:{journal}")  # noqa: SLF001 - Redis loses its memory
    assert door.marked(journal) != mark
    assert door.mark(journal) != mark


def test_live_figures_are_found_by_their_prefix(door: Door) -> None:
    """A figure can be read back and listed, and leaves by itself."""
    prefix = f"test:{secrets.token_hex(4)}:"
    assert door.get_live(f"{prefix}a") is None
    door.put_live(f"{prefix}b", b"2")
    door.put_live(f"{prefix}a", b"1")
    assert door.live_keys(prefix) == [f"{prefix}a", f"{prefix}b"]
    assert door.get_live(f"{prefix}a") == b"1"
    assert 0 < int(door._redis.ttl(f"{prefix}a")) <= 60  # noqa: SLF001 - what Redis itself says


async def test_what_is_rung_is_heard(tmp_path: Path) -> None:
    """Every listener hears a ring; one whose Redis is away says so, and hears again when it is back."""
    async with servers.redis(tmp_path) as url:
        door = Door(url)
        bells = [door.bell(), door.bell()]
        for _ in range(2):
            waiting = [asyncio.create_task(bell.heard()) for bell in bells]
            await wait_for(lambda: door._redis.pubsub_numsub(BELL)[0][1] == 2, 10)  # noqa: SLF001 - what Redis says
            assert not any(one.done() for one in waiting)
            door.ring()
            await asyncio.wait_for(asyncio.gather(*waiting), 10)
        waiting = [asyncio.create_task(bells[0].heard())]
        killed = door._redis.info("server")["process_id"]  # noqa: SLF001 - what Redis itself says
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(QueueError):
            await asyncio.wait_for(waiting[0], 10)

        async def heard() -> bool:
            """Rung until it is: before the bell has subscribed nobody hears it."""
            with suppress(QueueError, TimeoutError):
                hearing = asyncio.create_task(bells[0].heard())
                done, _ = await asyncio.wait([hearing], timeout=0.2)
                await asyncio.to_thread(door.ring)
                await asyncio.wait_for(hearing, 0.5)
                return not done
            return False

        await wait_for(heard, 20)
        for bell in bells:
            await bell.close()
            await bell.close()
        door.close()


async def test_an_outage_is_one_kind_of_error(tmp_path: Path, queue: str) -> None:
    """Each call on a server that is gone raises QueueError, which never holds the password."""
    async with servers.redis(tmp_path) as url:
        door = Door(url)
        door.send(b"before", queue, "before")
    for call in (
        lambda: door.send(b"lost", queue, "lost"),
        lambda: door.send(bytes(100_000), queue, "large"),
        lambda: door.fetch("large"),
        lambda: door.drop("large"),
        lambda: door.mark("j"),
        lambda: door.marked("j"),
        lambda: door.put_live("k", b""),
        lambda: door.get_live("k"),
        lambda: door.live_keys("k"),
        lambda: door.waiting(queue),
        door.ring,
    ):
        with pytest.raises(QueueError) as raised:
            call()
        assert url.split("@")[0].rsplit(":", 1)[1] not in str(raised.value)
    door.close()
    door.close()


async def test_a_killed_server_costs_its_memory_and_nothing_else(tmp_path: Path, queue: str) -> None:
    """After Redis was killed and started again the same door sends, and the mark tells that messages are gone."""
    async with servers.redis(tmp_path) as url:
        door = Door(url)
        mark = door.mark("j")
        door.send(b"lost", queue, "lost")
        os.kill(door._redis.info("server")["process_id"], signal.SIGKILL)  # noqa: SLF001 - what Redis itself says

        def sent() -> bool:
            try:
                door.send(b"after", queue, "after")
            except QueueError:
                return False
            return True

        await wait_for(lambda: asyncio.to_thread(sent), 20.0)
        assert door.waiting(queue) == 1
        assert door.marked("j") != mark
        door.close()


def test_a_message_that_is_too_large_is_not_unpacked() -> None:
    """The limit holds before any byte of the message is looked at."""
    with pytest.raises(Exception, match="larger than"):
        _loads(bytes(MAX_BODY + 1))
    assert _loads(msgspec.msgpack.encode([1])) == [1]


def test_only_our_serializer_is_accepted() -> None:
    """Neither pickle nor JSON gets into a worker; a run ends before its message is given to another one."""
    conf = make_celery(None, "q").conf
    assert conf.accept_content == [SERIALIZER]
    assert conf.task_serializer == SERIALIZER
    assert conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]
    assert Settings.model_fields["resend_after_s"].default < conf.visibility_timeout
    assert set(CONFIGURATION) <= set(conf.keys())
