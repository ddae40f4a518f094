"""The gateway as a whole, with a field and a consumer in the test's hand, a real Redis and a real database."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from kombu.connection import Connection
from sqlalchemy import Engine, func, select

from app import live, times
from app.db import reading, writing
from app.field.runner import EDGE_NS
from app.gateway import Gateway
from app.journal import Position
from app.ledger.tables import JournalStateRow, LedgerRow
from app.messages import Message
from app.models.tables import ModelRow
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.plant.tables import PlantRevisionRow
from app.queue import CONTENT_TYPE, Door
from app.readings.tables import AppliedRow, BatchRow
from app.settings import Settings
from app.sources.tables import ConnectionRow, TagRow
from connectors import Refusal
from tests.app.field.doubles import SECOND, Consumer, Peer, Plug, batch
from tests.waiting import wait_for

QUEUE = "infer.cpu"


class Worker(threading.Thread):
    """Applies messages as the real one does, but for the model: id first, ledger, one outbox row per window."""

    def __init__(self, url: str, engine: Engine) -> None:
        """Takes from the Redis at this address."""
        super().__init__(daemon=True)
        self.url, self.engine = url, engine
        self.stop = threading.Event()
        self.messages: list[Message] = []

    def run(self) -> None:
        """Until stopped."""
        with Connection(self.url) as connection:  # type: ignore[no-untyped-call]
            queue = connection.SimpleQueue(QUEUE)
            queue.consumer.accept = {CONTENT_TYPE}
            while not self.stop.is_set():
                try:
                    taken = queue.get(timeout=0.1)
                except queue.Empty:
                    continue
                self.apply(msgspec.msgpack.decode(taken.payload[0][0], type=Message))
                taken.ack()
            queue.close()

    def apply(self, message: Message) -> None:
        """In one transaction."""
        key = (message.journal, message.epoch, message.number)
        with writing(self.engine) as session:
            if session.get(AppliedRow, key) or key in {(m.journal, m.epoch, m.number) for m in self.messages}:
                return
            session.add(AppliedRow(journal=key[0], epoch=key[1], number=key[2]))
            record = message.record
            refused = record.readings() - record.count
            for fate, readings in (("stored", record.count), ("refused", refused)):
                if not readings:
                    continue
                row = session.get(LedgerRow, (message.journal, record.connection, 0, fate, ""))
                if row is None:
                    row = LedgerRow(
                        journal=message.journal,
                        connection_id=record.connection,
                        fate=fate,
                        reason="",
                        readings=0,
                        batches=0,
                    )
                    session.add(row)
                row.readings += readings
            for block in message.windows:
                for end in np.frombuffer(block.end_time, "<i8").tolist():
                    session.add(_publication(f"{block.version_id}:{end}", block.newest))
        self.messages.append(message)


def _publication(name: str, newest: int) -> OutboxRow:
    return OutboxRow(
        subscription_id=1,
        publication_id=name,
        key="pipeline:p",
        topic="t",
        content_type="application/json",
        body=b"{}",
        nodes=[],
        retain=False,
        source_time=newest,
        due_at=0,
    )


class Plant:
    """A database with one connection, one pipeline of one-second windows, and one subscription."""

    def __init__(self, engine: Engine) -> None:
        """Nothing is configured yet."""
        self.engine = engine
        self.peer, self.consumer = Peer(), Consumer()
        self.consumer.up.set()
        self.plug = Plug(sources={"line": self.peer, "second": Peer()}, sinks={"mes": self.consumer})
        # Ahead of the box's clock, so that no tick of it closes a window: only what the test feeds does.
        self.start = times.now() // SECOND * SECOND + 300 * SECOND
        self.sent = 0

    def configure(self) -> None:
        """Apply a first revision."""
        with writing(self.engine) as session:
            session.add(ConnectionRow(name="line", connector="plug", options={}))
            session.add(ModelRow(digest="sha256:0", sm3="", name="m", version="1", contract={}, imported_at=0))
            session.add(SubscriptionRow(name="mes", connector="plug", options={}))
            session.add(PipelineRow(name="p", active_version=1))
            session.flush()
            session.add_all(
                TagRow(name=f"t{i}", connection_id=1, address="x", datatype="float", options={}) for i in (1, 2)
            )
            session.add(PipelineVersionRow(pipeline_id=1, number=1, model_digest="sha256:0", spec=SPEC, created_at=0))
        self.revise(1)

    def revise(self, number: int) -> None:
        """Say that the configuration is another one."""
        with writing(self.engine) as session:
            session.add(PlantRevisionRow(number=number, document="", digest="", applied_at=0, applied_by=""))

    def feed(self, batches: int) -> None:
        """One reading of two tags a second."""
        for _ in range(batches):
            self.sent += 1
            self.peer.inbox.put_nowait(batch((1, 2), (self.sent, -self.sent), at=self.start + self.sent * SECOND))

    def account(self) -> tuple[int, int, int, int]:
        """read, stored, refused, held of the line."""
        with reading(self.engine) as session:
            row = session.scalar(select(JournalStateRow).where(JournalStateRow.connection_id == 1))
            return (0, 0, 0, 0) if row is None else (row.read, row.stored, row.refused, row.held)


SPEC = {
    "name": "p",
    "model_digest": "sha256:0",
    "model_input": "x",
    "window": {"length": 2, "step_s": 1.0, "lateness_s": 0.0},
    "inputs": [{"tag": 1, "connection": 1, "max_gap_s": 1e6}, {"tag": 2, "connection": 1, "max_gap_s": 1e6}],
    "outputs": [],
}


@asynccontextmanager
async def running(plant: Plant, url: str, chosen: Settings) -> AsyncIterator[Gateway]:
    """A gateway with these settings, and the plant's peer in place of a connector."""
    door, stop = Door(url), asyncio.Event()
    gateway = await asyncio.to_thread(Gateway, chosen, door, plant.plug.load)
    task = asyncio.create_task(gateway.run(stop))
    try:
        yield gateway
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)
        door.close()


