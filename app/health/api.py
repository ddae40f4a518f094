"""Live, ready, and figures for Prometheus."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric

from app import live, workers
from app.access.api import Database, Viewer, principal
from app.access.schemas import Principal
from app.certificates import queries as certificates
from app.health import service
from app.ledger import service as ledger
from app.retention import service as retention

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from app.serving.service import Serving

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="isAlive")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="isReady")
def ready(engine: Database) -> JSONResponse:
    """Whether every part answers; 503 and the part's name when one does not."""
    gateways = live.gateways()
    parts = {
        "database": service.database_answers(engine) or "ok",
        "queue": live.queue_answers() or "ok",
        "gateway": "ok" if gateways else "no gateway has reported in the last seconds",
    }
    good = all(state == "ok" for state in parts.values())
    # A gateway that stands still goes on by itself, and one that drops does what it was told: both are ready.
    parts |= {f"journal of {one.gateway}": f"{one.journal_state} ({one.journal_policy})" for one in gateways}
    return JSONResponse({"status": "ok" if good else "not ready", "parts": parts}, 200 if good else 503)


@router.get("/api/v1/status", operation_id="getStatus")
def status(_who: Viewer) -> list[dict[str, Any]]:
    """What each gateway says of itself; empty when none has reported in the last seconds."""
    return [live.as_json(gateway) for gateway in live.gateways()]


@router.get("/api/v1/workers", operation_id="getWorkers")
def all_workers(_who: Viewer) -> list[dict[str, Any]]:
    """Which devices each worker has now; empty when none has reported in the last seconds."""
    return [workers.as_json(worker) for worker in workers.workers()]


def _ledger(engine: Engine) -> Iterator[Metric]:
    readings = CounterMetricFamily("headrace_readings", "Readings by fate.", labels=["connection", "fate"])
    held = GaugeMetricFamily(
        "headrace_readings_held", "Readings in the journal, not yet applied.", labels=["connection"]
    )
    balanced = GaugeMetricFamily(
        "headrace_ledger_balanced", "1 when read = stored + refused + dropped + held.", labels=["connection"]
    )
    at_places = CounterMetricFamily(
        "headrace_place_readings", "Readings by place in the plant and fate.", labels=["connection", "place", "fate"]
    )
    held_at_places = GaugeMetricFamily(
        "headrace_place_readings_held", "Readings of a place in the journal, not yet applied.",
        labels=["connection", "place"],
    )  # fmt: skip
    for account in ledger.accounts(engine):
        for fate in ("read", "stored", "refused", "dropped", "lost_by_peer"):
            readings.add_metric([account.name, fate], getattr(account, fate))
        held.add_metric([account.name], account.held)
        balanced.add_metric([account.name], int(account.balanced))
        for one in account.places:
            for fate in ledger.FATES:
                at_places.add_metric([account.name, one.place, fate], getattr(one, fate))
            held_at_places.add_metric([account.name, one.place], one.held)
    yield from (readings, held, balanced, at_places, held_at_places)


def _results(engine: Engine) -> Iterator[Metric]:
    predictions = CounterMetricFamily(
        "headrace_predictions", "Predictions and refused windows.", labels=["pipeline", "result"]
    )
    for pipeline, refused, count in service.prediction_counts(engine):
        predictions.add_metric([pipeline, "refused" if refused else "answered"], count)
    yield predictions
    removed = CounterMetricFamily("headrace_removed_rows", "Rows removed by their age.", labels=["kind"])
    for kind, rows in retention.removals(engine).items():
        removed.add_metric([kind], rows)
    yield removed
    yield GaugeMetricFamily("headrace_events_active", "Alarms active now.", value=service.active_events(engine))
    due = GaugeMetricFamily("headrace_outbox_due", "Publications that a peer has not taken.", labels=["subscription"])
    for subscription, count in service.outbox_due(engine):
        due.add_metric([subscription], count)
    yield due


def _certificates(engine: Engine) -> Iterator[Metric]:
    valid = GaugeMetricFamily(
        "headrace_certificate_valid",
        "1 when a valid certificate stands behind the answers of a pipeline, on the device that gave the last one.",
        labels=["pipeline", "wanted", "device", "state"],
    )
    for one in certificates.running(engine):
        if one.standing is not None:
            good = int(one.standing.state == "valid")
            valid.add_metric([one.version.pipeline, one.wanted, one.device, one.standing.state], good)
    yield valid


