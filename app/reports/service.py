"""What a plant reported of its own: each event stored once, and told to the consumers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import func, select

from app.db import insert_all, insert_new
from app.events import schemas as reported
from app.events.tables import EventRow
from app.northbound.schemas import outbox_rows
from app.northbound.tables import OutboxRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.orm import Session

    from app.northbound.schemas import North
    from app.records import Record

IDS_AT_ONCE: Final = 500
"""Of one statement: databases limit how many values it may have."""
_Row: TypeAlias = dict[str, Any]


def report(session: Session, record: Record, told: North) -> Counter[str]:
    """Store what a plant reported, each event once, and tell the consumers of those that are new.

    Returns how many were `stored` and how many `repeated`: a peer tells again what was not acknowledged, and after a
    new connection the present state of its alarms.
    """
    made = {row["id"]: row for row in (reported.row(record.connection, one) for one in record.events)}
    new = _new_events(session, made)
    fresh = [row for key, row in made.items() if key in new]
    if fresh and told.consumers:
        name = session.scalar(select(ConnectionRow.name).where(ConnectionRow.id == record.connection)) or ""
        newest = _newest(session, {row["condition_key"] for row in fresh})
        announced = [
            reported.announcement(name, row, is_newest=row["raised_at"] >= newest.get(row["condition_key"], 0))
            for row in fresh
        ]
        insert_all(session, OutboxRow, outbox_rows(told, announced))
    return Counter(stored=len(fresh), repeated=len(record.events) - len(fresh))


def _new_events(session: Session, made: Mapping[str, _Row]) -> set[str]:
    """Store those of these that are not there yet, and return their ids; all in one call but where another is quicker.

    In the order of ids: transactions that bring the same events wait for each other and never in a circle.
    """
    ids, there = sorted(made), set[str]()
    for start in range(0, len(ids), IDS_AT_ONCE):
        some = ids[start : start + IDS_AT_ONCE]
        there |= set(session.scalars(select(EventRow.id).where(EventRow.id.in_(some))))
    wanted = [key for key in ids if key not in there]
    if not wanted or insert_new(session, EventRow, *(made[key] for key in wanted)):
        return set(wanted)
    return {key for key in wanted if insert_new(session, EventRow, made[key])}


def _newest(session: Session, conditions: Collection[str | None]) -> dict[str, int]:
    """When each condition last changed, as far as it is known (ns)."""
    key, at = EventRow.condition_key, func.max(EventRow.raised_at)
    rows = session.execute(select(key, at).where(key.in_([one for one in conditions if one])).group_by(key))
    return {row[0]: row[1] for row in rows if row[0] is not None}
