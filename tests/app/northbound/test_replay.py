"""A peer is sent again what it has taken: same ids, order per key kept, others not held back, at a bounded rate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

import connectors
from app import times
from app.access.service import audit_page
from app.db import insert_all, reading, writing
from app.field.publisher import Publisher
from app.northbound import service
from app.northbound.service import NoSubscriptionError, ReplayError, Span, Subscription
from app.northbound.tables import OutboxReplayRow, OutboxRow, SubscriptionRow
from tests.app.works import Works
from tests.examples.peers import Listener
from tests.waiting import wait_for

if TYPE_CHECKING:
    from app.launcher.servers import Broker

MES, SCADA, OTHER = 1, 2, 3
S = times.NANOS
WHO = "ada"


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """Two consumers of messages and one that shows nodes."""
    made = Works(database_url, tmp_path)
    with writing(made.engine) as session:
        session.add(SubscriptionRow(name="other", connector="mqtt", options={}))
    yield made
    made.close()


def put(works: Works, subscription: int, *rows: tuple[str, str, int | None]) -> None:
    """Rows of the outbox: id, key, and when they were sent (s)."""
    with writing(works.engine) as session:
        insert_all(session, OutboxRow, [
            {
                "subscription_id": subscription, "publication_id": name, "key": key, "topic": f"t/{key}",
                "content_type": "c", "body": name.encode(), "nodes": [], "retain": False, "source_time": 1, "due_at": 1,
                "sent_at": None if sent is None else sent * S, "error": "",
                "attempts": 0 if sent is None else 1,
            }
            for name, key, sent in rows
        ])  # fmt: skip


def due(works: Works, now: int, subscription: int = MES) -> list[str]:
    """Ids of what is due at a time (s), in order."""
    return [one.publication.id for one in service.due(works.engine, now * S, [subscription], 1000)]


def send(works: Works, now: int, subscription: int = MES) -> list[str]:
    """The same, and the peer takes them."""
    found = service.due(works.engine, now * S, [subscription], 1000)
    service.settle(works.engine, {one.row: now * S for one in found}, [])
    return [one.publication.id for one in found]


def step(works: Works, now: int) -> list[str]:
    """What a gateway does once in a while; the names of those that are through."""
    return service.replay(works.engine, now * S, [MES, SCADA, OTHER])


SENT = [(f"p{n}", "ab"[n % 2], 10 + n) for n in range(8)]


def test_what_was_sent_since_is_due_again(works: Works) -> None:
    """From a time, for that subscription alone, with the same ids and bodies, and once."""
    put(works, MES, *SENT)
    put(works, OTHER, *SENT)
    row = service.order(works.engine, WHO, "mes", Span(since=13 * S))
    assert (row.rows, sorted(row.keys), row.done_at) == (5, ["a", "b"], None)
    assert due(works, 100) == [], "nothing is due before a gateway has looked"
    assert step(works, 100) == ["mes"]
    assert due(works, 100, OTHER) == []
    assert send(works, 101) == ["p3", "p4", "p5", "p6", "p7"]
    assert step(works, 102) == []
    assert due(works, 102) == []
    with reading(works.engine) as session:
        again = session.scalars(select(OutboxRow).where(OutboxRow.sent_at == 101 * S)).all()
        assert [one.body for one in again] == [b"p3", b"p4", b"p5", b"p6", b"p7"]
        assert {one.attempts for one in again} == {2}


def test_from_an_id_and_to_a_time(works: Works) -> None:
    """From one publication on, as consumers know it, up to before a time."""
    put(works, MES, *SENT)
    assert service.order(works.engine, WHO, "mes", Span(from_id="p2", until=15 * S)).rows == 3
    step(works, 100)
    assert send(works, 100) == ["p2", "p3", "p4"]
    with pytest.raises(ReplayError, match="no publication p9"):
        service.order(works.engine, WHO, "mes", Span(from_id="p9"))


def test_it_goes_at_its_rate(works: Works) -> None:
    """So many rows a second, in the order of the outbox, however often a gateway looks."""
    put(works, MES, *((f"p{n}", "a", 10) for n in range(10)))
    service.order(works.engine, WHO, "mes", Span(since=0), rate=4)
    seen: list[str] = []
    for now, through in ((100, []), (100, []), (101, []), (102, ["mes"])):
        assert step(works, now) == through
        seen += send(works, now)
        assert len(seen) <= 4 * (now - 99)
    assert seen == [f"p{n}" for n in range(10)]


def test_a_peer_that_takes_nothing_is_given_no_more(works: Works) -> None:
    """What is due waits for it; the rest stays as it is."""
    put(works, MES, *((f"p{n}", "a", 10) for n in range(3 * service.ROWS_AT_ONCE)))
    service.order(works.engine, WHO, "mes", Span(since=0), rate=service.ROWS_AT_ONCE)
    for now in range(100, 105):
        step(works, now)
    assert len(due(works, 200)) == service.ROWS_AT_ONCE
    send(works, 200)
    step(works, 201)
    assert len(due(works, 201)) == service.ROWS_AT_ONCE


def test_what_is_new_under_a_replayed_key_waits_and_nothing_else_does(works: Works) -> None:
    """The last message of a key is its newest; other keys and other subscriptions go out at once."""
    put(works, MES, ("a1", "a", 10), ("b1", "b", 11), ("a2", "a", 12), ("a3", "a", 13))
    service.order(works.engine, WHO, "mes", Span(since=0), rate=1)
    put(works, MES, ("a4", "a", None), ("b2", "b", None), ("c1", "c", None))
    put(works, OTHER, ("o1", "a", None))
    assert send(works, 100) == ["c1"], "nothing is replayed yet"
    assert send(works, 100, OTHER) == ["o1"]
    seen = []
    for now in range(101, 106):
        step(works, now)
        seen += send(works, now)
    assert [one for one in seen if one[0] == "a"] == ["a1", "a2", "a3", "a4"]
    assert [one for one in seen if one[0] == "b"] == ["b1", "b2"]
    assert seen.index("b2") < seen.index("a3"), "a key waits for its own rows alone"


def test_of_very_many_keys_all_wait(works: Works) -> None:
    """Databases limit how many values a statement may have: then everything newer waits."""
    put(works, MES, *((f"p{n}", f"k{n}", 10) for n in range(service.ROWS_AT_ONCE + 1)))
    service.order(works.engine, WHO, "mes", Span(since=0), rate=1)
    put(works, MES, ("new", "unheard", None))
    assert due(works, 100) == []
    service.stop(works.engine, WHO, "mes")
    assert due(works, 100) == ["new"]


def test_it_can_be_stopped(works: Works) -> None:
    """What is due stays due, the rest stays sent; then another may be asked for, and not before."""
    put(works, MES, *SENT)
    service.order(works.engine, WHO, "mes", Span(since=0), rate=2)
    with pytest.raises(ReplayError, match="under way"):
        service.order(works.engine, WHO, "mes", Span(since=0))
    step(works, 100)
    assert service.stop(works.engine, WHO, "mes")
    assert not service.stop(works.engine, WHO, "mes")
    step(works, 200)
    assert send(works, 200) == ["p0", "p1"]
    service.order(works.engine, WHO, "mes", Span(since=0))
    assert [one.outcome for one in service.replays(works.engine, "mes")] == ["", "stopped"]


def test_what_cannot_be_sent_again_is_said(works: Works) -> None:
    """Nodes show what is now; nothing was sent; it is switched off; there is none of this name."""
    put(works, SCADA, *SENT)
    for name, why in (("scada", "a node shows what is now"), ("mes", "nothing that was sent then")):
        with pytest.raises(ReplayError, match=why):
            service.order(works.engine, WHO, name, Span(since=0))
    put(works, MES, *SENT)
    with pytest.raises(ReplayError, match="nothing that was sent then"):
        service.order(works.engine, WHO, "mes", Span(since=18 * S))
    with writing(works.engine) as session:
        session.execute(update(SubscriptionRow).where(SubscriptionRow.id == MES).values(enabled=False))
    with pytest.raises(ReplayError, match="switched off"):
        service.order(works.engine, WHO, "mes", Span(since=0))
    for call in (service.replays, lambda engine, name: service.order(engine, WHO, name, Span(since=0))):
        with pytest.raises(NoSubscriptionError):
            call(works.engine, "none")


def test_whoever_asked_is_audited(works: Works) -> None:
    """Who asked, what for, and when it was through or stopped."""
    put(works, MES, *SENT)
    service.order(works.engine, WHO, "mes", Span(since=0))
    step(works, 100)
    send(works, 100)
    service.order(works.engine, WHO, "mes", Span(since=16 * S))
    service.stop(works.engine, "bob", "mes")
    found, intact = audit_page(works.engine, None, 10)
    assert intact
    assert [(one.who, one.action, one.target) for one in reversed(found)] == [
        (WHO, "outbox_replay_asked", "mes"), (WHO, "outbox_replayed", "mes"),
        (WHO, "outbox_replay_asked", "mes"), ("bob", "outbox_replay_stopped", "mes"),
    ]  # fmt: skip
    assert found[-1].detail["rows"] == 8


def test_two_gateways_make_nothing_due_twice(works: Works) -> None:
    """Whoever comes second sees that the rows were taken on, and leaves them."""
    put(works, MES, *SENT)
    service.order(works.engine, WHO, "mes", Span(since=0), rate=4)
    with reading(works.engine) as session:
        seen = session.scalars(select(OutboxReplayRow)).one()
        session.expunge(seen)
    step(works, 100)
    send(works, 101)
    assert service.resume(works.engine, 101 * S, seen) == ""
    assert due(works, 102) == []


@asynccontextmanager
async def publishing(works: Works, broker: Broker, measured: list[int]) -> AsyncIterator[Publisher]:
    """A publisher with the real connector to a real broker; what it measures latency by."""
    options = {"url": f"mqtt://{broker.host}:{broker.port}", "username": broker.user, "password": broker.password}
    options = {name: value for name, value in options.items() if value is not None}
    bell: asyncio.Queue[None] = asyncio.Queue()
    made = Publisher(
        works.engine, str(works.folder), lambda at, _: measured.append(at), rung=bell.get, load=connectors.load,
        cap_s=1.0, look_s=0.02,
    )  # fmt: skip
    await made.configure({MES: Subscription(MES, "mes", "mqtt", options, "", 1)}, {})
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_broker_is_sent_it_again(works: Works, broker: Broker) -> None:
    """Over a real broker the same bodies come again, in order, and what is new under the key comes last.

    What comes again says nothing of how long a value takes to its consumer.
    """
    measured: list[int] = []
    topic = f"replay-{works.folder.name}-{works.engine.dialect.name}"
    with closing(Listener(broker, f"{topic}/#")) as listener:
        put(works, MES, *((f"p{n}", "a", None) for n in range(20)))
        with writing(works.engine) as session:
            session.execute(update(OutboxRow).values(topic=f"{topic}/a"))
        async with publishing(works, broker, measured) as publisher:
            await wait_for(lambda: publisher.published == 20, 30)
            await wait_for(lambda: not due(works, times.now() // S), 30)
            measured.clear()
            service.order(works.engine, WHO, "mes", Span(from_id="p5"), rate=50)
            put(works, MES, ("new", "a", None))
            with writing(works.engine) as session:
                session.execute(update(OutboxRow).where(OutboxRow.publication_id == "new").values(topic=f"{topic}/a"))
            await wait_for(lambda: publisher.published == 36, 30)
        bodies = [(await asyncio.to_thread(listener.next))[1].decode() for _ in range(36)]
    assert len(measured) == 1
    assert bodies == [*(f"p{n}" for n in range(20)), *(f"p{n}" for n in range(5, 20)), "new"]
