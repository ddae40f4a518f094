"""One connection's life, with a peer in the test's hand and a real journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from app.field.runner import EDGE_NS, Runner, Standing
from app.journal import Journal, JournalError, Position
from app.log import (
    CONNECTION_BACK,
    CONNECTION_FAILED,
    CONNECTION_GAP,
    CONNECTION_LOST,
    CONNECTION_REFUSED,
    CONNECTION_UP,
)
from app.sources.service import Connection
from connectors import Batch, ConnectionConfig, ConnectorError, EndOfInput, NotConnectedError, Refusal, RefusedError
from tests.app.field.doubles import Peer, Plug, batch
from tests.waiting import wait_for


@asynccontextmanager
async def _running(
    peer: Peer, journal: Journal, *, connector: str = "plug", problem: str = "", alive: int = 0
) -> AsyncIterator[tuple[Standing, asyncio.Task[None]]]:
    config = ConnectionConfig("line", {}, (), 1, "")
    standing = Standing("line")
    runner = Runner(
        Connection(1, connector, config, problem),
        journal.append,
        standing,
        lambda *_: None,
        load=Plug(sources={"line": peer}).load,
        cap_s=0.01,
        alive=lambda connection: alive * connection,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield standing, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, JournalError):
            await task


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Closed afterwards."""
    made = Journal(tmp_path / "journal", "test", commit_interval_s=0.001, budget=64 * 2**20)
    yield made
    await asyncio.to_thread(made.close)


async def test_a_batch_is_acknowledged_when_it_is_durable_and_not_before(journal: Journal) -> None:
    """At the moment of the acknowledgement the journal holds the record."""
    peer, heads = Peer(), asyncio.Queue[Position]()

    async def ack() -> None:
        heads.put_nowait(journal.head)

    async with _running(peer, journal) as (standing, _):
        for number in (1, 2, 3):
            peer.inbox.put_nowait(batch((1, 2), (1.0, 2.0), ack=ack))
            assert await asyncio.wait_for(heads.get(), 5) == Position(1, number)
        assert (standing.state, standing.readings) == ("connected", 6)
    assert peer.closes == 1
    assert standing.state == "stopped"


async def test_refused_readings_are_journaled_and_acknowledged(journal: Journal) -> None:
    """What could not be taken is safe with us as well: it is in the record, counted as read."""
    peer, acked = Peer(), asyncio.Event()

    async def ack() -> None:
        acked.set()

    refusal = Refusal("topic", "broken_json", "write JSON", b"{", readings=2)
    async with _running(peer, journal) as (standing, _):
        peer.inbox.put_nowait(batch((), (), refused=(refusal,), ack=ack))
        await asyncio.wait_for(acked.wait(), 5)
        assert standing.readings == 2
    record = journal.read_after(Position(1, 0))[0].record
    assert record is not None
    assert record.refused[0].reason == "broken_json"


async def test_what_comes_again_after_an_outage_is_journaled_once(journal: Journal) -> None:
    """A peer that did not hear our acknowledgement sends a batch again: acknowledged again, written once."""
    peer, acks = Peer(), asyncio.Queue[int]()

    async def ack() -> None:
        acks.put_nowait(1)

    now = time.time_ns()
    async with _running(peer, journal) as (standing, _):
        for sent in (batch(at=now, ack=ack), NotConnectedError("lost"), batch(at=now, ack=ack)):
            peer.inbox.put_nowait(sent)
        await wait_for(lambda: acks.qsize() == 2)
        peer.inbox.put_nowait(batch(at=now + 1, ack=ack))
        await wait_for(lambda: acks.qsize() == 3)
        assert standing.readings == 2
    records = [one.record for one in journal.read_after(Position(journal.epoch, 0)) if one.record is not None]
    assert [one.count for one in records if one.count] == [1, 1]


async def _gaps(journal: Journal, sent: list[Batch | ConnectorError], *, alive: int = 0) -> list[int]:
    """Since when each record says that changes may be missing."""
    peer, acks = Peer(), asyncio.Queue[int]()

    async def ack() -> None:
        acks.put_nowait(1)

    async with _running(peer, journal, alive=alive):
        for one in sent:
            peer.inbox.put_nowait(replace(one, ack=ack) if isinstance(one, Batch) else one)
        await wait_for(lambda: acks.qsize() == sum(isinstance(one, Batch) for one in sent))
    records = [one.record for one in journal.read_after(Position(journal.epoch, 0))]
    return [one.gap_since for one in records if one is not None]


async def test_a_gap_is_recorded_where_a_connection_could_not_take_up(journal: Journal) -> None:
    """From just before the last sign of life; not at the first connection ever, nor where the peer kept what came."""
    now, second = time.time_ns(), 10**9
    sent: list[Batch | ConnectorError] = [
        batch(at=now, continues=False),
        batch(at=now + second),
        NotConnectedError("lost"),
        batch((), (), at=now + 5 * second, continues=False),
        batch(at=now + 6 * second),
        NotConnectedError("lost"),
        batch(at=now + 9 * second),
    ]
    with structlog.testing.capture_logs() as logs:
        assert await _gaps(journal, sent) == [0, 0, now + second - EDGE_NS, 0, 0]
    (line,) = [one for one in logs if one["event"] == CONNECTION_GAP]
    assert (line["connection"], line["seconds"]) == ("line", 5.0)


