"""Predictions over REST, each with its passport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from app import times
from app.access.api import Database, Viewer
from app.api import Cursor, From, Limit, Page, To, View, open_cursor, seal_cursor
from app.errors import Problem
from app.scoring import queries

router = APIRouter(prefix="/api/v1", tags=["predictions"])

_SEVERITY = ("Good", "Uncertain", "Bad", "Bad")


class Passport(View):
    """How the answer came about: exact input, model, device, backend and latency."""

    start: str
    end: str
    newest: str
    """Newest source time inside the window."""
    input_digest: str
    """SHA-256 of the exact window."""
    model_digest: str
    device_wanted: str
    device: str
    backend: str
    driver: str
    certificate: str
    """How model and device stood: `valid`, `changed`, `failed`, `unchecked`; empty where nothing ran."""
    certificate_id: int | None
    precision: str
    nodes: int
    nodes_on_device: int
    latency_ms: float
    received: str
    created: str
    journal: str
    epoch: int
    number: int
    """Journal record that closed the window."""


class PredictionView(View):
    """One prediction, or the tombstone that says why there is none."""

    id: str
    pipeline: str
    version: int
    sequence: int | None
    revision: int
    late: bool
    status: int
    """OPC UA StatusCode."""
    quality: str
    """Good, Uncertain or Bad: the status code's severity."""
    reason: str
    """Why there is no answer; empty when there is one."""
    reason_tag: str | None
    """Name of the input that it speaks of."""
    outputs: dict[str, Any]
    unit_id: str | None
    asset: str
    context: dict[str, Any]
    passport: Passport


def _view(found: queries.Found, names: Mapping[int, str]) -> PredictionView:
    row, pipeline, version = found
    tag = queries.tag_of(row.reason)
    passport = Passport(
        start=times.rfc3339(row.start_time),
        end=times.rfc3339(row.end_time),
        newest=times.rfc3339(row.newest_time),
        input_digest=row.input_digest,
        model_digest=row.model_digest,
        device_wanted=row.device_wanted,
        device=row.device,
        backend=row.backend,
        driver=row.driver,
        certificate=row.certificate,
        certificate_id=row.certificate_id,
        precision=row.precision,
        nodes=row.nodes,
        nodes_on_device=row.nodes_on_device,
        latency_ms=row.latency_ns / 1e6,
        received=times.rfc3339(row.received_time),
        created=times.rfc3339(row.created_time),
        journal=row.journal,
        epoch=row.epoch,
        number=row.number,
    )
    return PredictionView(
        id=row.id,
        pipeline=pipeline,
        version=version,
        sequence=row.sequence,
        revision=row.revision,
        late=row.late,
        status=row.status,
        quality=_SEVERITY[row.status >> 30],
        reason=row.reason,
        reason_tag=None if tag is None else names.get(tag),
        outputs=row.outputs or {},
        unit_id=row.unit_id,
        asset=row.asset,
        context=row.context or {},
        passport=passport,
    )


def instant(text: str | None, name: str) -> int | None:
    """A time of the query string in ns. Problem 422 says how to write one."""
    if text is None:
        return None
    try:
        return times.parse_time(text)
    except ValueError as error:
        problem = {"pointer": f"/query/{name}", "detail": str(error)}
        raise Problem(422, "invalid_request", "The request is not valid", str(error), errors=[problem]) from error


@router.get("/predictions", operation_id="listPredictions")
def predictions(
    _who: Viewer,
    engine: Database,
    *,
    pipeline: str | None = None,
    unit_id: str | None = None,
    since: From = None,
    until: To = None,
    refused: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[PredictionView]:
    """Predictions, newest window first."""
    key = open_cursor(cursor, 2)
    wanted = queries.Wanted(
        pipeline=pipeline,
        unit_id=unit_id,
        since=instant(since, "from"),
        until=instant(until, "to"),
        refused=refused,
        after=None if key is None else (int(key[0]), key[1]),
    )
    rows = queries.predictions(engine, wanted, limit)
    more = seal_cursor(rows[-1][0].end_time, rows[-1][0].id) if len(rows) == limit else None
    names = queries.tag_names(engine, rows)
    return Page(items=[_view(row, names) for row in rows], next=more)


@router.get("/predictions/{prediction_id}", operation_id="getPrediction")
def prediction(prediction_id: str, _who: Viewer, engine: Database) -> PredictionView:
    """One prediction by its id."""
    found = queries.prediction(engine, prediction_id)
    if found is None:
        raise Problem(404, "not_found", "There is no such prediction")
    return _view(found, queries.tag_names(engine, [found]))
