"""Answers of a pipeline that catches up newest first: what comes behind a newer one is late, and disturbs nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from app.db import reading
from app.events.tables import EventRow
from app.northbound.tables import OutboxRow
from app.scoring.tables import PredictionRow
from tests.app.works import SECOND, START, Works, rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MES, SCADA = 1, 2
"""The broker, and the server that shows nodes."""


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """A pipeline without memory, whose alarm has none either."""
    made = Works(database_url, tmp_path, spec={"rules": [rule()], "catch_up": "newest_first"})
    yield made
    made.close()


def _answers(works: Works) -> list[tuple[int, float, bool]]:
    """Number, score, and whether it is late; in the order of the windows."""
    with reading(works.engine) as session:
        found = session.execute(
            select(PredictionRow.sequence, PredictionRow.outputs, PredictionRow.late).order_by(PredictionRow.end_time)
        ).all()
    return [(row.sequence or 0, round(row.outputs["score"], 3), row.late) for row in found]


def _events(works: Works) -> list[tuple[int, int | None]]:
    """Seconds from the first window: when each alarm was raised and cleared."""
    with reading(works.engine) as session:
        found = session.execute(select(EventRow.raised_at, EventRow.cleared_at).order_by(EventRow.raised_at)).all()
    return [
        ((row.raised_at - START) // SECOND, None if row.cleared_at is None else (row.cleared_at - START) // SECOND)
        for row in found
    ]


def _keys(works: Works, subscription: int) -> list[str]:
    with reading(works.engine) as session:
        mine = OutboxRow.subscription_id == subscription
        return list(session.scalars(select(OutboxRow.key).where(mine).order_by(OutboxRow.id)))


def test_an_older_window_is_late_and_keeps_its_number(works: Works) -> None:
    """What was behind is stored under its own number and published apart; a node goes on showing what is now."""
    assert works.scorer.apply(works.message(9, works.block([0.5, 0.6], 7)))
    assert works.scorer.apply(works.message(2, works.block([0.1, 0.2, 0.3], 1)))
    assert works.scorer.apply(works.message(10, works.block([0.7], 9)))
    assert _answers(works) == [
        (1, 0.1, True), (2, 0.2, True), (3, 0.3, True), (7, 0.5, False), (8, 0.6, False), (9, 0.7, False),
    ]  # fmt: skip
    assert _keys(works, MES) == ["pipeline:watch"] * 2 + ["pipeline:watch:late"] * 3 + ["pipeline:watch"]
    # A node shows what is now.
    assert _keys(works, SCADA) == ["pipeline:watch"] * 3
    with reading(works.engine) as session:
        late = OutboxRow.key == "pipeline:watch:late"
        topic, body = session.execute(select(OutboxRow.topic, OutboxRow.body).where(late).limit(1)).one()
    assert topic.endswith("/prediction/watch/late")
    assert json.loads(body)["late"] is True


def test_a_repeat_changes_nothing(works: Works) -> None:
    """What was answered as new stays so, whoever brings it again, and in whatever order."""
    new, old = works.message(9, works.block([0.5], 7)), works.message(2, works.block([0.1], 1))
    assert [works.scorer.apply(one) for one in (new, old, new, old)] == [True, True, False, False]
    # By another message: the gateway was started anew, and a record closed the same window.
    assert works.scorer.apply(works.message(11, works.block([0.5], 7), works.block([0.1], 1)))
    assert _answers(works) == [(1, 0.1, True), (7, 0.5, False)]
    assert len(_keys(works, MES)) == 2


def test_an_older_window_raises_no_alarm(works: Works) -> None:
    """An alarm is of now: what lies behind neither raises nor clears it, the newest do without waiting for it."""
    works.scorer.apply(works.message(9, works.block([2.0], 7)))
    assert _events(works) == [(7, None)]
    works.scorer.apply(works.message(2, works.block([0.1, 3.0, 0.1, 3.0, 0.1], 1)))
    assert _events(works) == [(7, None)]
    works.scorer.apply(works.message(10, works.block([0.1], 8)))
    assert _events(works) == [(7, 8)]
    works.scorer.apply(works.message(3, works.block([5.0], 6)))
    works.scorer.apply(works.message(11, works.block([4.0, 0.1, 4.0], 9)))
    assert _events(works) == [(7, 8), (9, 10), (11, None)]


def test_an_alarm_is_carried_over_to_a_version_that_begins_with_its_newest(works: Works) -> None:
    """The first window that a rule sees need not be the first of its version."""
    works.scorer.apply(works.message(1, works.block([2.0], 1)))
    works.version = works.put_in_force(rules=[rule()], catch_up="newest_first")
    works.scorer.apply(works.message(9, works.block([2.0], 7)))
    works.scorer.apply(works.message(8, works.block([0.1], 2)))
    assert _events(works) == [(1, None)]
    works.scorer.apply(works.message(10, works.block([0.1], 8)))
    assert _events(works) == [(1, 8)]