def _gateway(plant: Plant, url: str, tmp_path: Path, database_url: str) -> AbstractAsyncContextManager[Gateway]:
    return running(plant, url, Settings(data_dir=tmp_path, database_url=database_url))


@asynccontextmanager
async def _worker(url: str, engine: Engine) -> AsyncIterator[Worker]:
    worker = Worker(url, engine)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop.set()
        await asyncio.to_thread(worker.join)


def _ends(worker: Worker) -> list[int]:
    return [end for m in worker.messages for w in m.windows for end in np.frombuffer(w.end_time, "<i8").tolist()]


def _sequences(worker: Worker) -> list[int]:
    return [one for m in worker.messages for w in m.windows for one in np.frombuffer(w.sequence, "<i8").tolist()]


async def test_readings_become_windows_and_answers_reach_the_consumer(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """Every reading is stored or refused, every window's answer is published once, the ledger balances."""
    async with _worker(redis, plant.engine) as worker, _gateway(plant, redis, tmp_path, database_url) as gateway:
        plant.feed(6)
        refusal = Refusal("x", "wrong_type", "send a number", readings=3)
        plant.peer.inbox.put_nowait(batch((), (), at=plant.start + 6 * SECOND, refused=(refusal,), lost=1))
        await wait_for(lambda: len(worker.messages) >= 7, 20)
        await wait_for(lambda: plant.account() == (15, 12, 3, 0), 20)
        await wait_for(lambda: len(plant.consumer.taken) == len(_ends(worker)) >= 3, 20)
        door = Door(redis)

        def report() -> live.GatewayLive | None:
            found = door.get_live(f"{live.PREFIX}gateway-1")
            made = msgspec.json.decode(found, type=live.GatewayLive) if found else None
            return made if made and made.published == len(plant.consumer.taken) and made.held == 0 else None

        seen = await wait_for(report, 20)
        door.close()
        assert seen is not None
        assert (seen.connections[0].name, seen.connections[0].state) == ("line", "connected")
        assert seen.connections[0].readings == 15
        assert seen.run_latency_p50_ms is not None
        assert seen.run_latency_p50_ms > 0
        assert gateway.journal.state.state == "running"
    assert plant.consumer.ids() == [f"1:{end}" for end in _ends(worker)]
    with reading(plant.engine) as session:
        assert session.scalar(select(func.count()).where(OutboxRow.sent_at.is_(None))) == 0


async def test_a_restart_goes_on_where_it_was(plant: Plant, redis: str, tmp_path: Path, database_url: str) -> None:
    """Unapplied records are sent by the next process; windows go on with the next number, none twice, none missing."""
    async with _gateway(plant, redis, tmp_path, database_url) as first:
        plant.feed(5)
        await wait_for(lambda: plant.account()[0] == 10 and first.dispatcher.busy(), 20)
        assert plant.account() == (10, 0, 0, 10)
    door = Door(redis)
    door._redis.delete(QUEUE)  # noqa: SLF001 - Redis loses what was sent
    async with _worker(redis, plant.engine) as worker, _gateway(plant, redis, tmp_path, database_url) as second:
        plant.feed(5)
        await wait_for(lambda: plant.account() == (20, 20, 0, 0), 20)
        assert (first.journal.id, first.journal.epoch + 1) == (second.journal.id, second.journal.epoch)
        await wait_for(lambda: second.dispatcher.safe() == second.journal.head, 20)
    door.close()
    assert _sequences(worker) == list(range(1, len(_sequences(worker)) + 1))
    assert len(_sequences(worker)) >= 8
    assert {m.epoch for m in worker.messages} == {1, 2}


async def test_a_gap_that_no_reading_tells_of_reaches_the_database(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """A sign of life after a restart says that changes may be missing, since just before what the journal knows of."""
    async with _gateway(plant, redis, tmp_path, database_url):
        plant.feed(2)
        await wait_for(lambda: plant.account()[0] == 4, 20)
    async with _worker(redis, plant.engine) as worker, _gateway(plant, redis, tmp_path, database_url):
        back = plant.start + plant.sent * SECOND + 1  # too soon for a window to close with it
        plant.peer.inbox.put_nowait(batch((), (), at=back, continues=False))
        gap = await wait_for(lambda: [m.record for m in worker.messages if m.record.gap_since], 20)
        before = max(m.record.alive_until for m in worker.messages if m.record.count)
        assert [(one.gap_since, one.received_time) for one in gap] == [(before - EDGE_NS, back)]


async def test_a_journal_that_begins_anew_has_its_gap(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """A box that was restored, or whose journal was taken away: the history says since when changes may be missing."""
    async with _worker(redis, plant.engine) as worker:
        async with _gateway(plant, redis, tmp_path, database_url):
            plant.feed(2)
            await wait_for(lambda: plant.account() == (4, 4, 0, 0), 20)
        with writing(plant.engine) as session:
            # As the real worker stores them.
            for one in [m.record for m in worker.messages if m.record.count]:
                session.add(BatchRow(
                    journal="old", epoch=1, number=one.received_time, connection_id=1, revision=1, count=one.count,
                    received_time=one.received_time, first_time=one.first_time, last_time=one.last_time, wide=False,
                    columns=one.columns,
                ))  # fmt: skip
        shutil.rmtree(tmp_path / "journal")
        async with _gateway(plant, redis, tmp_path, database_url):
            back = plant.start + 90 * SECOND
            plant.peer.inbox.put_nowait(batch((), (), at=back, continues=False))
            gap = await wait_for(lambda: [m.record for m in worker.messages if m.record.gap_since], 20)
            alive = plant.start + 2 * SECOND
            assert [(one.gap_since, one.received_time) for one in gap] == [(alive - EDGE_NS, back)]


async def test_a_queue_that_lost_its_memory_is_filled_again(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """Whatever was under way when Redis was emptied is sent again from what the gateway holds."""
    async with _gateway(plant, redis, tmp_path, database_url) as gateway:
        plant.feed(4)
        door = Door(redis)
        await wait_for(lambda: door.waiting(QUEUE) >= 4 and gateway.dispatcher.marked, 20)
        door._redis.flushall()  # noqa: SLF001 - Redis loses its memory
        await wait_for(lambda: door.waiting(QUEUE) >= 4, 20)
        async with _worker(redis, plant.engine):
            await wait_for(lambda: plant.account() == (8, 8, 0, 0), 20)
        door.close()


async def test_a_changed_plant_starts_and_stops_only_what_changed(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """A new connection starts beside the old one, which is not touched; one that is retired is closed."""
    second = plant.plug.sources["second"]
    assert isinstance(second, Peer)
    async with _gateway(plant, redis, tmp_path, database_url) as gateway:
        await wait_for(lambda: plant.peer.connects == 1, 20)
        with writing(plant.engine) as session:
            session.add(ConnectionRow(name="second", connector="plug", options={}))
        plant.revise(2)
        await wait_for(lambda: second.connects == 1, 20)
        assert (plant.peer.connects, plant.peer.closes) == (1, 0)
        with writing(plant.engine) as session:
            session.get_one(ConnectionRow, 2).retired_at = 1
        plant.revise(3)
        await wait_for(lambda: second.closes == 1, 20)
        await wait_for(lambda: set(gateway.follower.standings) == {1}, 20)
        assert plant.peer.closes == 0
    assert plant.peer.closes == 1


async def test_a_full_flight_holds_the_rest_in_the_journal(
    plant: Plant, redis: str, tmp_path: Path, database_url: str
) -> None:
    """Without a worker the field is acknowledged; the queue holds no more than the limit, the journal the rest."""
    chosen = Settings(data_dir=tmp_path, database_url=database_url, in_flight_batches=3)
    door, stop = Door(redis), asyncio.Event()
    gateway = await asyncio.to_thread(Gateway, chosen, door, plant.plug.load)
    task = asyncio.create_task(gateway.run(stop))
    plant.feed(20)
    await wait_for(lambda: plant.account() == (40, 0, 0, 40), 20)
    assert plant.peer.inbox.empty()
    assert await asyncio.to_thread(door.waiting, QUEUE) == 3
    assert gateway.dispatcher.safe() < gateway.journal.head
    assert gateway.journal.head.number >= 20
    assert gateway.dispatcher.safe() >= Position(1, 0)
    stop.set()
    await asyncio.wait_for(task, 30)
    door.close()
