"""The outbox as a publisher sees it: what is due for whom, and what the peer has taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, select, update

from app import times
from app.access.tables import TokenRow
from app.db import reading, writing
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.sources.service import opened
from connectors import NodeValue, Publication

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Engine, Row


KEEP_SENT_S: Final = 24 * 3600
KEEP_ENDED_S: Final = 30 * 24 * 3600
"""An ended token stays as long as its owner may ask what it was."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A northbound consumer's standing order as it is to be run."""

    id: int
    name: str
    connector: str
    options: Mapping[str, object] = field(repr=False)
    """With secrets in the clear."""
    topic: str
    revision: int
    problem: str = ""
    """Why it cannot be run; empty when it can."""


@dataclass(frozen=True, slots=True)
class Due:
    """One row of the outbox that its peer has not taken."""

    row: int
    subscription: int
    source_time: int
    attempts: int
    publication: Publication


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that its sink refused for a reason of its own."""

    row: int
    due_at: int
    """When to try again, ns."""
    error: str


_COLUMNS = (
    OutboxRow.id,
    OutboxRow.subscription_id,
    OutboxRow.publication_id,
    OutboxRow.key,
    OutboxRow.topic,
    OutboxRow.content_type,
    OutboxRow.body,
    OutboxRow.nodes,
    OutboxRow.retain,
    OutboxRow.source_time,
    OutboxRow.attempts,
)
_IS_DUE = and_(
    OutboxRow.subscription_id == bindparam("subscription"),
    OutboxRow.sent_at.is_(None),
    OutboxRow.due_at <= bindparam("now"),
)
_DUE = select(OutboxRow.id).where(_IS_DUE).order_by(OutboxRow.id).limit(bindparam("limit"))
_WHOLE = (
    select(*_COLUMNS)
    .where(_IS_DUE, OutboxRow.id >= bindparam("first"), OutboxRow.id <= bindparam("last"))
    .order_by(OutboxRow.id)
)
_SENT = (
    update(OutboxRow)
    .where(OutboxRow.id.in_(bindparam("rows", expanding=True)))
    .values(sent_at=bindparam("at"), error="", attempts=OutboxRow.attempts + 1)
)
ROWS_AT_ONCE: Final = 500
"""Of one statement: databases limit how many values it may have."""


def folder(data_dir: Path, subscription: int) -> str:
    """A subscription's own folder, for certificates and session state."""
    return str(data_dir / "subscriptions" / str(subscription))


def subscriptions(engine: Engine) -> dict[int, Subscription]:
    """Every enabled subscription by id."""
    with reading(engine) as session:
        rows = session.scalars(select(SubscriptionRow).where(SubscriptionRow.enabled.is_(True))).all()
        return {row.id: _subscription(row) for row in rows}


def _subscription(row: SubscriptionRow) -> Subscription:
    options, problem = opened(row.options or {})
    return Subscription(row.id, row.name, row.connector, options, row.topic, row.revision, problem)


def due(
    engine: Engine, now: int, wanted: Collection[int], limit: int, known: Collection[int] = ()
) -> list[Due]:
    """What is due at this time (ns), oldest first, for each of these subscriptions at most `limit` rows.

    Rows in `known` are left out; what they hold is not read again.
    """
    found: list[Due] = []
    with engine.connect() as connection:
        for subscription in wanted:
            of = {"subscription": subscription, "now": now}
            rows = connection.execute(_DUE, {**of, "limit": limit + len(known)}).scalars()
            fresh = [row for row in rows if row not in known][:limit]
            if fresh:
                span = {**of, "first": fresh[0], "last": fresh[-1]}
                mine = set(fresh)
                found += [_due(row) for row in connection.execute(_WHOLE, span) if row.id in mine]
    return found


def newest_sent(engine: Engine, subscription: int, limit: int = 2000) -> list[Due]:
    """Per key the last row the peer took, among the newest of them: what a peer that forgot must be shown again."""
    query = (
        select(*_COLUMNS)
        .where(OutboxRow.subscription_id == subscription, OutboxRow.sent_at.is_not(None))
        .order_by(OutboxRow.id.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        found = [_due(row) for row in connection.execute(query)]
    newest: dict[str, Due] = {}
    for one in found:
        newest.setdefault(one.publication.key, one)
    return list(reversed(newest.values()))


def _due(row: Row[Any]) -> Due:
    nodes = tuple(NodeValue(**one) for one in row.nodes or ())
    made = Publication(row.publication_id, row.key, row.topic, row.body, row.content_type, nodes, row.retain)
    return Due(row.id, row.subscription_id, row.source_time, row.attempts, made)


def settle(engine: Engine, sent: Mapping[int, int], failed: Sequence[Failure]) -> None:
    """Mark rows as taken by their peer (row id -> ns), and put off those that failed, in one transaction."""
    with writing(engine) as session:
        together: dict[int, list[int]] = {}
        for row, at in sent.items():
            together.setdefault(at, []).append(row)
        for at, rows in together.items():
            for start in range(0, len(rows), ROWS_AT_ONCE):
                some = rows[start : start + ROWS_AT_ONCE]
                session.connection().execute(_SENT, {"rows": some, "at": at})
        for one in failed:
            session.execute(
                update(OutboxRow)
                .where(OutboxRow.id == one.row)
                .values(due_at=one.due_at, error=one.error[:1000], attempts=OutboxRow.attempts + 1),
            )


def retain(engine: Engine) -> None:
    """Remove outbox rows sent more than a day ago, and tokens that ended more than a month ago."""
    now = times.now()
    with writing(engine) as session:
        session.execute(delete(OutboxRow).where(OutboxRow.sent_at < now - KEEP_SENT_S * times.NANOS))
        session.execute(delete(TokenRow).where(TokenRow.expires_at < now - KEEP_ENDED_S * times.NANOS))
