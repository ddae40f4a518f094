"""What a box has stored, in the form of the plants' own logs, so that one can be held against the other."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from app.db import reading
from app.readings import service as readings
from app.scoring.tables import PredictionRow
from app.sources.tables import ConnectionRow, TagRow
from examples.ownlog import Entry, Scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.readings.schemas import Stored

Readings = dict[str, list[Entry]]
"""By the plant's own name of the tag."""

BAD_SEVERITY: Final = 2


def stored(engine: Engine, connection: str) -> Readings:
    """Every reading of one connection, as often as it is stored."""
    found: Readings = defaultdict(list)
    with reading(engine) as session:
        number, names = _names(session, connection)
    for one in readings.everything(engine, number):
        for tag, entry in _entries(one):
            found[names[tag]].append(entry)
    return dict(found)


def arrived(engine: Engine, connection: str, since: int) -> list[tuple[str, Entry]]:
    """Readings of one connection that the gateway has taken after `since` (ns) and that are stored."""
    with reading(engine) as session:
        number, names = _names(session, connection)
    return [
        (names[tag], entry)
        for one in readings.everything(engine, number)
        # Of a chunk the newest arrival is known: what the plant stamped later was taken later.
        if one.received_time > since
        for tag, entry in _entries(one)
        if not one.compacted or entry[0] > since
    ]


def _names(session: Session, connection: str) -> tuple[int, dict[int, str]]:
    """The number of a connection, and the plant's own names of its tags."""
    number = session.scalars(select(ConnectionRow.id).where(ConnectionRow.name == connection)).one()
    tags = session.execute(select(TagRow.id, TagRow.address).where(TagRow.connection_id == number))
    return number, {tag: address.rpartition("s=")[2].rpartition("/")[2] for tag, address in tags}


def _entries(one: Stored) -> Iterator[tuple[int, Entry]]:
    tags, times, values, others, status = one.columns
    for row, (tag, time, value, code) in enumerate(
        zip(tags.tolist(), times.tolist(), values.tolist(), status.tolist(), strict=True)
    ):
        yield tag, (time, _scalar(others.get(row, value)), code)


def _scalar(value: object) -> Scalar:
    assert isinstance(value, float | int | str)
    return None if isinstance(value, float) and math.isnan(value) else value


def twice(found: Mapping[str, list[Entry]]) -> list[tuple[str, Entry]]:
    """Readings that are stored more than once."""
    return [
        (tag, entry)
        for tag, entries in found.items()
        if len(set(entries)) < len(entries)
        for entry in sorted({one for one in entries if entries.count(one) > 1})
    ]


def windows(engine: Engine) -> dict[int, list[tuple[int, str, int]]]:
    """By pipeline version: sequence, prediction id and end time of every window, in the order of sequence."""
    row = PredictionRow
    found: dict[int, list[tuple[int, str, int]]] = defaultdict(list)
    with reading(engine) as session:
        for version, sequence, key, end in session.execute(
            select(row.version_id, row.sequence, row.id, row.end_time).order_by(row.sequence)
        ):
            assert sequence is not None
            found[version].append((sequence, key, end))
    return dict(found)
