"""What an operator tends: told once a day, waited for when a peer refused, and never asked of who tends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from app.field.outlet import Outlet
from app.field.runner import Runner, Standing
from app.field.tending import AGAIN_S, Tending
from app.journal import Journal
from app.log import (
    CONNECTION_NOTE,
    CONNECTION_REFUSED,
    CONNECTION_UP,
    SUBSCRIPTION_BACK,
    SUBSCRIPTION_NOTE,
    SUBSCRIPTION_REFUSED,
)
from app.northbound.service import Subscription
from app.sources.service import Connection
from connectors import ConnectionConfig, NotConnectedError, RefusedError
from tests.app.field.doubles import Consumer, Peer, Plug, batch
from tests.waiting import wait_for

ENDS = "our own certificate ends on 2027-01-01"


@dataclass
class Tended(Peer):
    """A peer whose certificate is in the test's hand."""

    notes: tuple[str, ...] = ()
    refusal: Exception | None = None
    looks: int = 0
    asked: int = 0
    good: Callable[[], bool] = field(default=lambda: False)

    def tend(self) -> tuple[str, ...]:
        """See `connectors.Tended`."""
        self.looks += 1
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        return self.notes

    def mended(self) -> bool:
        """See `connectors.Tended`."""
        self.asked += 1
        return self.good()


async def test_told_once_a_day() -> None:
    """A note is told when it is new, and again a day later; what is no longer so is forgotten."""
    told: list[str] = []
    now = [0.0]
    peer = Tended(notes=(ENDS,))
    tending = Tending(peer, told.append, look_s=1.0, clock=lambda: now[0])
    for now[0] in (0.0, 0.5, 1.0, 2.0, AGAIN_S - 1):
        await tending.look()
    assert (told, peer.looks, tending.notes) == ([ENDS], 4, (ENDS,))
    now[0] = AGAIN_S
    await tending.look()
    assert told == [ENDS, ENDS]
    peer.notes = ()
    now[0] += 1
    await tending.look()
    assert tending.notes == ()
    peer.notes = (ENDS,)
    now[0] += 1
    await tending.look()
    assert told == [ENDS, ENDS, ENDS]


async def test_who_tends_nothing() -> None:
    """A connector without certificates is not asked, and after a refusal not waited for."""
    tending = Tending(Peer(), print)
    await tending.look()
    assert tending.notes == ()
    assert await tending.mended() is False


async def test_a_refused_connection_goes_on_when_it_is_mended(tmp_path: Path) -> None:
    """One line when it is refused, however often the peer is tried; then it is up, without another configuration."""
    mended = asyncio.Event()
    peer = Tended(refusals=[RefusedError("not trusted"), RefusedError("not trusted")], good=lambda: peer.connects < 2)
    journal = Journal(tmp_path / "journal", "test", commit_interval_s=0.001, budget=64 * 2**20)
    standing = Standing("line")
    connection = Connection(1, "plug", ConnectionConfig("line", {}, (), 1, ""))
    load = Plug(sources={"line": peer}).load
    runner = Runner(connection, journal.append, standing, lambda *_: None, load=load, cap_s=0.01)
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(runner.run())
        try:
            await wait_for(lambda: peer.connects == 2 and peer.asked >= 2)
            assert (standing.state, standing.error, peer.closes > 0) == ("refused", "not trusted", True)
            assert not task.done()
            peer.notes, peer.good = (ENDS,), mended.is_set
            mended.set()
            await wait_for(lambda: standing.state == "connected" and standing.notes == (ENDS,))
            peer.refusal = NotConnectedError("our own certificate was switched")
            peer.notes = ()
            await wait_for(lambda: _nudged(peer) and peer.connects == 4 and standing.state == "connected")
            assert standing.notes == ()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await asyncio.to_thread(journal.close)
    events = [one["event"] for one in logs if one["log_level"] != "debug"]
    assert events[:3] == [CONNECTION_REFUSED, CONNECTION_UP, CONNECTION_NOTE]
    assert events.count(CONNECTION_REFUSED) == 1


@dataclass
class TendedConsumer(Consumer):
    """A consumer whose certificate is in the test's hand."""

    refuses: bool = True
    notes: tuple[str, ...] = (ENDS,)

    async def connect(self) -> None:
        """See `Sink`."""
        await super().connect()
        if self.refuses:
            message = "our own certificate has ended"
            raise RefusedError(message)

    def tend(self) -> tuple[str, ...]:
        """See `connectors.Tended`."""
        return self.notes

    def mended(self) -> bool:
        """See `connectors.Tended`."""
        return not self.refuses


async def test_a_refused_subscription_goes_on_when_it_is_mended() -> None:
    """The same northbound: refused once, then up, and its notes are in the log."""
    consumer = TendedConsumer()
    consumer.up.set()
    load = Plug(sinks={"mes": consumer}).load
    mes = Subscription(1, "mes", "plug", {}, "", 1)
    outlet = Outlet(mes, str(Path()), lambda _: None, lambda: None, load=load, cap_s=0.01)
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(outlet.run([]))
        try:
            await wait_for(lambda: outlet.state == "refused")
            consumer.refuses = False
            await wait_for(lambda: outlet.ready)
            await wait_for(lambda: len(logs) >= 3)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert [one["event"] for one in logs] == [SUBSCRIPTION_REFUSED, SUBSCRIPTION_BACK, SUBSCRIPTION_NOTE]


def _nudged(peer: Tended) -> bool:
    """Let the runner come by: it looks after the peer between two batches."""
    if peer.inbox.empty():
        peer.inbox.put_nowait(batch((), ()))
    return True
