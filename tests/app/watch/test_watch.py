"""A ledger that does not balance is an event like any other: raised once, acknowledged, cleared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert, select, text, update

from app import worker
from app.db import reading, upgrade, writing
from app.events.service import acknowledge
from app.events.tables import EventRow
from app.health.service import active_events
from app.ledger.tables import JournalStateRow
from app.northbound.tables import OutboxRow
from app.queue import WATCH, celery
from app.sources.tables import ConnectionRow
from app.watch.schemas import event_id, row
from app.watch.service import judge, unbalanced
from tests.app.works import Works
from tests.waiting import wait_until


@pytest.fixture
def works(tmp_path: Path, database_url: str) -> Iterator[Works]:
    """A box whose ledger balances."""
    upgrade(database_url)
    made = Works(database_url, tmp_path)
    with writing(made.engine) as session:
        session.add(JournalStateRow(
            journal="gw", connection_id=1, epoch=1, head=5, watermark=3, read=14, held=5, stored=9, refused=0,
            dropped=0, lost_by_peer=0, segments=1, bytes=10, at=1,
        ))  # fmt: skip
    yield made
    made.close()


def _look(works: Works, read: int | None = None) -> None:
    """As the task does; `read`: what the account says was read from now on."""
    if read is not None:
        with writing(works.engine) as session:
            session.execute(update(JournalStateRow).values(read=read))
    judge(works.engine, unbalanced(works.engine))


def _events(works: Works) -> list[tuple[str, str, int]]:
    with reading(works.engine) as session:
        rows = session.scalars(select(EventRow).order_by(EventRow.raised_at))
        return [(one.id, one.state, one.value) for one in rows]


def _told(works: Works) -> list[tuple[str, str]]:
    """What the consumers of bodies are told: type and state."""
    with reading(works.engine) as session:
        rows = session.scalars(select(OutboxRow).where(OutboxRow.subscription_id == 1).order_by(OutboxRow.id))
        clouds = [msgspec.json.decode(one.body) for one in rows]
    return [(one["type"].rpartition(".")[2], one["data"]["state"]) for one in clouds]


def test_a_ledger_that_balances_is_no_event(works: Works) -> None:
    """Nothing is raised, nobody is told."""
    _look(works)
    assert (_events(works), _told(works)) == ([], [])


@pytest.mark.parametrize(("read", "off", "said"), [(17, 3, "more than"), (12, -2, "fewer than")])
def test_what_does_not_balance_is_raised_once_and_cleared(works: Works, read: int, off: int, said: str) -> None:
    """By how much and of which connection; however often it is looked, until it balances again."""
    for _ in range(3):
        _look(works, read)
    ((first, state, value),) = _events(works)
    assert (state, value) == ("unack_active", off)
    assert active_events(works.engine) == 1
    with reading(works.engine) as session:
        row = session.scalars(select(EventRow)).one()
        assert (row.source, row.connection_id, row.priority) == ("box", 1, 1)
        assert said in row.message["en"]
        assert str(abs(off)) in row.message["zh-CN"]
        nodes = session.scalars(select(OutboxRow.nodes).where(OutboxRow.subscription_id == 2)).one()
    assert {one["path"]: one["value"] for one in nodes}["Headrace/field/box/ledger_balance/active"] is True
    assert acknowledge(works.engine, first, "ann", "seen")
    assert acknowledge(works.engine, first, "bob", "again")
    _look(works, 14)
    assert _events(works) == [(first, "normal", off)]
    assert active_events(works.engine) == 0
    assert _told(works) == [("raised", "unack_active"), ("acknowledged", "ack_active"), ("cleared", "normal")]


def test_what_breaks_again_is_another_event(works: Works) -> None:
    """The one before was cleared, though nobody has acknowledged it."""
    for read in (17, 14, 17):
        _look(works, read)
    assert [state for _, state, _ in _events(works)] == ["rtn_unack", "unack_active"]
    assert len({key for key, *_ in _events(works)}) == 2


def test_two_who_look_at_once_raise_it_once(works: Works) -> None:
    """A plant has several workers, and a task may be given twice."""
    with writing(works.engine) as session:
        session.execute(update(JournalStateRow).values(read=17))
    threads = [threading.Thread(target=_look, args=(works,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(_events(works)) == 1
    assert _told(works) == [("raised", "unack_active")]


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_who_comes_second_waits_and_sees_what_was_raised(works: Works) -> None:
    """Between the look at what is active and the new event nobody else may look."""
    with writing(works.engine) as session:
        session.execute(update(JournalStateRow).values(read=17))
    found = unbalanced(works.engine)
    second = threading.Thread(target=judge, args=(works.engine, found))
    with writing(works.engine) as session:
        session.execute(select(ConnectionRow.id).with_for_update())
        second.start()
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        wait_until(lambda: session.scalar(waiting))
        session.execute(insert(EventRow).values(row(found[0], 0, 1)))
    second.join()
    assert [one for one, *_ in _events(works)] == [event_id(found[0], 0)]


def test_it_is_looked_at_once_a_minute() -> None:
    """By a task that every worker knows."""
    worker.load_tasks()
    assert WATCH in celery.tasks
    assert [one["schedule"] for one in celery.conf.beat_schedule.values() if one["task"] == WATCH] == [60.0]
