"""Messages that are too large to be in the queue wait beside it, against a real Redis."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from app.db import reading
from app.queue import LARGE, Door
from app.readings.tables import AppliedRow
from app.scoring import tasks
from tests.app.works import Works, record

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def door(works: Works, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """The worker's way to Redis."""
    made = Door(redis_url)
    monkeypatch.setattr(tasks, "door", lambda: made)
    monkeypatch.setattr(tasks, "scorer", lambda: works.scorer)
    monkeypatch.setattr(tasks, "_settled", lambda: None)
    yield made
    made.close()


def applied(works: Works) -> int:
    """How many batches are."""
    with reading(works.engine) as session:
        return session.scalar(select(func.count()).select_from(AppliedRow)) or 0


def large(works: Works, number: int) -> bytes:
    """A message that does not fit into the queue."""
    body = works.message(number, of=record(1, [number + 1.0 / n for n in range(1, 5_000)]))
    assert len(body) > LARGE
    return body


def test_it_is_applied_once_and_gone_from_there(works: Works, door: Door) -> None:
    """Sent again after it was applied it changes nothing, and takes no more room either."""
    name, queue = secrets.token_hex(4), f"test.{secrets.token_hex(4)}"
    for _ in range(2):
        door.send(large(works, 1), queue, name)
        tasks.apply(b"", name)
        assert applied(works) == 1
        assert door.fetch(name) is None


def test_a_message_that_is_gone_stops_nothing(works: Works, door: Door) -> None:
    """Redis has lost it: the gateway sends it again. So it does where Redis itself is away."""
    tasks.apply(b"", "never-sent")
    assert applied(works) == 0
    tasks.apply(works.message(1))
    assert applied(works) == 1
    door._redis.connection_pool.connection_kwargs["port"] = 1  # noqa: SLF001 - Redis is away
    door._redis.connection_pool.disconnect()  # noqa: SLF001
    tasks.apply(b"", "unreachable")
    assert applied(works) == 1
