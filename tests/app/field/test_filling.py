"""A gap is filled from its peer's past: whole, once, within its allowance; and where it cannot be, it says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from app import tables, times
from app.db import make_engine, reading, writing
from app.field.filling import MOST_TRIES, Filling, Means
from app.field.runner import Runner, Standing
from app.journal import Journal, Position
from app.ledger.service import Gap, gaps
from app.ledger.tables import GapRow, LedgerRow
from app.messages import Message
from app.places import Places
from app.readings.service import counts, history
from app.records import to_record
from app.scoring import service as scoring
from app.sources.service import Connection
from app.sources.tables import ConnectionRow, TagRow
from connectors import Allowance, ConnectionConfig, Source, TagBinding
from tests.app.field.doubles import SECOND, Peer, Plug, batch
from tests.app.field.remembering import Past, Remembering
from tests.waiting import wait_for

MINUTE = 60 * SECOND
PLACE = 5
"""Of the first tag."""


@dataclass
class Site:
    """A journal, a database, and what carries one into the other when it is waited for."""

    journal: Journal
    folder: Path
    slow: bool = False
    """Whether nothing is applied."""

    def __post_init__(self) -> None:
        """One connection with two tags."""
        self.engine = make_engine(f"sqlite:///{self.folder / 'headrace.db'}")
        tables.metadata.create_all(self.engine)
        with writing(self.engine) as session:
            session.add(ConnectionRow(name="line", connector="plug", options={}))
            session.flush()
            for name in ("t1", "t2"):
                session.add(TagRow(name=name, connection_id=1, address=name, datatype="float", options={}))
        self.position = Position(self.journal.epoch, 0)
        self.until = times.now() // SECOND * SECOND
        self.since = self.until - 10 * MINUTE

    async def applied(self, position: Position) -> None:
        """As a worker does, in order."""
        await wait_for(lambda: not self.slow)
        while self.position < position:
            for entry in self.journal.read_after(self.position):
                self.position = entry.position
                if entry.record is not None:
                    scoring.apply(self.engine, Message(1, "test", *entry.position, entry.record, ()), [])

    async def store(self, *tags_values: tuple[int, float], at: int, gap_since: int = 0) -> None:
        """One batch that came by itself."""
        made = batch([t for t, _ in tags_values], [v for _, v in tags_values], at=at)
        await self.applied(await self.journal.append(to_record(1, made, gap_since)))

    def gap(self) -> Gap:
        """The newest one."""
        return gaps(self.engine)[0]

    def values(self, tag: int) -> list[tuple[int, object, bool]]:
        """Time, value and whether it was filled in, of all that is stored."""
        found = history(self.engine, tag, 0, 2**62, 100_000)
        return [(one.time, one.value, one.backfilled) for one in found]

    def stored(self) -> int:
        """All readings."""
        return sum(counts(self.engine).values())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Closed afterwards."""
    journal = Journal(tmp_path / "journal", "test", commit_interval_s=0.001, budget=64 * 2**20)
    made = Site(journal, tmp_path)
    yield made
    made.engine.dispose()
    await asyncio.to_thread(journal.close)


@asynccontextmanager
async def filling(site: Site, source: Source, *, tags: int = 2) -> AsyncIterator[Filling]:
    """As it runs while the source is connected."""
    bindings = tuple(TagBinding(number + 1, "x") for number in range(tags))
    connection = Connection(1, "plug", ConnectionConfig("line", {}, bindings, 1, ""))
    places = {1: Places(np.array([1]), np.array([PLACE]))}
    means = Means(site.engine, site.journal.append, lambda: site.journal.head, site.applied, places=places)
    made = Filling(connection, means, settle_s=0, cap_s=0.01)
    made.begin(source)
    try:
        yield made
    finally:
        await made.end()


async def until_closed(site: Site) -> Gap:
    """The gap once its filling has ended."""
    await wait_for(lambda: site.gap().state != "open", 20)
    return site.gap()


