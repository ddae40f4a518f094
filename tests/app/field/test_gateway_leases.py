"""Two gateways in one process over one database: what is held is run, what is not stands by, and the end gives back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from app import times
from app.db import reading, writing
from app.field.holding import Holding, Wanted
from app.journal import JournalError
from app.leases import service as leases
from app.leases.tables import LeaseRow
from app.settings import Settings
from tests.app.field.doubles import SECOND, batch
from tests.app.field.test_gateway import Plant, _ends, _sequences, _worker, running
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

LEASE_S = 60.0
"""Nothing in these tests waits for it to run out."""


def chosen(folder: Path, database_url: str, name: str, lease_s: float | None = LEASE_S) -> Settings:
    """One of the gateways."""
    return Settings(data_dir=folder / name, database_url=database_url, gateway_id=name, lease_s=lease_s)


def holders(plant: Plant) -> dict[str, str]:
    """Gateway by lease."""
    with reading(plant.engine) as session:
        return {row.name: row.gateway for row in session.scalars(select(LeaseRow))}


async def test_one_runs_the_other_stands_by_and_takes_over_at_the_end(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """The standby connects to nothing; when the holder ends it takes over, and numbers go on."""
    both = {"connection:1", "subscription:1"}
    async with _worker(redis, plant.engine) as worker:
        async with running(plant, redis, chosen(tmp_path, database_url, "one")) as first:
            await wait_for(lambda: holders(plant) == dict.fromkeys(both, "one"), 30)
            plant.feed(5)
            await wait_for(lambda: plant.account() == (10, 10, 0, 0), 30)
            async with running(plant, redis, chosen(tmp_path, database_url, "two")) as second:
                await wait_for(lambda: second.follower.standings and second.holding.settled, 30)
                assert second.follower.standings[1].state == "standby"
                assert second.publisher.outlets == {}
                assert (plant.peer.connects, plant.consumer.connects) == (1, 1)
                shown = {one.name: (one.gateway, one.mine) for one in second.holding.standing()}
                assert shown == {"connection line": ("one", False), "subscription mes": ("one", False)}
                assert all(one.mine for one in first.holding.standing())
        async with running(plant, redis, chosen(tmp_path, database_url, "two")):
            await wait_for(lambda: holders(plant) == dict.fromkeys(both, "two"), 30)
            plant.feed(6)
            await wait_for(lambda: len(_ends(worker)) >= 6, 30)
            assert plant.peer.connects == 2
    terms = {message.term for message in worker.messages if message.record.connection}
    assert terms == {1, 2}
    assert len(set(_ends(worker))) == len(_ends(worker))
    assert _sequences(worker) != []


async def test_a_lease_that_is_past_stops_reading_acknowledging_and_publishing(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """By our own clock, whatever the database says: the batch that was read is neither journaled nor acknowledged."""
    acked = asyncio.Event()

    async def ack() -> None:
        acked.set()

    async with running(plant, redis, chosen(tmp_path, database_url, "one")) as gateway:
        await wait_for(lambda: plant.peer.connects == 1 and plant.consumer.connects == 1, 30)
        assert isinstance(gateway.holding, Holding)
        read = gateway.journal.head
        gateway.holding._deadline = float("-inf")  # noqa: SLF001 - the process stood still for so long
        plant.peer.inbox.put_nowait(batch((1,), (1.0,), at=plant.start, ack=ack))
        await wait_for(lambda: plant.peer.closes >= 1 and plant.consumer.closes >= 1, 30)
        assert not acked.is_set()
        assert not [entry for entry in gateway.journal.read_after(read) if entry.record and entry.record.count]
        await wait_for(lambda: plant.peer.connects == 2 and plant.consumer.connects == 2, 60)
        plant.peer.inbox.put_nowait(batch((1,), (2.0,), at=plant.start + SECOND, ack=ack))
        await asyncio.wait_for(acked.wait(), 30)


async def test_what_another_has_taken_is_let_go(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """The holder finds another's term at its next renewal, and stands by."""
    async with running(plant, redis, chosen(tmp_path, database_url, "one", lease_s=3)) as gateway:
        await wait_for(lambda: plant.peer.connects == 1, 30)
        with writing(plant.engine) as session:
            values = {"holder": "two-x", "gateway": "two", "term": 9, "expires_at": times.now() + 600 * SECOND}
            session.execute(update(LeaseRow).values(values))
        await wait_for(lambda: gateway.follower.standings[1].state == "standby", 30)
        await wait_for(lambda: plant.peer.closes >= 1 and not gateway.publisher.outlets, 30)
        assert gateway.holding.term("connection:1") == 0


async def test_a_gateway_that_knows_no_leases_does_not_run_beside_one_that_does(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """It says what to set instead of reading what another reads."""
    holder = leases.Holder("two-x", "two")
    leases.keep(plant.engine, holder, [("connection:1",)], 600 * SECOND)
    with pytest.raises(JournalError, match="two holds leases in this database: set HEADRACE_LEASE_S"):
        async with running(plant, redis, chosen(tmp_path, database_url, "one", lease_s=None)):
            await wait_for(lambda: plant.peer.connects, 20)


async def test_without_a_database_what_is_held_is_void_in_time(plant: Plant) -> None:
    """Our own clock ends it; nothing is asked of a database that does not answer."""
    holding = Holding(plant.engine, "one-x", "one", 3)
    holding.want(Wanted((("connection:1",),)))
    lapsed = asyncio.Event()

    async def note() -> None:
        lapsed.set()

    holding.on_lapse = note
    await holding.turn()
    assert holding.holds("connection:1")
    holding._deadline = 0.0  # noqa: SLF001 - its time is up
    watching = asyncio.create_task(holding._watch())  # noqa: SLF001 - without the renewals beside it
    await asyncio.wait_for(lapsed.wait(), 10)
    watching.cancel()
    assert (holding.holds("connection:1"), holding.owns("connection:1")) == (False, True)
    changes = holding.changes
    await holding.turn()
    assert holding.holds("connection:1")
    assert holding.changes == changes + 1, "whoever follows starts it again"
