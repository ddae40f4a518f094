"""Two gateways configured for one plant: one reads it, the other takes over, and nothing is lost or doubled."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio
from sqlalchemy import select

from app import times
from app.db import reading
from app.events.tables import EventRow
from app.ledger import service as ledger
from app.scoring.tables import PredictionRow
from app.selftest import box, queries, sums
from tests.databases import empty_database
from tests.journeys.pair import FIRST, HZ, LEASE_S, SECOND, Held, Pair, pair
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(1200), pytest.mark.asyncio(loop_scope="session")]

TRIES_NS: Final = round(LEASE_S / 6 * times.NANOS)
SLOW_NS: Final = 20 * times.NANOS
"""For a machine that has much else to do: what is held here is that it is the lease that is waited for."""
LATE_NS: Final = 3 * times.NANOS


@dataclass(frozen=True)
class Takeover:
    """One of them."""

    way: str
    before: Held
    """The lease as its holder left it."""
    after: Held
    wrote_after: int
    """Batches that the old holder received and stored after its lease was taken."""


@dataclass(frozen=True)
class Story:
    """What became of it all."""

    takeovers: tuple[Takeover, ...]
    accounts: dict[str, sums.Account]
    north: sums.North
    balanced: bool
    events: tuple[tuple[str, str], ...]
    """Rule and state."""
    doubled_windows: tuple[int, ...]
    """Ends of windows that have two answers in time."""
    log: str


async def _taken(two: Pair, way: str, old: str, new: str, before: Held) -> Takeover:
    """Wait for it, and then until the new holder's readings come in."""
    after = await two.owned(new)
    await _flows(two)
    return Takeover(way, before, after, two.received_after(old, after.since))


async def _flows(two: Pair) -> None:
    since = times.now()

    def new() -> bool:
        newest = queries.newest(two.engine)
        readings = all(newest.get(name, 0) > since for name in (box.PROCESS, box.DEVICE))
        return readings and queries.newest_window(two.engine) > since

    await wait_for(new, 150, f"readings and answers come: {two.log(FIRST)}\n{two.log(SECOND)}")


async def _standing_by(two: Pair, gateway: str) -> None:
    """Start it, and wait until it has looked at what others hold."""
    known = len(two.log(gateway))
    await two.start(gateway)
    await wait_for(lambda: "configuration_applied" in two.log(gateway)[known:], 120, f"{gateway} stands by")


async def _still(two: Pair) -> Held:
    """The lease of a holder that renews it no more."""
    seen = two.lease()

    def same() -> bool:
        nonlocal seen
        before, seen = seen, two.lease()
        return before == seen and seen.expires_at < times.now() + round(LEASE_S / 2 * times.NANOS)

    await wait_for(same, 30, "it renews no more")
    return seen


async def _killed(two: Pair) -> Takeover:
    await two.end(FIRST, signal.SIGKILL)
    found = await _taken(two, "killed", FIRST, SECOND, await _still(two))
    await _standing_by(two, FIRST)
    return found


async def _stopped(two: Pair) -> Takeover:
    two.send(SECOND, signal.SIGSTOP)
    before = await _still(two)
    after = await two.owned(FIRST)
    two.send(SECOND, signal.SIGCONT)
    await wait_for(lambda: "leases_lost" in two.log(SECOND), 30, "the resumed one has noticed")
    await _flows(two)
    return Takeover("stopped", before, after, two.received_after(SECOND, after.since))


async def _cut(two: Pair) -> Takeover:
    gate = two.gates[FIRST]
    await gate.cut()
    found = await _taken(two, "cut", FIRST, SECOND, await _still(two))
    await gate.start()
    await wait_for(lambda: "database_back" in two.log(FIRST), 30, "it has its database again")
    return found


async def _handed_over(two: Pair) -> Takeover:
    before = two.lease()
    assert await two.end(SECOND) == 0
    found = await _taken(two, "handed over", SECOND, FIRST, before)
    await two.start(SECOND)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def story(tmp_path_factory: pytest.TempPathFactory, postgres_server_url: str) -> Story:
    """One after the other: killed, stopped, cut off, handed over."""
    folder: Path = tmp_path_factory.mktemp("pair")
    async with AsyncExitStack() as held:
        two = await held.enter_async_context(pair(folder, held.enter_context(empty_database(postgres_server_url))))
        async with box.plant(two.rig, HZ):
            await two.start(FIRST)
            await two.owned(FIRST)
            await _flows(two)
            since = times.now()
            await _standing_by(two, SECOND)
            takeovers = [await step(two) for step in (_killed, _stopped, _cut, _handed_over)]
            await _flows(two)
            until = times.now() - LATE_NS
        await _at_rest(two)
        return _told(two, takeovers, since, until)


