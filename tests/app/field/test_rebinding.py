"""Other tags for a running connection: between two reads, without reconnecting; anew where that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog

from app.field.rebinding import only_tags_differ
from app.field.runner import Runner, Standing
from app.journal import Journal, Position
from app.log import CONNECTION_LOST, CONNECTION_REBOUND, CONNECTION_UP
from app.sources.service import Connection
from connectors import ConnectionConfig, NotConnectedError, Rebindable, TagBinding
from tests.app.field.doubles import Peer, Plug, batch
from tests.waiting import wait_for

CONFIG = ConnectionConfig("line", {"url": "x"}, (TagBinding(1, "a"),), 1, "")
BEFORE = Connection(1, "plug", CONFIG)
AFTER = replace(BEFORE, config=replace(CONFIG, tags=(TagBinding(1, "a"), TagBinding(2, "b")), revision=2))


@dataclass
class Living(Peer):
    """A peer that takes other tags, or does not, as it is told."""

    answers: list[bool | Exception] = field(default_factory=list)
    taken: list[ConnectionConfig] = field(default_factory=list)
    hung: bool = False
    away: bool = False

    async def connect(self) -> None:
        """See `Source`."""
        await super().connect()
        if self.away:
            message = "nobody listens"
            raise NotConnectedError(message)

    async def rebind(self, config: ConnectionConfig) -> bool:
        """See `Rebindable`."""
        self.taken.append(config)
        if self.hung:
            await asyncio.Event().wait()
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Closed afterwards."""
    made = Journal(tmp_path / "journal", "test", commit_interval_s=0.001, budget=64 * 2**20)
    yield made
    await asyncio.to_thread(made.close)


@asynccontextmanager
async def running(peer: Peer, journal: Journal) -> AsyncIterator[tuple[Runner, Standing]]:
    """A runner of this peer."""
    standing = Standing("line")
    load = Plug(sources={"line": peer}).load
    runner = Runner(BEFORE, journal.append, standing, lambda *_: None, load=load, cap_s=0.01)
    task = asyncio.create_task(runner.run())
    try:
        yield runner, standing
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_silent_peer_takes_other_tags_at_once(journal: Journal) -> None:
    """The read that waits for it is given up and begun again: nothing is reconnected, nothing that came is lost."""
    peer = Living()
    assert isinstance(peer, Rebindable)
    with structlog.testing.capture_logs() as logs:
        async with running(peer, journal) as (runner, standing):
            await wait_for(lambda: standing.state == "connected")
            assert await asyncio.wait_for(runner.rebind(AFTER), 5)
            peer.inbox.put_nowait(batch((1, 2), (1.0, 2.0)))
            await asyncio.wait_for(journal.grown_beyond(Position(1, 0)), 5)
            assert await asyncio.wait_for(runner.rebind(BEFORE), 5)
            assert (peer.connects, peer.closes, standing.reconnects) == (1, 0, 0)
    assert peer.taken == [AFTER.config, CONFIG]
    said = [one for one in logs if one["log_level"] != "debug"]
    assert [one["event"] for one in said] == [CONNECTION_UP, CONNECTION_REBOUND, CONNECTION_REBOUND]
    assert (said[1]["revision"], said[1]["tags"]) == (2, 2)


async def test_a_busy_runner_does_it_before_its_next_read(journal: Journal) -> None:
    """While a batch waits for its acknowledgement nothing is interrupted."""
    peer, gate, entered = Living(), asyncio.Event(), asyncio.Event()

    async def ack() -> None:
        entered.set()
        await gate.wait()

    async with running(peer, journal) as (runner, standing):
        peer.inbox.put_nowait(batch(ack=ack))
        await asyncio.wait_for(entered.wait(), 5)
        asked = asyncio.create_task(runner.rebind(AFTER))
        await asyncio.sleep(0)
        assert (peer.taken, asked.done()) == ([], False)
        gate.set()
        assert await asyncio.wait_for(asked, 5)
        assert standing.readings == 1


