"""What a station made: context that is kept when it changes, and units that were answered or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import reading
from app.scoring.tables import ContextRow, PredictionRow, StationCountRow
from tests.app.works import SECOND, START, Works


@pytest.fixture
def station(here: str, tmp_path: Path) -> Iterator[Works]:
    """A pipeline whose windows end with a part."""
    window = {"kind": "trigger", "length": 4, "trigger": 1, "trigger_connection": 1}
    made = Works(here, tmp_path, spec={"window": window, "context": {"unit_id": 5, "recipe": 6}})
    yield made
    made.close()


def send(works: Works, sequence: int, *contexts: dict[str, object], refused: tuple[tuple[int, str], ...] = ()) -> None:
    """One message with a window a context."""
    works.number += 1
    block = works.block([1.0] * len(contexts), sequence, context=contexts, refused=refused)
    assert works.scorer.apply(works.message(works.number, block))


def contexts(works: Works, field: str) -> list[tuple[int, str]]:
    """Seconds after the start and the value, by time."""
    query = select(ContextRow).where(ContextRow.asset == "press", ContextRow.field == field).order_by(ContextRow.since)
    with reading(works.engine) as session:
        return [((one.since - START) // SECOND, one.value) for one in session.scalars(query)]


def test_a_value_is_kept_when_it_changes(station: Works) -> None:
    """The same recipe over many parts is one row; each part has its own; nothing is ever changed."""
    send(station, 1, {"unit_id": "A1", "recipe": "M8"}, {"unit_id": "A2", "recipe": "M8"})
    send(station, 3, {"unit_id": "A3", "recipe": "M6"})
    send(station, 4, {"unit_id": "A4", "recipe": "M6"}, {"unit_id": "A5", "recipe": "M8"})
    assert contexts(station, "recipe") == [(1, "M8"), (3, "M6"), (5, "M8")]
    assert contexts(station, "unit_id") == [(1, "A1"), (2, "A2"), (3, "A3"), (4, "A4"), (5, "A5")]


def test_a_message_that_comes_late_adds_what_was_in_force_then(station: Works) -> None:
    """A worker that finishes later tells of an earlier part: it is held against what was in force before it."""
    send(station, 1, {"recipe": "M8"})
    send(station, 3, {"recipe": "M8"})
    send(station, 2, {"recipe": "M6"})
    assert contexts(station, "recipe") == [(1, "M8"), (2, "M6")]


def test_predictions_carry_part_and_context(station: Works) -> None:
    """The part's id stands in a column of its own; a window without one has none."""
    send(station, 1, {"unit_id": 7, "recipe": "M8"}, {"recipe": "M8"})
    query = select(PredictionRow).order_by(PredictionRow.end_time)
    with reading(station.engine) as session:
        found = [(one.unit_id, one.context) for one in session.scalars(query)]
    assert found == [("7", {"recipe": "M8"}), (None, {"recipe": "M8"})]


def test_units_are_answered_or_refused(station: Works) -> None:
    """A missed part counts as refused; a repeat of a message counts nothing."""
    send(station, 1, {"unit_id": "A1"}, {}, refused=((1, "part_missed:1005"),))
    send(station, 3, {"unit_id": "A3"})
    again = station.message(station.number, station.block([1.0], 3, context=({"unit_id": "A3"},)))
    assert not station.scorer.apply(again)
    with reading(station.engine) as session:
        (one,) = session.scalars(select(StationCountRow))
        assert (one.asset, one.answered, one.refused) == ("press", 2, 1)


def test_a_grid_counts_no_units(here: str, tmp_path: Path) -> None:
    """Windows of the clock are no parts, whatever context they carry."""
    works = Works(here, tmp_path, spec={"context": {"recipe": 6}})
    send(works, 1, {"recipe": "M8"})
    with reading(works.engine) as session:
        assert session.scalars(select(StationCountRow)).all() == []
    works.close()