async def test_what_was_alive_before_a_restart_counts(journal: Journal) -> None:
    """A gateway that starts knows from its snapshot until when a connection was alive."""
    now = time.time_ns()
    assert await _gaps(journal, [batch(at=now, continues=False)], alive=now - 7) == [now - 7 - EDGE_NS]


async def test_a_connection_that_is_made_anew_at_once_has_no_gap(journal: Journal) -> None:
    """What begins no later than the last sign of life misses nothing."""
    now = time.time_ns()
    assert await _gaps(journal, [batch(at=now, continues=False)], alive=now) == [0]


async def test_an_outage_costs_a_reconnect_and_two_lines(journal: Journal) -> None:
    """Lost is said once and back is said once, however many tries lie between."""
    peer = Peer()
    with structlog.testing.capture_logs() as logs:
        async with _running(peer, journal) as (standing, _):
            await wait_for(lambda: standing.state == "connected")
            peer.refusals = [NotConnectedError("nobody listens") for _ in range(3)]
            peer.inbox.put_nowait(NotConnectedError("reset by peer"))
            await wait_for(lambda: peer.connects == 5 and standing.state == "connected")
            peer.inbox.put_nowait(batch())
            await asyncio.wait_for(journal.grown_beyond(Position(1, 0)), 5)
            assert (standing.error, standing.reconnects) == ("", 4)
    events = [one["event"] for one in logs if one["log_level"] != "debug"]
    assert events == [CONNECTION_UP, CONNECTION_LOST, CONNECTION_BACK]


async def test_a_peer_that_refuses_is_left_alone(journal: Journal) -> None:
    """Wrong credentials are not tried again: the operator is told and the runner ends."""
    peer = Peer(refusals=[RefusedError("bad password")])
    with structlog.testing.capture_logs() as logs:
        async with _running(peer, journal) as (standing, task):
            await asyncio.wait_for(task, 5)
            assert (standing.state, standing.error, peer.connects) == ("refused", "bad password", 1)
    assert [one["event"] for one in logs if one["log_level"] == "error"] == [CONNECTION_REFUSED]


@pytest.mark.parametrize(
    ("connector", "problem", "said"),
    [("absent", "", "no connector"), ("plug", "a secret cannot be opened", "a secret cannot be opened")],
)
async def test_what_cannot_be_run_is_refused(journal: Journal, connector: str, problem: str, said: str) -> None:
    """A connection without a connector, or whose secret is lost, says so where the operator looks."""
    peer = Peer()
    async with _running(peer, journal, connector=connector, problem=problem) as (standing, task):
        await asyncio.wait_for(task, 5)
        assert standing.state == "refused"
        assert said in standing.error
    assert peer.connects == 0


async def test_the_end_of_a_recording_is_no_complaint(journal: Journal) -> None:
    """A source that has no more says so and ends."""
    peer = Peer()
    peer.inbox.put_nowait(batch())
    peer.inbox.put_nowait(EndOfInput())
    async with _running(peer, journal) as (standing, task):
        await asyncio.wait_for(task, 5)
        assert (standing.state, standing.error, standing.readings) == ("ended", "", 1)


async def test_a_fault_of_a_connector_is_told_with_its_traceback_and_tried_again(journal: Journal) -> None:
    """A bug in one connector is logged once, and the connection comes back."""
    peer = Peer(refusals=[ZeroDivisionError("bug"), ZeroDivisionError("bug")])
    with structlog.testing.capture_logs() as logs:
        async with _running(peer, journal) as (standing, _):
            await wait_for(lambda: standing.state == "connected")
    told = [one for one in logs if one["event"] == CONNECTION_FAILED]
    assert len(told) == 1
    assert told[0]["exc_info"]


async def test_an_acknowledgement_that_comes_too_late_is_a_lost_connection(journal: Journal) -> None:
    """The record stays; the peer sends again, and the connection is made anew."""
    peer = Peer()

    async def ack() -> None:
        message = "the connection has ended"
        raise NotConnectedError(message)

    async with _running(peer, journal) as (standing, _):
        peer.inbox.put_nowait(batch(ack=ack))
        await wait_for(lambda: peer.connects == 2 and standing.state == "connected")
    assert journal.head == Position(1, 1)


async def test_a_journal_that_is_closed_ends_the_runner(journal: Journal) -> None:
    """Without a journal nothing may be read: it is a fault of the process, not an outage of the peer."""
    peer = Peer()
    async with _running(peer, journal) as (_, task):
        await asyncio.to_thread(journal.close)
        peer.inbox.put_nowait(batch())
        with pytest.raises(JournalError):
            await asyncio.wait_for(task, 5)