@pytest.mark.parametrize("answer", [False, ValueError("no such tag"), NotConnectedError("lost in the middle")])
async def test_what_fails_is_for_the_follower_to_make_anew(journal: Journal, answer: bool | Exception) -> None:  # noqa: FBT001 - a parameter of the test
    """A source that will not, or could not, says so to who asked; the runner goes on until it is stopped."""
    peer = Living(answers=[answer])
    with structlog.testing.capture_logs() as logs:
        async with running(peer, journal) as (runner, standing):
            await wait_for(lambda: standing.state == "connected")
            assert not await asyncio.wait_for(runner.rebind(AFTER), 5)
            await wait_for(lambda: standing.state == "connected")
            peer.inbox.put_nowait(batch())
            await asyncio.wait_for(journal.grown_beyond(Position(1, 0)), 5)
    assert (CONNECTION_LOST in [one["event"] for one in logs]) == isinstance(answer, NotConnectedError)


async def test_only_what_stands_is_rebound(journal: Journal) -> None:
    """A source that cannot, or that is being connected, and a connection whose options changed, are made anew."""
    plain = Peer()
    async with running(plain, journal) as (runner, standing):
        await wait_for(lambda: standing.state == "connected")
        assert not await runner.rebind(AFTER)
    away = Living(away=True)
    async with running(away, journal) as (runner, standing):
        await wait_for(lambda: standing.state == "lost")
        assert not await runner.rebind(AFTER)
    peer = Living()
    async with running(peer, journal) as (runner, standing):
        await wait_for(lambda: standing.state == "connected")
        assert not await runner.rebind(replace(AFTER, config=replace(AFTER.config, options={"url": "y"})))
    assert (away.taken, peer.taken) == ([], [])


async def test_who_asked_is_told_when_the_connection_is_lost_or_stopped_meanwhile(journal: Journal) -> None:
    """Nobody waits for the answer of a runner that has ended."""
    peer = Living(hung=True)
    async with running(peer, journal) as (runner, standing):
        await wait_for(lambda: standing.state == "connected")
        asked = asyncio.create_task(runner.rebind(AFTER))
        await wait_for(lambda: peer.taken)
    assert not await asyncio.wait_for(asked, 5)
    assert peer.closes == 1


async def test_who_asked_is_told_though_it_was_not_begun(journal: Journal) -> None:
    """A connection that is lost, or stopped, while its runner is busy with a batch will not take the tags."""
    for ending in (NotConnectedError("lost"), None):
        peer, entered, gate = Living(), asyncio.Event(), asyncio.Event()

        async def ack(entered: asyncio.Event = entered, gate: asyncio.Event = gate) -> None:
            entered.set()
            await gate.wait()
            message = "lost"
            raise NotConnectedError(message)

        async with running(peer, journal) as (runner, _):
            peer.inbox.put_nowait(batch(ack=ack))
            await asyncio.wait_for(entered.wait(), 5)
            asked = asyncio.create_task(runner.rebind(AFTER))
            await asyncio.sleep(0)
            if ending is not None:
                gate.set()
                assert not await asyncio.wait_for(asked, 5)
        assert not await asyncio.wait_for(asked, 5)
        assert peer.taken == []


def test_what_only_tags_differ_means() -> None:
    """Name, options, folder and connector are the same, and nothing is wrong with it."""
    assert only_tags_differ(BEFORE, AFTER)
    for other in (
        replace(AFTER, connector="other"),
        replace(AFTER, problem="a secret cannot be opened"),
        replace(AFTER, config=replace(AFTER.config, name="renamed")),
        replace(AFTER, config=replace(AFTER.config, options={})),
        replace(AFTER, config=replace(AFTER.config, data_dir="/elsewhere")),
    ):
        assert not only_tags_differ(BEFORE, other)
