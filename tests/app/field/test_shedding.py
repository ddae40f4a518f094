"""The loss policy in a gateway: the field is never held up, and every reading is stored or counted as dropped."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kombu.connection import Connection
from pydantic import ValidationError
from sqlalchemy import select

from app.db import reading, writing
from app.gateway import Gateway
from app.ledger.service import Account, accounts
from app.ledger.tables import GapRow
from app.messages import Message
from app.queue import CONTENT_TYPE, Door
from app.scoring.service import apply
from app.settings import Settings
from app.sources.tables import ConnectionRow
from tests.app.field.doubles import SECOND, Peer, batch
from tests.app.field.test_gateway import QUEUE, Plant, running
from tests.app.field.test_gateway import Worker as SmallWorker
from tests.waiting import wait_for

READINGS = 20_000
BYTES = 8 * READINGS
"""A batch takes at least so much room: random numbers do not compress."""
MB = 2**20


class Worker(SmallWorker):
    """Takes large messages too, which wait beside the queue."""

    def run(self) -> None:
        """Until stopped."""
        door = Door(self.url)
        with Connection(self.url) as connection:  # type: ignore[no-untyped-call]
            queue = connection.SimpleQueue(QUEUE)
            queue.consumer.accept = {CONTENT_TYPE}
            while not self.stop.is_set():
                try:
                    taken = queue.get(timeout=0.1)
                except queue.Empty:
                    continue
                body, *name = taken.payload[0]
                if found := door.fetch(name[0]) if name else body:
                    self.apply(msgspec.msgpack.decode(found, type=Message))
                taken.ack()
            queue.close()
        door.close()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: what the database decides is tried on both where it is decided."""
    return f"sqlite:///{tmp_path / 'headrace.db'}"


def _settings(tmp_path: Path, database_url: str, **more: object) -> Settings:
    given = {"journal_when_full": "drop_oldest", "journal_budget_mb": 16, "in_flight_batches": 8, **more}
    return Settings(data_dir=tmp_path, database_url=database_url, **given)  # type: ignore[arg-type]


