"""What whoever writes the outbox reads first: who is told, and where the plant stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from app.northbound.schemas import Consumer, North
from app.northbound.tables import SubscriptionRow
from app.plant.queries import path_in_force

if TYPE_CHECKING:
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
