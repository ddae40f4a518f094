"""What health and metrics ask the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.db import reading
from app.events.tables import EventRow
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.pipelines.tables import PipelineRow
from app.scoring.tables import PredictionRow

if TYPE_CHECKING:
    from sqlalchemy import Engine


def database_answers(engine: Engine) -> str:
    """Empty when the database answers, else what it said, without the URL."""
    try:
        with reading(engine) as session:
            session.execute(select(1))
    except SQLAlchemyError as error:
        return type(error.__cause__ or error).__name__
    return ""


def prediction_counts(engine: Engine) -> list[tuple[str, bool, int]]:
    """Pipeline, refused or not, how many."""
    query = (
        select(PipelineRow.name, PredictionRow.reason != "", func.count())
        .select_from(PredictionRow)
        .join(PipelineRow, PipelineRow.id == PredictionRow.pipeline_id)
        .group_by(PipelineRow.name, PredictionRow.reason != "")
    )
    with reading(engine) as session:
        return [(name, bool(refused), int(n)) for name, refused, n in session.execute(query)]


def active_events(engine: Engine) -> int:
    """Alarms of rules and of the box itself that are active now."""
    mine = (EventRow.source != "plant") & EventRow.cleared_at.is_(None)
    with reading(engine) as session:
        return int(session.scalar(select(func.count()).where(mine)) or 0)


def outbox_due(engine: Engine) -> list[tuple[str, int]]:
    """Subscription, rows that its peer has not taken."""
    query = (
        select(SubscriptionRow.name, func.count(OutboxRow.id))
        .select_from(SubscriptionRow)
        .outerjoin(OutboxRow, (OutboxRow.subscription_id == SubscriptionRow.id) & OutboxRow.sent_at.is_(None))
        .group_by(SubscriptionRow.name)
    )
    with reading(engine) as session:
        return [(name, int(n)) for name, n in session.execute(query)]