def _feed(plant: Plant, size: int) -> None:
    """Batches of this many bytes together, one a second: tags 1 and 2, and many that nobody computes with."""
    random = np.random.default_rng(plant.sent)
    for _ in range(size // BYTES):
        plant.sent += 1
        values = [plant.sent, -plant.sent, *random.random(READINGS - 2).tolist()]
        plant.peer.inbox.put_nowait(batch(range(1, READINGS + 1), values, at=plant.start + plant.sent * SECOND))


def _account(plant: Plant) -> Account | None:
    found = accounts(plant.engine)
    return found[0] if found else None


def _settled(plant: Plant, batches: int) -> Account | None:
    """The account, once nothing is held."""
    found = _account(plant)
    return found if found and found.read == batches * READINGS and not found.held else None


async def _apply_all(plant: Plant, redis: str, gateway: Gateway) -> tuple[Worker, Account]:
    """Until nothing waits for anything: all that was read has its fate, and the watermark has passed it."""
    worker = Worker(redis, plant.engine)
    worker.start()
    try:
        found = await wait_for(lambda: _settled(plant, plant.sent), 30)
        assert found is not None
        head = gateway.journal.head
        await wait_for(lambda: gateway.dispatcher.safe() >= head, 30)
    finally:
        worker.stop.set()
        await asyncio.to_thread(worker.join)
    return worker, found


async def test_a_full_journal_drops_what_was_not_sent(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """No worker for longer than the budget lasts: all is acknowledged, and what was dropped is a figure and a gap."""
    async with running(plant, redis, _settings(tmp_path, database_url)) as gateway:
        _feed(plant, 24 * MB)
        await wait_for(lambda: plant.peer.inbox.empty() and gateway.journal.head.number >= plant.sent, 30)
        await wait_for(lambda: gateway.shedding.reason == "journal_full", 10)
        assert gateway.journal.state.bytes <= 16 * MB
        assert gateway.journal.state.state == "running"
        await wait_for(lambda: (found := _account(plant)) and found.read == plant.sent * READINGS, 20)
        worker, found = await _apply_all(plant, redis, gateway)
        assert found.balanced
        assert found.dropped == gateway.journal.dropped_readings == found.reasons["dropped", "journal_full"]
        assert 8 * MB < found.dropped * 8 < 20 * MB
        await wait_for(lambda: not gateway.shedding.reason, 10)
    with reading(plant.engine) as session:
        gaps = [(one.since, one.until, one.cause) for one in session.scalars(select(GapRow))]
    assert {cause for _, _, cause in gaps} == {"journal_full"}
    stored = {message.record.received_time for message in worker.messages}
    assert not [at for at in stored if any(since <= at <= until for since, until, _ in gaps)]
    assert sum((until - since) // SECOND + 1 for since, until, _ in gaps) == found.dropped // READINGS
    sequences, refused = [], []
    for block in (one for message in worker.messages for one in message.windows):
        sequences += np.frombuffer(block.sequence, "<i8").tolist()
        refused += [why for _, why in block.refused]
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(sequences) >= plant.sent - 3
    assert len(refused) >= found.dropped // READINGS
    assert {why.split(":")[0] for why in refused} == {"gap"}


async def test_a_restart_in_the_middle_counts_nothing_twice(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """Two processes drop, of their own records and of each other's; the sums are those of one."""
    chosen = _settings(tmp_path, database_url)
    dropped = 0
    for _ in range(2):
        async with running(plant, redis, chosen) as gateway:
            _feed(plant, 18 * MB)
            await wait_for(lambda: plant.peer.inbox.empty() and gateway.journal.head.number >= plant.sent // 2, 30)
            await wait_for(lambda: bool(gateway.shedding.reason), 10)
            dropped += gateway.journal.dropped_readings
            del gateway
    async with running(plant, redis, chosen) as gateway:
        await wait_for(lambda: bool(gateway.dispatcher.busy()), 20)
        worker, found = await _apply_all(plant, redis, gateway)
    assert found.balanced
    assert found.dropped >= dropped
    # A tick of the clock is a record too, without readings.
    batches = {message.record.received_time for message in worker.messages if message.record.count}
    assert len(batches) * READINGS == found.stored
    assert found.stored + found.dropped == plant.sent * READINGS


def _has(gateway: Gateway, records: int) -> bool:
    return gateway.journal.head.number >= records


class Applying(Worker):
    """Applies with the service's own transaction, windows left aside: what became of readings is what is looked at."""

    def apply(self, message: Message) -> None:
        """Once."""
        if apply(self.engine, message, []):
            self.messages.append(message)


async def test_what_matters_least_goes_first(plant: Plant, redis: str, tmp_path: Path, database_url: str) -> None:
    """A full journal drops readings of the connection with the low priority and keeps those of the other one."""
    vital = plant.plug.sources["second"]
    assert isinstance(vital, Peer)
    with writing(plant.engine) as session:
        session.get_one(ConnectionRow, 1).priority = "low"
        session.add(ConnectionRow(name="second", connector="plug", options={}, priority="high"))
    chosen = _settings(tmp_path, database_url, journal_when_full="drop_by_priority")
    async with running(plant, redis, chosen) as gateway:
        for part in range(1, 11):
            _feed(plant, 2 * MB)
            taken = 1 + plant.sent + 5 * (part - 1)
            await wait_for(partial(_has, gateway, taken), 30)
            for number in range(5):
                vital.inbox.put_nowait(batch((9,), (float(part),), at=plant.start + plant.sent * SECOND + number))
            await wait_for(vital.inbox.empty, 30)
        await wait_for(lambda: gateway.shedding.reason == "journal_full", 10)
        await wait_for(lambda: not gateway.journal.crowded, 10)
        assert gateway.journal.state.state == "running"
        worker = Applying(redis, plant.engine)
        worker.start()
        try:
            head = gateway.journal.head
            await wait_for(lambda: gateway.dispatcher.safe() >= head, 60)
            counted = [(plant.sent * READINGS, 0), (50, 0)]
            await wait_for(lambda: [(one.read, one.held) for one in accounts(plant.engine)] == counted, 20)
        finally:
            worker.stop.set()
            await asyncio.to_thread(worker.join)
        low, high = accounts(plant.engine)
        assert (low.balanced, high.balanced) == (True, True)
        assert (high.stored, high.dropped) == (50, 0)
        assert low.dropped == gateway.journal.dropped_readings > 3 * MB // 8
        assert low.reasons["dropped", "journal_full"] == low.dropped
    with reading(plant.engine) as session:
        gaps = [(one.connection_id, one.since, one.until, one.cause) for one in session.scalars(select(GapRow))]
    assert {(connection, cause) for connection, _, _, cause in gaps} == {(1, "journal_full")}
    kept = {message.record.received_time for message in worker.messages if message.record.connection == 1
            and message.record.count}  # fmt: skip
    assert not [at for at in kept if any(since < at < until for _, since, until, _ in gaps)]
    gone = [m.record for m in worker.messages if m.record.dropped]
    assert all(any(since <= one.received_time <= until for _, since, until, _ in gaps) for one in gone)
    blocks = [one for message in worker.messages for one in message.windows]
    sequences = [number for one in blocks for number in np.frombuffer(one.sequence, "<i8").tolist()]
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(sequences) >= plant.sent - 3
    refused = [why for one in blocks for _, why in one.refused]
    assert len(refused) >= len(gone)
    assert {why.split(":")[0] for why in refused} == {"gap"}


async def test_what_waits_too_long_is_dropped(plant: Plant, redis: str, tmp_path: Path, database_url: str) -> None:
    """An age bound drops though there is room, and says so as its own reason."""
    plant.start -= 7200 * SECOND
    async with running(plant, redis, _settings(tmp_path, database_url, journal_max_age_h=1)) as gateway:
        _feed(plant, 12 * MB)
        await wait_for(lambda: plant.peer.inbox.empty() and gateway.shedding.reason == "journal_age", 20)
        _, found = await _apply_all(plant, redis, gateway)
        assert found.balanced
        assert found.reasons["dropped", "journal_age"] == found.dropped > 0


async def test_stopping_is_what_happens_unless_told_otherwise(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """By default the field waits, and nothing is dropped."""
    chosen = _settings(tmp_path, database_url, journal_when_full="stop")
    assert Settings().journal_when_full == "stop"
    async with running(plant, redis, chosen) as gateway:
        _feed(plant, 20 * MB)
        await wait_for(lambda: gateway.journal.state.state == "stopped", 20)
        await gateway.shedding.look()
        assert not plant.peer.inbox.empty()
        assert gateway.journal.dropped_readings == 0
        assert not gateway.journal.dropped()


def test_an_age_without_a_policy_is_refused() -> None:
    """It would drop readings where stopping was asked for."""
    with pytest.raises(ValidationError, match="journal_when_full"):
        Settings(journal_max_age_h=1)


