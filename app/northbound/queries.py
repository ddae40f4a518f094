"""What whoever writes the outbox reads first: who is told, and where the plant stands; how subscriptions stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.db import reading
from app.northbound.schemas import Consumer, North
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.plant.queries import path_in_force

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


_CONSUMERS = (
    select(SubscriptionRow.id, SubscriptionRow.connector, SubscriptionRow.topic)
    .where(SubscriptionRow.enabled.is_(True))
    .order_by(SubscriptionRow.id)
)


def north(session: Session) -> North:
    """Every enabled subscription, and the plant's path in force."""
    consumers = tuple(Consumer(*row) for row in session.connection().execute(_CONSUMERS))
    return North(consumers, path_in_force(session) if consumers else "")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one subscription stands."""

    name: str
    connector: str
    topic: str
    enabled: bool
    due: int
    """Rows that its peer has not taken."""
    oldest_sent: int | None
    """ns: since when what it has taken is kept."""


def standing(engine: Engine) -> list[Standing]:
    """Every subscription, by name."""
    mine = OutboxRow.subscription_id == SubscriptionRow.id
    due = select(func.count()).where(mine, OutboxRow.sent_at.is_(None)).scalar_subquery()
    oldest = select(func.min(OutboxRow.sent_at)).where(mine).scalar_subquery()
    row = SubscriptionRow
    query = select(row.name, row.connector, row.topic, row.enabled, due, oldest).order_by(row.name)
    with reading(engine) as session:
        return [Standing(*found) for found in session.execute(query)]
