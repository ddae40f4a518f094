"""The figures of a demo: its live line and its report, read from the database and the gateway's own status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from sqlalchemy import func, select

from app import live
from app.commands.show import ledger_view
from app.db import reading
from app.events.tables import EventRow
from app.health import service as health
from app.ledger import service as ledger
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.scoring.tables import PredictionRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.launcher.supervisor import Status


class Line(msgspec.Struct, frozen=True):
    """What the live line shows."""

    rate: float
    predictions: int
    score: float | None
    events: int
    balanced: bool | None
    """None before a gateway has counted."""


class Report(msgspec.Struct, frozen=True):
    """What `headrace demo --report` writes."""

    ready_s: float
    """Until every process answered."""
    first_prediction_s: float | None
    readings: dict[str, int]
    """By connection."""
    predictions: dict[str, dict[str, int]]
    """By pipeline: answered, refused, with_unit."""
    events: dict[str, int]
    """By rule."""
    met: list[str]
    """Pipelines whose answered windows held readings of several kinds of connector."""
    latency_ms: dict[str, float | None]
    """p50 and p99, newest source time in the window to taken by the MQTT broker."""
    ledger: dict[str, Any]
    processes: list[dict[str, Any]]


class Figures:
    """Reads figures of one run."""

    def __init__(self, engine: Engine, began: float) -> None:
        """`began`: time.monotonic() when the demo started."""
        self._engine = engine
        self._began = began
        self._first: float | None = None

    def line(self) -> Line:
        """The live line of now."""
        accounts = ledger.accounts(self._engine)
        with reading(self._engine) as session:
            predictions = session.scalar(select(func.count()).select_from(PredictionRow)) or 0
            events = session.scalar(select(func.count()).select_from(EventRow)) or 0
            newest = session.scalar(
                select(PredictionRow.outputs)
                .where(PredictionRow.reason == "")
                .order_by(PredictionRow.end_time.desc())
                .limit(1),
            )
        if predictions and self._first is None:
            self._first = time.monotonic() - self._began
        score = (newest or {}).get("score")
        return Line(
            rate=sum(one.readings_per_s for one in live.gateways()),
            predictions=predictions,
            score=score if isinstance(score, float) else None,
            events=events,
            balanced=all(one.balanced for one in accounts) if accounts else None,
        )

    def report(self, processes: Sequence[Status], ready_s: float) -> Report:
        """The figures of the whole run."""
        accounts = ledger.accounts(self._engine)
        with reading(self._engine) as session:
            events: dict[str, int] = {
                rule: int(n) for rule, n in session.execute(select(EventRow.rule, func.count()).group_by(EventRow.rule))
            }
            met, latency, units = _met(session), _latency(session), _units(session)
        predictions: dict[str, dict[str, int]] = {}
        for name, refused, count in health.prediction_counts(self._engine):
            predictions.setdefault(name, {"answered": 0, "refused": 0})["refused" if refused else "answered"] = count
        for name, count in units.items():
            predictions[name]["with_unit"] = count
        return Report(
            ready_s=round(ready_s, 2),
            first_prediction_s=None if self._first is None else round(self._first, 2),
            readings={one.name: one.read for one in accounts},
            predictions=predictions,
            events=events,
            met=met,
            latency_ms=latency,
            ledger={
                "balanced": all(one.balanced for one in accounts),
                "connections": [ledger_view(one) for one in accounts],
            },
            processes=[
                {
                    "name": p.name,
                    "pid": p.pid,
                    "restarts": p.restarts,
                    "cpu_s": round(p.cpu_s, 2),
                    "rss_mb": round(p.rss_bytes / 2**20, 1),
                }
                for p in processes
            ],
        )


def _met(session: Session) -> list[str]:
    """Pipelines with answers whose inputs come over several kinds of connector: each window needs all of its inputs."""
    query = select(ConnectionRow.id, ConnectionRow.connector)
    kinds = {row.id: row.connector for row in session.execute(query)}
    answered = (
        select(PipelineRow.name, PipelineVersionRow.spec)
        .select_from(PipelineVersionRow)
        .join(PipelineRow, PipelineRow.id == PipelineVersionRow.pipeline_id)
        .where(PipelineVersionRow.id.in_(select(PredictionRow.version_id).where(PredictionRow.reason == "")))
    )
    return sorted(
        name
        for name, spec in session.execute(answered)
        if len({kinds.get(one["connection"], "") for one in spec["inputs"]}) > 1
    )


def _latency(session: Session) -> dict[str, float | None]:
    query = (
        select(OutboxRow.sent_at - OutboxRow.source_time)
        .select_from(OutboxRow)
        .join(SubscriptionRow, SubscriptionRow.id == OutboxRow.subscription_id)
        .where(SubscriptionRow.connector == "mqtt", OutboxRow.sent_at.is_not(None))
    )
    taken = np.array(session.scalars(query).all(), dtype=np.float64) / 1e6
    if not len(taken):
        return {"p50": None, "p99": None}
    return {"p50": round(float(np.percentile(taken, 50)), 1), "p99": round(float(np.percentile(taken, 99)), 1)}


def _units(session: Session) -> dict[str, int]:
    query = (
        select(PipelineRow.name, func.count())
        .select_from(PredictionRow)
        .join(PipelineRow, PipelineRow.id == PredictionRow.pipeline_id)
        .where(PredictionRow.unit_id.is_not(None))
        .group_by(PipelineRow.name)
    )
    return {name: int(n) for name, n in session.execute(query)}


def shortcomings(report: Report) -> list[str]:
    """What a good run has and this one lacks."""
    found = []
    if not report.met:
        found.append("no window with readings of both OPC UA and MQTT was answered")
    if not any(one["answered"] for one in report.predictions.values()):
        found.append("no prediction came out")
    if not report.ledger["balanced"]:
        found.append("the ledger does not balance")
    return found
