"""What a live line and a report ask the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from app.db import reading
from app.events.tables import EventRow
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.scoring.tables import PredictionRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from sqlalchemy import Engine


def newest(engine: Engine) -> tuple[int, int, dict[str, Any]]:
    """How many predictions and events there are, and the outputs of the newest answer."""
    outputs = (
        select(PredictionRow.outputs).where(PredictionRow.reason == "").order_by(PredictionRow.end_time.desc()).limit(1)
    )
    with reading(engine) as session:
        predictions = session.scalar(select(func.count()).select_from(PredictionRow)) or 0
        events = session.scalar(select(func.count()).select_from(EventRow)) or 0
        return predictions, events, session.scalar(outputs) or {}


def events_by_rule(engine: Engine) -> dict[str, int]:
    """How often each rule raised an event."""
    with reading(engine) as session:
        of_rules = select(EventRow.rule, func.count()).where(EventRow.source == "rule").group_by(EventRow.rule)
        found = session.execute(of_rules)
        return {rule: int(count) for rule, count in found}


def met(engine: Engine) -> list[str]:
    """Pipelines with answers whose inputs come over several kinds of connector: a window needs all of its inputs."""
    answered = (
        select(PipelineRow.name, PipelineVersionRow.spec)
        .select_from(PipelineVersionRow)
        .join(PipelineRow, PipelineRow.id == PipelineVersionRow.pipeline_id)
        .where(PipelineVersionRow.id.in_(select(PredictionRow.version_id).where(PredictionRow.reason == "")))
    )
    with reading(engine) as session:
        kinds = {row.id: row.connector for row in session.execute(select(ConnectionRow.id, ConnectionRow.connector))}
        return sorted(
            name
            for name, spec in session.execute(answered)
            if len({kinds.get(one["connection"], "") for one in spec["inputs"]}) > 1
        )


def published_after_ns(engine: Engine, connector: str) -> list[int]:
    """Newest source time behind it to taken by the peer, ns, for each publication over this connector."""
    query = (
        select(OutboxRow.sent_at - OutboxRow.source_time)
        .select_from(OutboxRow)
        .join(SubscriptionRow, SubscriptionRow.id == OutboxRow.subscription_id)
        .where(SubscriptionRow.connector == connector, OutboxRow.sent_at.is_not(None))
    )
    with reading(engine) as session:
        return [int(taken) for taken in session.scalars(query) if taken is not None]


def with_unit(engine: Engine) -> dict[str, int]:
    """Predictions that name their part, by pipeline."""
    query = (
        select(PipelineRow.name, func.count())
        .select_from(PredictionRow)
        .join(PipelineRow, PipelineRow.id == PredictionRow.pipeline_id)
        .where(PredictionRow.unit_id.is_not(None))
        .group_by(PipelineRow.name)
    )
    with reading(engine) as session:
        return {name: int(count) for name, count in session.execute(query)}
