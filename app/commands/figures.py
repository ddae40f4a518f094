"""The figures of a demo: its live line and its report, read from the database and the gateway's own status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from app import live
from app.commands.show import ledger_view
from app.health import queries
from app.health import service as health
from app.ledger import service as ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.db import Engine
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
        predictions, events, outputs = queries.newest(self._engine)
        if predictions and self._first is None:
            self._first = time.monotonic() - self._began
        score = outputs.get("score")
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
        predictions: dict[str, dict[str, int]] = {}
        for name, refused, count in health.prediction_counts(self._engine):
            predictions.setdefault(name, {"answered": 0, "refused": 0})["refused" if refused else "answered"] = count
        for name, count in queries.with_unit(self._engine).items():
            predictions[name]["with_unit"] = count
        return Report(
            ready_s=round(ready_s, 2),
            first_prediction_s=None if self._first is None else round(self._first, 2),
            readings={one.name: one.read for one in accounts},
            predictions=predictions,
            events=queries.events_by_rule(self._engine),
            met=queries.met(self._engine),
            latency_ms=_latency(queries.published_after_ns(self._engine, "mqtt")),
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


def _latency(taken_ns: Sequence[int]) -> dict[str, float | None]:
    if not taken_ns:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(np.array(taken_ns, dtype=np.float64) / 1e6, (50, 99))
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


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
