"""A journal that the disk has damaged, in a gateway: it goes on, says what is gone, and balances."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kombu.connection import Connection
from sqlalchemy import delete, select, update

from app.db import reading, writing
from app.journal.damage import DAMAGED, MISSING
from app.journal.frames import OVERHEAD, Position, record_payload
from app.journal.segment import totals_frame
from app.ledger.service import Account, accounts
from app.ledger.tables import GapRow, LedgerRow
from app.messages import Message
from app.queue import CONTENT_TYPE, Door
from app.readings.tables import AppliedRow, BatchRow, WatermarkRow
from app.scoring.service import apply
from app.settings import Settings
from tests.app.field.doubles import SECOND
from tests.app.field.test_gateway import QUEUE, Plant, running
from tests.app.field.test_gateway import Worker as SmallWorker
from tests.waiting import wait_for

LOST = 3
"""The batch that damage takes."""


class Worker(SmallWorker):
    """Stores as the real one does, but for the answers: a window that comes twice is no error."""

    def apply(self, message: Message) -> None:
        """Once."""
        if apply(self.engine, message, []):
            self.messages.append(message)


def _waiting(url: str) -> list[Message]:
    """Takes what waits for a worker."""
    found = []
    with Connection(url) as connection:  # type: ignore[no-untyped-call]
        queue = connection.SimpleQueue(QUEUE)
        queue.consumer.accept = {CONTENT_TYPE}
        for _ in range(queue.qsize()):
            taken = queue.get(timeout=1)
            found.append(msgspec.msgpack.decode(taken.payload[0][0], type=Message))
            taken.ack()
        queue.close()
    return found


def _spoil(tmp_path: Path, message: Message) -> None:
    """Change one byte of that record on the disk."""
    (path,) = (tmp_path / "journal" / "gateway-1").glob("*.hrj")
    content = path.read_bytes()
    at = content.index(record_payload(message.record)) + 5
    path.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])


async def _goes_on(
    plant: Plant, redis: str, chosen: Settings, worker: Worker, batches: int, account: tuple[int, int, int, int]
) -> Account:
    """A gateway over what is there now, until it stands as it should; the balanced account."""
    async with running(plant, redis, chosen) as gateway:
        plant.feed(batches)
        await wait_for(lambda: plant.account() == account, 20)
        await wait_for(lambda: gateway.dispatcher.safe() == gateway.journal.head, 20)
    worker.stop.set()
    await asyncio.to_thread(worker.join)
    (found,) = accounts(plant.engine)
    assert found.balanced
    return found


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: what the database decides is tried on both where it is decided."""
    return f"sqlite:///{tmp_path / 'headrace.db'}"


@pytest.mark.parametrize("early", [(), (4, 5), (1, 2, 4)])
async def test_a_damaged_record_costs_its_readings_and_nothing_else(
    plant: Plant, redis: str, tmp_path: Path, database_url: str, early: tuple[int, ...]
) -> None:
    """It is counted and told as a gap; every window has its number and one answer, whatever was applied before."""
    chosen = Settings(data_dir=tmp_path, database_url=database_url)
    door = Door(redis)
    async with running(plant, redis, chosen):
        plant.feed(8)
        await wait_for(lambda: plant.account()[0] == 16 and door.waiting(QUEUE) >= 8, 20)
    of_batch = {
        (one.record.received_time - plant.start) // SECOND: one
        for one in await asyncio.to_thread(_waiting, redis) if one.record.count
    }  # fmt: skip
    worker = Worker(redis, plant.engine)
    for number in early:
        worker.apply(of_batch[number])
    _spoil(tmp_path, of_batch[LOST])
    worker.start()
    door.close()
    found = await _goes_on(plant, redis, chosen, worker, 4, (24, 22, 0, 0))
    assert found.reasons == {("dropped", DAMAGED): 2}
    with reading(plant.engine) as session:
        gaps = [(gap.cause, gap.since, gap.until) for gap in session.scalars(select(GapRow))]
    assert gaps == [(DAMAGED, *(plant.start + n * SECOND for n in (LOST - 1, LOST + 1)))]
    numbers, refused = set(), set()
    for block in (one for message in worker.messages for one in message.windows):
        sequence = np.frombuffer(block.sequence, "<i8").tolist()
        numbers |= set(sequence)
        refused |= {why.split(":")[0] for _, why in block.refused}
    assert numbers == set(range(1, max(numbers) + 1))
    assert len(numbers) >= 9
    assert refused <= {"gap"}
    assert refused or 4 in early


async def test_files_that_are_gone_hold_nothing_up(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """The oldest file with records that the database has not was removed: they are counted, and the rest goes on."""
    chosen = Settings(data_dir=tmp_path, database_url=database_url, in_flight_batches=4)
    async with running(plant, redis, chosen):
        plant.feed(3)
        await wait_for(lambda: plant.account()[0] == 6, 20)
    folder = tmp_path / "journal" / "gateway-1"
    (oldest,) = folder.glob("*.hrj")
    content = oldest.read_bytes()
    messages = [one for one in await asyncio.to_thread(_waiting, redis) if one.record.count]
    at = content.index(record_payload(messages[1].record)) - OVERHEAD
    head = totals_frame(Position(1, messages[1].number), {1: 2})
    oldest.unlink()
    (folder / "00000001-00000002.hrj").write_bytes(head + content[at:])
    worker = Worker(redis, plant.engine)
    worker.start()
    found = await _goes_on(plant, redis, chosen, worker, 3, (12, 10, 0, 0))
    assert found.reasons == {("dropped", MISSING): 2}
    with reading(plant.engine) as session:
        gaps = [(gap.cause, gap.until) for gap in session.scalars(select(GapRow))]
    assert gaps == [(MISSING, plant.start + 2 * SECOND)]


async def test_a_database_that_is_an_older_one_holds_nothing_up(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """What the journal had let go of since is counted as missing; what it still has is stored, once."""
    chosen = Settings(data_dir=tmp_path, database_url=database_url)
    worker = Worker(redis, plant.engine)
    worker.start()
    async with running(plant, redis, chosen) as gateway:
        plant.feed(4)
        await wait_for(lambda: plant.account() == (8, 8, 0, 0), 20)
        await wait_for(lambda: gateway.dispatcher.safe() == gateway.journal.head, 20)
    with writing(plant.engine) as session:
        for row in (BatchRow, AppliedRow, LedgerRow):
            session.execute(delete(row))
        session.execute(update(WatermarkRow).values(number=1))
    (oldest,) = (tmp_path / "journal" / "gateway-1").glob("*.hrj")
    content = oldest.read_bytes()
    last = [one for one in worker.messages if one.record.count][-1]
    at = content.index(record_payload(last.record)) - OVERHEAD
    oldest.write_bytes(totals_frame(Position(1, last.number), {1: 6}) + content[at:])
    found = await _goes_on(plant, redis, chosen, worker, 2, (12, 6, 0, 0))
    assert found.reasons == {("dropped", MISSING): 6}
