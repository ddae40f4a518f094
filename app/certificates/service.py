"""Runs the activation check, and writes certificates and overrides down."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from sqlalchemy import select

from app import times
from app.access.service import audit
from app.certificates.schemas import BATCH, PRECISION
from app.certificates.tables import CertificateRow, OverrideRow
from app.db import writing
from app.pipelines.tables import PipelineRow
from app.settings import settings
from app.texts import storable
from inference.certify import Examined, Request, examine
from inference.devices import entry
from inference.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.certificates.schemas import Occasion

def request(
    store: Path, model: str, device: str, *, precision: str = PRECISION, batch: int = BATCH, p99_ms: float | None = None
) -> Request:
    """A check of this model on this device, with engines and artefacts as the settings have them.

    `device`: an entry of a pipeline's order; a precision that stands behind it goes before `precision`.
    """
    here = settings()
    device, behind = entry(device)
    precision = behind if behind != PRECISION else precision
    folder = here.data_dir / "artefacts"
    return Request(
        store=str(store.resolve()), model=model, device=device, precision=precision, batch=batch,
        p99_limit_s=None if p99_ms is None else p99_ms / 1000, engines=here.engines,
        engine_memory_mb=here.engine_memory_mb, artefacts=str(folder.resolve()) if here.artefacts_mb else "",
        artefacts_bytes=here.artefacts_mb * MIB,
    )  # fmt: skip


def certify(
    engine: Engine, asked: Request, who: str, occasion: Occasion, check: Callable[[Request], Examined] = examine
) -> CertificateRow:
    """Check, in a child process for at most five minutes, and write down what was found, whatever it was."""
    found = check(asked)
    row = _row(asked, found, who, occasion)
    with writing(engine) as session:
        session.add(row)
        session.flush()
        detail = {"device": row.device, "precision": row.precision, "outcome": row.outcome, "certificate": row.id}
        audit(session, who, "model_checked", row.model_digest, detail)
        session.expunge(row)
    return row


def _row(asked: Request, found: Examined, who: str, occasion: Occasion) -> CertificateRow:
    measured: dict[int, int] = {one["batch"]: one["p99_ns"] for one in found.latency}
    whole = next(reversed(measured.values()), None)
    return CertificateRow(
        model_digest=asked.model,
        device=storable(found.device, 60),
        name=storable(found.name, 200),
        backend=storable(found.backend, 100),
        driver=storable(found.driver, 200),
        precision=asked.precision,
        outcome=found.outcome,
        passed=found.outcome == "passed",
        failures=[list(one) for one in found.failures],
        golden=list(found.golden),
        golden_made_by=storable(found.golden_made_by, 200),
        placement=found.placement,
        latency=list(found.latency),
        batch=asked.batch,
        p99_ns=measured.get(asked.batch, whole),
        taken_ms=round(found.taken_s * 1000),
        host=storable(platform.node(), 100),
        at=times.now(),
        made_by=storable(who, 100),
        occasion=occasion,
    )


def reason(row: CertificateRow) -> dict[str, str]:
    """Why it did not pass, for people, by language."""
    return {"en": "; ".join(en for en, _ in row.failures), "zh-CN": "；".join(zh for _, zh in row.failures)}


def override(session: Session, who: str, why: Mapping[str, str]) -> None:
    """Note, in the transaction that puts them in force, that pipelines run without a certificate: by whom and why."""
    for pipeline, text in why.items():
        version = session.scalar(select(PipelineRow.active_version).where(PipelineRow.name == pipeline))
        if version is not None:
            session.add(OverrideRow(version_id=version, reason=text, who=who, at=times.now()))
            audit(session, who, "certificate_overridden", pipeline, {"reason": text, "version": version})


def served_anyway(engine: Engine, who: str, model: str, detail: Mapping[str, str]) -> None:
    """Note that callers are answered by a model without a certificate, because the operator said why."""
    with writing(engine) as session:
        audit(session, who, "certificate_overridden", model, detail)