async def began(site: Site) -> Remembering:
    """A peer that remembers a value of both tags every second, around a gap whose edges came by themselves."""
    peer = Remembering()
    seconds = range(site.since - 5 * SECOND, site.until + 5 * SECOND, SECOND)
    peer.past = [(tag, at, float(at // SECOND * tag)) for at in seconds for tag in (1, 2)]
    for at in (site.since - SECOND, site.since):
        await site.store((1, float(at // SECOND)), (2, float(at // SECOND * 2)), at=at)
    await site.store((1, float(site.until // SECOND)), at=site.until, gap_since=site.since)
    return peer


async def test_what_was_missed_is_stored_once_and_marked(site: Site) -> None:
    """Every remembered reading of the gap is there, once, told from those that had come by themselves."""
    peer = await began(site)
    before = site.stored()
    async with filling(site, peer):
        gap = await until_closed(site)
    assert (gap.state, gap.reason, gap.filled_until) == ("filled", "", site.until)
    inside = range(site.since - SECOND, site.until + 2 * SECOND, SECOND)
    found = site.values(1)
    assert [(at, value) for at, value, _ in found] == [(at, float(at // SECOND)) for at in inside]
    came = {site.since - SECOND, site.since, site.until}
    assert {at for at, _, backfilled in found if not backfilled} == came
    assert gap.readings == site.stored() - before == 2 * len(inside) - 5
    with reading(site.engine) as session:
        ledger = {(row.fate, row.place_id): row.readings for row in session.scalars(select(LedgerRow))}
    filled = sum(backfilled for _, _, backfilled in found)
    assert ledger == {("stored", PLACE): filled, ("stored", 0): site.stored() - filled}
    assert all(one.closed for one in peer.pasts)


async def test_slices_grow_while_they_bring_little(site: Site) -> None:
    """A minute, two, four…: spans that touch, from one second before the gap to one after it."""
    peer = await began(site)
    async with filling(site, peer):
        await until_closed(site)
    assert peer.spans[0] == (site.since - SECOND, site.since + MINUTE)
    assert [until - since for since, until in peer.spans[1:3]] == [2 * MINUTE, 4 * MINUTE]
    assert [one[0] for one in peer.spans[1:]] == [one[1] for one in peer.spans[:-1]]
    assert peer.spans[-1][1] == site.until + SECOND


async def test_no_page_is_asked_for_before_the_last_one_is_in_the_database(site: Site) -> None:
    """While nothing is applied, a filling stands after its first slice."""
    peer = await began(site)
    site.slow = True
    async with filling(site, peer):
        await asyncio.sleep(0)
        assert peer.spans == []
        site.slow = False
        await wait_for(lambda: peer.spans)
        site.slow = True
        await wait_for(lambda: site.journal.head > site.position)
        head = site.journal.head
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(peer.spans) == 1
        assert site.journal.head.number - head.number <= 20, "pages of one slice"
        site.slow = False
        await until_closed(site)


async def test_a_filling_that_was_broken_off_goes_on_where_it_was(site: Site) -> None:
    """Another outage in the middle: the slices that are in the database are not asked for again, nothing is doubled."""
    peer = await began(site)
    peer.breaks_after = 40
    async with filling(site, peer):
        await wait_for(lambda: site.gap().filled_until > site.since and peer.breaks_after == 0)
    # What was journaled before it broke off is applied, whether the filling saw that or not.
    await site.applied(site.journal.head)
    left = site.gap()
    assert (left.state, site.since < left.filled_until < site.until) == ("open", True)
    peer.breaks_after, peer.spans = -1, []
    async with filling(site, peer):
        gap = await until_closed(site)
    assert gap.state == "filled"
    assert peer.spans[0][0] == left.filled_until
    assert len(site.values(1)) == len(set(site.values(1))) == (site.until - site.since) // SECOND + 3
    assert site.stored() == 2 * len(site.values(1))


async def test_a_peer_that_breaks_over_its_past_is_left_in_peace(site: Site) -> None:
    """After a few tries in vain the gap is given up, with what the peer said."""
    peer = await began(site)
    peer.breaks_after = 0
    async with filling(site, peer):
        gap = await until_closed(site)
    assert len(peer.pasts) == MOST_TRIES
    assert gap.state == "none"
    assert "cut" in gap.reason


@dataclass
class Faulty(Remembering):
    """Its connector has a fault."""

    def history(self) -> Past:
        """See `connectors.Historical`."""
        message = "a fault"
        raise ZeroDivisionError(message)


async def test_a_fault_in_reading_a_past_is_shown(site: Site) -> None:
    """The operator sees it, the gap stays open, and the next connection fills it."""
    peer = await began(site)
    async with filling(site, Faulty()) as made:
        await wait_for(lambda: bool(made.notes))
        assert "filling_failed" in made.notes[0]
    assert (made.notes, site.gap().state) == ((), "open")
    async with filling(site, peer):
        assert (await until_closed(site)).state == "filled"


async def test_a_protocol_without_a_past_says_so(site: Site) -> None:
    """The gap stays, with the reason."""
    await site.store((1, 1.0), at=site.until, gap_since=site.since)
    async with filling(site, Peer()):
        gap = await until_closed(site)
    assert (gap.state, gap.readings, gap.filled_until) == ("none", 0, 0)
    assert "plug has no history" in gap.reason


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        (lambda peer, _: replace(peer, allowance=None), "none", "switched off"),
        (lambda peer, _: replace(peer, allowance=Allowance(1, 1000)), "none", "backfill_hours"),
        (lambda peer, _: replace(peer, allowance=Allowance(5 * MINUTE, 10**6)), "partly", "backfill_hours"),
        (lambda peer, _: replace(peer, lacking={2: "no right to it"}), "partly", "1 of 2 tags: no right to it"),
        (lambda peer, _: replace(peer, lacking={1: "nothing kept", 2: "nothing kept"}), "none", "nothing kept"),
    ],
)
async def test_what_cannot_be_filled_says_why(
    site: Site, change: Callable[[Remembering, Site], Remembering], state: str, reason: str
) -> None:
    """Switched off, too long ago, or tags without a past."""
    peer = change(await began(site), site)
    if len(peer.lacking) == 2:
        peer.past = []
    async with filling(site, peer):
        gap = await until_closed(site)
    assert gap.state == state
    assert reason in gap.reason


async def test_no_more_is_asked_for_than_allowed(site: Site) -> None:
    """The past is read no faster than so many readings a second."""
    peer = await began(site)
    peer.past = peer.past[:120]
    peer.allowance = Allowance(24 * 3600 * SECOND, 40)
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with filling(site, peer):
        await until_closed(site)
    assert loop.time() - start >= 110 / 40


async def test_gaps_are_filled_one_after_the_other_and_a_new_one_when_it_is_told(site: Site) -> None:
    """The oldest first; one that is found while connected is looked for when the runner says so."""
    peer = await began(site)
    async with filling(site, peer) as running:
        await until_closed(site)
        later = times.now() // SECOND * SECOND + 3 * MINUTE
        await site.store((1, 5.0), at=later, gap_since=later - MINUTE)
        assert site.gap().state == "open"
        running.look()
        await until_closed(site)
    with reading(site.engine) as session:
        assert [row.state for row in session.scalars(select(GapRow).order_by(GapRow.id))] == ["filled", "filled"]


async def test_a_runner_has_its_gaps_filled_while_it_reads(site: Site) -> None:
    """A gap that a batch tells of is filled while the connection goes on, and what is new keeps coming."""
    peer = Remembering(past=[(2, site.since + n * SECOND, float(n)) for n in range(1, 60)])
    config = ConnectionConfig("line", {}, (TagBinding(1, "x"), TagBinding(2, "y")), 1, "")
    connection, standing = Connection(1, "plug", config), Standing("line")
    runner = Runner(
        connection, site.journal.append, standing, lambda *_: None, load=Plug(sources={"line": peer}).load, cap_s=0.01
    )
    means = Means(site.engine, site.journal.append, lambda: site.journal.head, site.applied)
    runner.filling = Filling(connection, means, settle_s=0)
    task = asyncio.create_task(runner.run())
    try:
        peer.inbox.put_nowait(batch((1,), (1.0,), at=site.since))
        peer.inbox.put_nowait(batch((1,), (2.0,), at=site.until, continues=False))
        await wait_for(lambda: len(gaps(site.engine)) == 1 and site.gap().state == "filled", 20)
        peer.inbox.put_nowait(batch((1,), (3.0,), at=site.until + SECOND))
        await wait_for(lambda: standing.readings == 3)
        await site.applied(site.journal.head)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert [value for _, value, _ in site.values(1)] == [1.0, 2.0, 3.0]
    assert [(value, filled) for _, value, filled in site.values(2)] == [(float(n), True) for n in range(1, 60)]
    assert standing.state == "stopped"
