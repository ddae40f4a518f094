"""Messages that are too large to be in the queue wait beside it, against a real Redis."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from app.db import reading
from app.queue import LARGE, Door
from app.readings.tables import AppliedRow
from app.scoring.tasks import apply_large
from tests.app.works import Works, record

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def door(redis_url: str) -> Iterator[Door]:
    """The worker's way to Redis."""
    made = Door(redis_url)
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
        apply_large(works.scorer, lambda: door, name)
        assert applied(works) == 1
        assert door.fetch(name) is None


def test_a_message_that_is_gone_stops_nothing(works: Works, door: Door) -> None:
    """Redis has lost it: the gateway sends it again. So it does where Redis itself is away."""
    apply_large(works.scorer, lambda: door, "never-sent")
    assert applied(works) == 0
    assert works.scorer.apply(works.message(1))
    assert applied(works) == 1
    away = Door("redis://127.0.0.1:1/0")
    apply_large(works.scorer, lambda: away, "unreachable")
    assert applied(works) == 1
