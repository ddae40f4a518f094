"""What health and metrics ask the database."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import func, literal_column, select
from sqlalchemy.exc import SQLAlchemyError

from app.db import reading
from app.events.tables import EventRow
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.pipelines.tables import PipelineRow
from app.retention.tables import RemovalRow
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
    """Pipeline, refused or not, how many there ever were: what was removed by its age counts."""
    # Written into the statement: PostgreSQL does not group by an expression with a parameter of its own.
    refused = PredictionRow.reason != literal_column("''")
    query = (
        select(PipelineRow.name, refused, func.count())
        .select_from(PredictionRow)
        .join(PipelineRow, PipelineRow.id == PredictionRow.pipeline_id)
        .group_by(PipelineRow.name, refused)
    )
    with reading(engine) as session:
        counts = Counter({(name, bool(became)): int(n) for name, became, n in session.execute(query)})
        removed = select(RemovalRow.whose, RemovalRow.rows).where(RemovalRow.kind == "predictions")
        names = {str(row.id): row.name for row in session.execute(select(PipelineRow.id, PipelineRow.name))}
        for whose, rows in session.execute(removed):
            pipeline, _, became = whose.partition(":")
            if pipeline in names:
                counts[names[pipeline], became == "refused"] += rows
    return [(name, became, n) for (name, became), n in counts.items()]


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
