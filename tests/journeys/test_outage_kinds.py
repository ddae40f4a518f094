"""Whatever an OPC UA server does, of either make, it recovers alone, the others go on, and no loss goes unsaid."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from app import times
from app.ledger.service import gaps
from bench.outage_field import CONNECTIONS, HIDDEN, MAKES
from tests.journeys.field import Field
from tests.journeys.history import arrived, stored
from tests.journeys.outages import JUMP_S, Way, cut, delayed, half_closed, invented, stalled, true_time, unsaid
from tests.journeys.test_kills import at_rest
from tests.waiting import wait_for

if TYPE_CHECKING:
    from bench.outage_peers import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

GONE = 0x80340000
"""BadNodeIdUnknown."""


async def server_restarted(server: Server, way: Way) -> None:
    """Session and subscription are gone; the values go on."""
    newest = await server.tell("count")
    await server.stop()
    await way.lost()
    await server.start("--first", newest)


async def plc_restarted(server: Server, way: Way) -> None:
    """Power off and on: its values begin anew."""
    await server.kill()
    await way.lost()
    await server.start()


async def namespaces_reordered(server: Server, way: Way) -> None:
    """After a restart another namespace has the index that ours had."""
    await server.kill()
    await way.lost()
    await server.start("--reordered")


async def out_of_sessions(server: Server, way: Way) -> None:
    """It refuses every session for a while: that is waited for, and is nobody's fault."""
    await server.kill()
    await way.lost()
    await server.start("--full")

    async def told() -> bool:
        said = [one["error"] for one in await way.box.get("/connections") if one["name"] in way.names]
        return all("TooManySessions" in one or "MaxConnections" in one for one in said)

    await wait_for(told, 20, "why it does not connect")
    await way.lost()
    await server.tell("room")


async def node_vanished(server: Server, way: Way) -> None:
    """One node is not there for a while: it is seen Bad, all others go on, and it is found again by itself."""
    (name,), before, losses = way.names, times.now(), way.losses()
    await server.tell("hide", HIDDEN)

    def of_n1(status: int, since: int) -> bool:
        return any(tag == HIDDEN and entry[2] == status for tag, entry in arrived(way.box.engine, name, since))

    await wait_for(partial(of_n1, GONE, before), 30, "the node is seen Bad")
    now = times.now()
    others = {tag for tag, entry in arrived(way.box.engine, name, before) if entry[0] > before and entry[2] == 0}
    await wait_for(
        lambda: {tag for tag, entry in arrived(way.box.engine, name, now) if entry[0] > now} >= others - {HIDDEN}
    )
    await way.meanwhile()
    back = times.now()
    await server.tell("show", HIDDEN)
    await wait_for(partial(of_n1, 0, back), 30, "the node is found again")
    assert way.losses() == losses, "the connection stands all the time"


async def clock_jumped(server: Server, way: Way) -> None:
    """An hour ahead, an hour back, right again: source times are kept as given, and nothing stops."""
    losses = way.losses()
    for ahead in (JUMP_S, -JUMP_S):
        await server.tell("clock", ahead)
        await way.fresh(ahead)
        await way.meanwhile()
    await server.tell("clock", 0)
    assert way.losses() == losses


OF_LINE = (cut, stalled, half_closed, delayed)
OF_SERVER = (
    server_restarted, plc_restarted, namespaces_reordered, out_of_sessions, node_vanished, clock_jumped,
)  # fmt: skip
UNTOLD = ("cut", "stalled", "half_closed", "delayed", "node_vanished", "clock_jumped")
"""Outages after which the server still has everything: no gap."""


@pytest.mark.parametrize("make", MAKES)
async def test_whatever_a_server_does_it_recovers(field: Field, make: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All kinds in a row on one connection; each reading is stored as it was given, or lies in a gap that is told."""
    server, way, report = field.outside.servers[make], field.way(make), field.report(make)
    before = {name: len(gaps(field.box.engine, connection=name)) for name in CONNECTIONS}
    for outage in OF_LINE:
        await report.tried(outage, way)
        await way.reached("connected")
    for of_server in OF_SERVER:
        await report.tried(partial(of_server, server), way, name=of_server.__name__)
    end = times.now() - times.NANOS
    await wait_for(lambda: settled(field, make, end), 60, "what was read is stored")
    with capsys.disabled():
        report.tell()
    assert unsaid(field.box.engine, make, field.outside.whole(make), end) == []
    assert await invented(field.box.engine, make, partial(field.outside.log, make)) == []
    told = gaps(field.box.engine, connection=make)
    for episode in report.episodes:
        there = [gap for gap in told if episode.since < gap.until <= episode.until]
        assert bool(there) == (episode.name not in UNTOLD), episode.name
    jumped = [entry for entries in stored(field.box.engine, make).values() for entry in entries]
    assert {round((entry[0] - true_time(entry)) / times.NANOS) for entry in jumped} == {0, JUMP_S, -JUMP_S}
    after = {name: len(gaps(field.box.engine, connection=name)) for name in before}
    assert {name for name in before if after[name] != before[name]} == {make}, "no other connection was hit"


async def settled(field: Field, name: str, end: int) -> bool:
    """Whether everything up to `end` has gone all its way."""
    newest = max(true_time(entry) for entries in stored(field.box.engine, name).values() for entry in entries)
    return newest > end and await at_rest(field.box)