def gateways(reports: Sequence[live.GatewayLive]) -> Iterator[Metric]:
    """What they say of themselves. A connection that another one reads has its figures from there."""
    up = GaugeMetricFamily("headrace_connection_up", "1 while connected.", labels=["connection"])
    notes = GaugeMetricFamily(
        "headrace_connection_notes",
        "What an operator should look at though it works, such as a certificate that ends soon.",
        labels=["connection"],
    )
    size = GaugeMetricFamily("headrace_journal_bytes", "Journal on disk.", labels=["gateway"])
    stopped = GaugeMetricFamily(
        "headrace_journal_stopped", "1 while nothing is acknowledged: the disk, or the budget.", labels=["gateway"]
    )
    dropped = GaugeMetricFamily(
        "headrace_journal_dropped_readings",
        "Readings dropped since the gateway started, by the policy in force.",
        labels=["gateway", "policy"],
    )
    latency = GaugeMetricFamily(
        "headrace_latency_seconds",
        "Source time to taken by the peer, last minute.",
        labels=["gateway", "quantile"],
    )
    held = GaugeMetricFamily(
        "headrace_lease_held", "1 for the gateway that owns it, where there are several.", labels=["gateway", "lease"]
    )
    term_of = GaugeMetricFamily("headrace_lease_term", "Grows with each new owner.", labels=["lease"])
    terms: dict[str, int] = {}
    for gateway in reports:
        size.add_metric([gateway.gateway], gateway.journal_bytes)
        stopped.add_metric([gateway.gateway], int(gateway.journal_state.startswith("stopped")))
        dropped.add_metric([gateway.gateway, gateway.journal_policy], gateway.dropped)
        for quantile, value in (("0.5", gateway.latency_p50_ms), ("0.99", gateway.latency_p99_ms)):
            if value is not None:
                latency.add_metric([gateway.gateway, quantile], value / 1000)
        for lease in gateway.leases:
            held.add_metric([gateway.gateway, lease.name], int(lease.mine))
            terms[lease.name] = max(terms.get(lease.name, 0), lease.term)
        for connection in gateway.connections:
            if connection.state == live.STANDBY:
                continue
            up.add_metric([connection.name], int(connection.state == "connected"))
            notes.add_metric([connection.name], len(connection.notes))
    for name, term in terms.items():
        term_of.add_metric([name], term)
    yield from (up, notes, size, stopped, dropped, latency, held, term_of)


def devices(reports: Sequence[workers.WorkerLive]) -> Iterator[Metric]:
    """What the workers say of their devices."""
    usable = GaugeMetricFamily(
        "headrace_worker_devices", "Devices that a worker can use now.", labels=["worker", "device_class"]
    )
    lost = GaugeMetricFamily(
        "headrace_worker_devices_lost", "Devices that a worker had and has lost.", labels=["worker"]
    )
    for one in reports:
        lost.add_metric([one.name], len(one.lost))
        for device_class, count in sorted(Counter(device.partition(":")[0] for device in one.devices).items()):
            usable.add_metric([one.name, device_class], count)
    yield from (usable, lost)


def _serving(serving: Serving) -> Iterator[Metric]:
    labels = ["model", "version", "device"]
    requests = CounterMetricFamily("headrace_serving_requests", "Requests run for /v2.", labels=labels)
    rows = CounterMetricFamily("headrace_serving_rows", "Rows in them.", labels=labels)
    runs = CounterMetricFamily("headrace_serving_runs", "Runs they were joined into.", labels=labels)
    refused = CounterMetricFamily("headrace_serving_refused", "Requests sent away: too many waited.", labels=labels)
    busy = CounterMetricFamily("headrace_serving_busy_seconds", "Time in runs.", labels=labels)
    valid = GaugeMetricFamily(
        "headrace_serving_certificate_valid", "Whether the model was checked there as the device is now.", labels=labels
    )
    for one in serving.loaded():
        figures, name = one.batcher.figures, [one.version.name, one.version.version, one.choice.device.id]
        requests.add_metric(name, figures.requests)
        rows.add_metric(name, figures.rows)
        runs.add_metric(name, figures.runs)
        refused.add_metric(name, figures.refused)
        busy.add_metric(name, figures.busy_s)
        valid.add_metric(name, int(serving.admission.standing(one.subject).state == "valid"))
    yield from (requests, rows, runs, refused, busy, valid)


class _Now:
    """Collects when asked: but for what `/v2` does, the figures live in the database, not in this process."""

    def __init__(self, engine: Engine, serving: Serving) -> None:
        self._engine, self._offered = engine, serving

    def collect(self) -> Iterator[Metric]:
        yield from _ledger(self._engine)
        yield from _results(self._engine)
        yield from _certificates(self._engine)
        yield from gateways(live.gateways())
        yield from devices(workers.workers())
        yield from _serving(self._offered)


def _from_here(request: Request) -> bool:
    return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, engine: Database) -> Response:
    """Prometheus text; from another host only with a token."""
    if not _from_here(request):
        _: Principal = principal(request, engine)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Now(engine, request.app.state.serving))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
