"""Certificates over REST: what checks found, and how pipelines run."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.access.api import Database, Viewer
from app.api import View
from app.certificates import queries
from app.certificates.schemas import certificate_json, running_json
from app.errors import Problem
from app.models.queries import model as known_model

router = APIRouter(prefix="/api/v1", tags=["certificates"])


class CertificateView(View):
    """One check of one model on one device."""

    id: int
    model_digest: str
    device: str
    name: str
    backend: str
    driver: str
    precision: str
    outcome: str
    """`passed`, `failed`, `refused` (the device does not take the model) or `absent`."""
    passed: bool
    failures: list[dict[str, str]]
    """Each sentence by language."""
    golden: list[dict[str, Any]]
    golden_made_by: str
    placement: dict[str, Any]
    latency: list[dict[str, Any]]
    batch: int
    p99_ms: float | None
    taken_ms: int
    host: str
    at: str
    made_by: str
    occasion: str


class OverrideView(View):
    """Who put a pipeline in force without a certificate, and why."""

    who: str
    reason: str
    at: str


class RunningView(View):
    """A pipeline in force: where it was to run, where it ran last, and how model and device stand."""

    pipeline: str
    version: int
    model_digest: str
    devices: list[str]
    device_wanted: str
    device: str
    """Empty while nothing was answered yet; likewise the next two."""
    backend: str
    driver: str
    certificate: str | None
    """`valid`, `changed`, `failed` or `unchecked`; null while nothing was answered yet."""
    certificate_id: int | None
    trusted: bool
    """Whether answers are as good as their inputs; else they are Uncertain."""
    override: OverrideView | None


@router.get("/models/{digest}/certificates", operation_id="listCertificates")
def certificates(digest: str, _who: Viewer, engine: Database) -> list[CertificateView]:
    """Every check of one model, newest first."""
    if known_model(engine, digest) is None:
        raise Problem(404, "not_found", "There is no such model")
    return [CertificateView.model_validate(certificate_json(row)) for row in queries.certificates(engine, [digest])]


@router.get("/running", operation_id="listRunning")
def running(_who: Viewer, engine: Database) -> list[RunningView]:
    """Every pipeline in force: requested and actual device, and its certificate."""
    return [RunningView.model_validate(running_json(one)) for one in queries.running(engine)]