async def _at_rest(two: Pair) -> None:
    """All that was read is stored, counted, sent and heard."""
    ended = times.now()

    def rests() -> bool:
        accounts = ledger.accounts(two.engine)
        counted = bool(accounts) and all(one.balanced and not one.held and one.at > ended for one in accounts)
        return counted and not queries.overdue(two.engine, times.now())

    await wait_for(rests, 300, f"it comes to rest: {two.log(FIRST)}\n{two.log(SECOND)}")


def _told(two: Pair, takeovers: list[Takeover], since: int, until: int) -> Story:
    engine, logs = two.engine, two.rig.logs
    sent = {
        box.PROCESS: sums.Sent(_until(sums.read(logs / "server"), until), sums.read(logs / "server")),
        box.DEVICE: sums.Sent(
            _until(sums.read(logs / "device" / "taken"), until),
            [*sums.read(logs / "device" / "offered"), *sums.read(logs / "device" / "taken")],
            sums.read(logs / "device" / "again"),
        ),
    }
    accounts = {}
    for name, of_plant in sent.items():
        spans = [(one.since, one.until) for one in ledger.gaps(engine, connection=name, limit=1000)]
        accounts[name] = sums.account(name, of_plant, queries.stored(engine, name), spans, since=since)
    windows, published = queries.windows(engine, until).values(), queries.published(engine)
    with reading(engine) as session:
        events = tuple((row.rule, row.state) for row in session.execute(select(EventRow.rule, EventRow.state)))
        ends = list(session.scalars(select(PredictionRow.end_time).where(PredictionRow.sequence.is_not(None))))
    return Story(
        tuple(takeovers),
        accounts,
        sums.north(windows, published, sums.heard(logs / "listener")),
        all(one.balanced for one in ledger.accounts(engine)),
        events,
        tuple(sorted({end for end in ends if ends.count(end) > 1})),
        f"{two.log(FIRST)}\n{two.log(SECOND)}",
    )


def _until(readings: list[sums.Reading], at: int) -> list[sums.Reading]:
    return [one for one in readings if one[1] <= at]


async def test_another_takes_over_within_the_time_of_the_lease(story: Story) -> None:
    """Killed, stopped or cut off: the next one has it at its first try after it ran out, in a new term."""
    for one in story.takeovers[:3]:
        assert one.after.term == one.before.term + 1, one
        assert one.before.expires_at <= one.after.since <= one.before.expires_at + TRIES_NS + SLOW_NS, one


async def test_a_planned_switch_waits_for_nothing(story: Story) -> None:
    """A gateway that ends gives its leases back: the next one has them before they would have run out."""
    *_, last = story.takeovers
    assert last.after.term == last.before.term + 1
    assert last.after.gateway == FIRST


async def test_the_old_holder_reads_nothing_more(story: Story) -> None:
    """One that was stopped and goes on finds its lease past before it journals or acknowledges anything."""
    assert [one.wrote_after for one in story.takeovers] == [0, 0, 0, 0]


async def test_nothing_is_lost_or_doubled_across_takeovers(story: Story) -> None:
    """Each reading of the plant's own log is stored once, or lies in a recorded gap; the ledger balances."""
    for one in story.accounts.values():
        assert one.good, (one, story.log)
        assert one.sent > 100
    assert story.balanced


async def test_numbers_go_on_without_a_hole_or_a_double(story: Story) -> None:
    """Windows of all terms count on from one to the next, no window has two answers in time, each is published."""
    assert story.north.windows > 10
    assert story.north.missing == ()
    assert story.doubled_windows == ()
    assert story.north.unheard == ()


async def test_a_takeover_is_an_event_of_the_box(story: Story) -> None:
    """For each connection whose holder let its lease run out; a planned switch is none."""
    taken = [state for rule, state in story.events if rule == "lease_taken_over"]
    assert len(taken) == 6, story.events
    assert set(taken) == {"rtn_unack"}
