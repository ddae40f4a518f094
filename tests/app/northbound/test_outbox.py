"""The outbox on either database: what is due, what is left out, and what was taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import insert_all, reading, writing
from app.northbound import service
from app.northbound.service import ROWS_AT_ONCE, Failure, due, settle
from app.northbound.tables import OutboxRow
from tests.app.works import Works

MES, SCADA = 1, 2
NOW = 1_000


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """Two consumers."""
    made = Works(database_url, tmp_path)
    yield made
    made.close()


def put(works: Works, subscription: int, *due_at: int) -> list[int]:
    """Rows of the outbox; returns their ids."""
    same = {
        "subscription_id": subscription, "key": "k", "topic": "t", "content_type": "c", "nodes": [], "retain": False,
        "source_time": 1, "sent_at": None, "attempts": 0, "error": "",
    }  # fmt: skip
    with writing(works.engine) as session:
        before = set(session.scalars(select(OutboxRow.id)))
        insert_all(session, OutboxRow, [
            same | {"publication_id": f"p{at}", "body": str(at).encode(), "due_at": at} for at in due_at
        ])
        return sorted(set(session.scalars(select(OutboxRow.id))) - before)


def found(works: Works, *wanted: int, limit: int = 10, known: tuple[int, ...] = ()) -> list[int]:
    """Ids of what is due."""
    return [one.row for one in due(works.engine, NOW, wanted, limit, known)]


def test_what_is_due_is_found_oldest_first(works: Works) -> None:
    """For those who ask, up to now, no more than they want; the whole of it."""
    mine, other = put(works, MES, 5, 1, NOW, NOW + 1), put(works, SCADA, 7)
    assert found(works, MES) == mine[:3]
    assert found(works, SCADA, MES) == [*other, *mine[:3]]
    assert found(works, MES, limit=2) == mine[:2]
    assert found(works) == []
    first = due(works.engine, NOW, [MES], 1)[0]
    assert (first.publication.id, first.publication.body, first.subscription) == ("p5", b"5", MES)


def test_what_is_known_is_left_out(works: Works) -> None:
    """Wherever it lies among the rest, and without costing others their place."""
    mine = put(works, MES, 1, 2, 3, 4)
    assert found(works, MES, known=(mine[0], mine[2])) == [mine[1], mine[3]]
    assert found(works, MES, limit=1, known=(mine[0], mine[1])) == [mine[2]]
    assert found(works, MES, known=tuple(mine)) == []


def test_what_was_taken_is_marked_and_nothing_else(works: Works) -> None:
    """Each row with its own time; a row that failed waits until it is due again; both count as an attempt."""
    mine = put(works, MES, 1, 2, 3, 4)
    settle(works.engine, {mine[0]: 50, mine[1]: 60}, [Failure(mine[2], NOW + 5, "no")])
    assert found(works, MES) == [mine[3]]
    with reading(works.engine) as session:
        rows = {one.id: (one.sent_at, one.attempts, one.error) for one in session.scalars(select(OutboxRow))}
    assert [rows[one] for one in mine] == [(50, 1, ""), (60, 1, ""), (None, 1, "no"), (None, 0, "")]


def test_many_are_marked_at_once(works: Works) -> None:
    """More than fit one statement."""
    mine = put(works, MES, *range(ROWS_AT_ONCE + 3))
    settle(works.engine, dict.fromkeys(mine, 9), [])
    assert found(works, MES) == []
    assert service.newest_sent(works.engine, MES)[0].row == mine[-1]
