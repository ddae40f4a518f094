"""What the sums ask the database: every reading and window that is stored, and what has left north."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.db import reading
from app.history.tables import ChunkRow
from app.northbound.tables import OutboxRow
from app.readings import service as readings
from app.readings.tables import BatchRow
from app.scoring.tables import PredictionRow
from app.sources import queries as sources
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.selftest.sums import Reading

MOST_TAGS = 1000


def stored(engine: Engine, connection: str) -> Counter[Reading]:
    """Every reading of one connection, and how often it is stored."""
    names = {row.id: row.name for row, _ in sources.tags(
        engine, connection=connection, search=None, after=0, limit=MOST_TAGS
    )}  # fmt: skip
    ids = [row.id for row, _ in sources.connections(engine) if row.name == connection]
    found: Counter[Reading] = Counter()
    for some in (one for number in ids for one in readings.everything(engine, number)):
        tags, moments, values, _, _ = some.columns
        found.update(
            (names[tag], moment, value)
            for tag, moment, value in zip(tags.tolist(), moments.tolist(), values.tolist(), strict=True)
        )
    return found


def newest(engine: Engine) -> dict[str, int]:
    """By connection, the newest source time that is stored (ns)."""
    found: dict[str, int] = {}
    with reading(engine) as session:
        for row in (BatchRow, ChunkRow):
            query = select(ConnectionRow.name, func.max(row.last_time)).join(row, row.connection_id == ConnectionRow.id)
            for name, at in session.execute(query.group_by(ConnectionRow.name)):
                found[name] = max(found.get(name, 0), int(at))
    return found


def windows(engine: Engine, until: int) -> dict[int, list[tuple[int, str]]]:
    """By pipeline version: number and prediction id of every window that ended by then (ns), by numbers."""
    row = PredictionRow
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    ended = row.sequence.is_not(None) & (row.end_time <= until)
    query = select(row.version_id, row.sequence, row.id).where(ended).order_by(row.sequence)
    with reading(engine) as session:
        for version, sequence, key in session.execute(query):
            found[version].append((int(sequence or 0), key))
    return dict(found)


def overdue(engine: Engine, before: int) -> int:
    """Publications that were due before this time (ns) and that nobody has taken."""
    old = OutboxRow.sent_at.is_(None) & (OutboxRow.due_at < before)
    with reading(engine) as session:
        return int(session.scalar(select(func.count()).where(old)) or 0)


def unsent(engine: Engine, until: int) -> int:
    """Numbered windows that ended by then (ns) and whose answer nobody has taken."""
    row = PredictionRow
    taken = select(OutboxRow.publication_id).where(OutboxRow.sent_at.is_not(None))
    query = select(func.count()).where(row.sequence.is_not(None), row.end_time <= until, row.id.not_in(taken))
    with reading(engine) as session:
        return int(session.scalar(query) or 0)


def published(engine: Engine) -> dict[str, int | None]:
    """By publication id: when the peer has taken it (ns); None when it has not."""
    with reading(engine) as session:
        rows = session.execute(select(OutboxRow.publication_id, OutboxRow.sent_at))
        return {row.publication_id: row.sent_at for row in rows}


def arrival(engine: Engine, connection: str) -> tuple[int, int]:
    """Of the newest batch of this connection that is stored: when it arrived, and its newest source time (ns)."""
    query = select(BatchRow.received_time, BatchRow.last_time).join(
        ConnectionRow, BatchRow.connection_id == ConnectionRow.id
    )
    newest = query.where(ConnectionRow.name == connection).order_by(BatchRow.epoch.desc(), BatchRow.number.desc())
    with reading(engine) as session:
        row = session.execute(newest.limit(1)).one_or_none()
    return (0, 0) if row is None else (row.received_time, row.last_time)


def newest_window(engine: Engine) -> int:
    """When the newest window that is stored ended (ns); 0 without any."""
    with reading(engine) as session:
        return int(session.scalar(select(func.max(PredictionRow.end_time))) or 0)
