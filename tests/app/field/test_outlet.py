"""One subscription's life, with a consumer in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from app import times
from app.field.outlet import Outlet
from app.northbound.service import Due, Subscription
from connectors import NodeValue, NotConnectedError, Publication, RefusedError, Status
from tests.app.field.doubles import Consumer, Plug
from tests.waiting import wait_for


def _due(row: int, key: str = "k", *, at: int | None = None) -> Due:
    nodes = () if at is None else (NodeValue("a/b", 1.0, Status.GOOD, at),)
    return Due(row, 1, 0, 0, Publication(f"id{row}", key, "t", b"{}", "application/json", nodes))


@asynccontextmanager
async def _running(
    consumer: Consumer, *, shown: Sequence[Due] = (), problem: str = "", max_age_s: float | None = None
) -> AsyncIterator[tuple[Outlet, asyncio.Task[None]]]:
    subscription = Subscription(1, "mes", "plug", {}, "", 1, problem)
    load = Plug(sinks={"mes": consumer}).load
    outlet = Outlet(subscription, str(Path()), lambda _: max_age_s, lambda: None, load=load, cap_s=0.01)
    task = asyncio.create_task(outlet.run(shown))
    try:
        yield outlet, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _publish(outlet: Outlet, *rows: Due) -> None:
    await wait_for(lambda: outlet.ready)
    outlet.offer(list(rows))


async def test_rows_are_published_in_their_order_and_reported() -> None:
    """What the peer took is told once, with the time it took it."""
    consumer = Consumer()
    consumer.up.set()
    async with _running(consumer) as (outlet, _):
        await _publish(outlet, _due(1), _due(2))
        await _publish(outlet, _due(3))
        await wait_for(lambda: outlet.ready)
        sent = outlet.drain_sent()
        assert [due.row for due, _ in sent] == [1, 2, 3]
        assert all(abs(times.now() - at) < 60 * times.NANOS for _, at in sent)
        assert outlet.drain_sent() == []
    assert consumer.ids() == ["id1", "id2", "id3"]
    assert consumer.closes >= 1


async def test_what_was_not_taken_is_not_reported() -> None:
    """A peer lost in the middle leaves its rows due; the outlet comes back and takes them again."""
    consumer = Consumer(errors=[NotConnectedError("reset")])
    consumer.up.set()
    async with _running(consumer) as (outlet, _):
        await _publish(outlet, _due(1))
        await wait_for(lambda: consumer.connects == 2 and outlet.ready)
        assert outlet.drain_sent() == []
        await _publish(outlet, _due(1))
        await wait_for(lambda: consumer.ids() == ["id1"])


async def test_a_peer_that_is_away_is_never_ready() -> None:
    """Nothing is handed to a subscription whose peer does not answer; when it does, it is."""
    consumer = Consumer()
    async with _running(consumer) as (outlet, _):
        await wait_for(lambda: consumer.connects > 2)
        assert (outlet.state, outlet.error, outlet.ready) == ("lost", "nobody listens", False)
        consumer.up.set()
        await wait_for(lambda: outlet.ready)
        assert (outlet.state, outlet.error) == ("connected", "")


async def test_one_row_that_cannot_be_published_holds_up_no_other() -> None:
    """The culprit alone is put off, with the reason; the rest goes out in order."""
    consumer = Consumer(poison={"id2"})
    consumer.up.set()
    async with _running(consumer) as (outlet, _):
        await _publish(outlet, _due(1), _due(2), _due(3))
        failed = await wait_for(outlet.drain_failed)
        assert [one.row for one in failed] == [2]
        assert "no topic" in failed[0].error
        assert failed[0].due_at > times.now()
        await wait_for(lambda: consumer.ids() == ["id1", "id3"])


@pytest.mark.parametrize("problem", ["", "a secret cannot be opened"])
async def test_a_subscription_that_is_refused_ends(problem: str) -> None:
    """Wrong credentials are not tried again."""
    consumer = Consumer(errors=[RefusedError("bad password")])
    consumer.up.set()
    async with _running(consumer, problem=problem) as (outlet, task):
        if not problem:
            await _publish(outlet, _due(1))
        await asyncio.wait_for(task, 5)
        assert (outlet.state, outlet.error) == ("refused", problem or "bad password")


async def test_an_old_value_turns_bad() -> None:
    """A node whose value is older than its pipeline allows shows so, once, keeping the value and its time."""
    consumer = Consumer()
    consumer.up.set()
    now = times.now()
    async with _running(consumer, max_age_s=0.3) as (outlet, _):
        await _publish(outlet, _due(1, at=now))
        await wait_for(lambda: len(consumer.taken) == 2)
        good, bad = (one.nodes[0] for one in consumer.taken)
        assert (good.status, bad.status) == (Status.GOOD, Status.BAD_NO_COMMUNICATION)
        assert (bad.value, bad.source_time) == (good.value, good.source_time)
        await _publish(outlet, _due(2, at=times.now()))
        await wait_for(lambda: len(consumer.taken) >= 3)
        assert consumer.taken[2].nodes[0].status == Status.GOOD


async def test_a_peer_that_forgot_is_shown_what_was_last_sent() -> None:
    """After a restart every node is there again, with the quality its age deserves; messages are not repeated."""
    consumer = Consumer()
    consumer.up.set()
    shown = [_due(1, "old", at=1), _due(2, "new", at=times.now()), _due(3, "message")]
    async with _running(consumer, shown=shown, max_age_s=60) as (outlet, _):
        await wait_for(lambda: outlet.ready and len(consumer.taken) >= 2)
        status = {one.key: one.nodes[0].status for one in consumer.taken}
        assert status == {"old": Status.BAD_NO_COMMUNICATION, "new": Status.GOOD}
        assert outlet.drain_sent() == []
