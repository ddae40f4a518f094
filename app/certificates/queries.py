"""What is known of certificates: the standing of a subject, lists, and how pipelines in force run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from app.certificates.schemas import PRECISION, UNASKED, Standing, Subject
from app.certificates.tables import CertificateRow, OverrideRow
from app.db import reading, table
from app.pipelines import service as pipelines
from app.pipelines.tables import PipelineVersionRow
from app.scoring.tables import PredictionRow
from inference.devices import entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.pipelines.service import Version

MOST: Final = 1000
_NEWEST: Final = 100
"""Predictions looked at for one that a worker's own session made: windows that were refused name no device, those that
were run apart after a death name no certificate."""

_rows = table(CertificateRow)
_predictions = table(PredictionRow)


def standing(engine: Engine, subject: Subject) -> Standing:
    """How a subject stands now, by what was only ever added to."""
    with reading(engine) as session:
        return standing_in(session, subject)


def standing_in(session: Session, subject: Subject) -> Standing:
    """The same in a transaction."""
    of_model = _rows.c.model_digest == subject.model
    key = of_model & (_rows.c.device == subject.device) & (_rows.c.precision == subject.precision)
    columns = (_rows.c.id, _rows.c.passed, _rows.c.backend, _rows.c.driver)
    query = select(*columns).where(key & (_rows.c.outcome != "absent")).order_by(_rows.c.id.desc()).limit(MOST)
    found = session.execute(query).all()
    mine = next((row for row in found if (row.backend, row.driver) == (subject.backend, subject.driver)), None)
    if mine is not None:
        return Standing("valid" if mine.passed else "failed", mine.id)
    passed = next((row for row in found if row.passed), None)
    if passed is not None:
        return Standing("changed", passed.id)
    if found:
        return Standing("failed", found[0].id)
    ever = session.scalar(select(_rows.c.id).where(of_model, _rows.c.occasion.not_in(UNASKED)).limit(1))
    return Standing("unchecked", None, first=ever is None)


def newest(engine: Engine, model: str, device: str, precision: str = PRECISION) -> CertificateRow | None:
    """The newest check of a device, by its id or its vendor, whatever its driver was; those of none are left out."""
    row = CertificateRow
    named = (row.device == device) | row.device.startswith(f"{device}:", autoescape=True)
    mine = (row.model_digest == model) & named & (row.precision == precision) & (row.outcome != "absent")
    with reading(engine) as session:
        found = session.scalar(select(row).where(mine).order_by(row.id.desc()).limit(1))
        session.expunge_all()
    return found


def certificates(engine: Engine, models: Iterable[str] | None = None, limit: int = MOST) -> list[CertificateRow]:
    """Every certificate, newest first; `models`: of these digests only."""
    query = select(CertificateRow).order_by(CertificateRow.id.desc()).limit(limit)
    if models is not None:
        query = query.where(CertificateRow.model_digest.in_([*models]))
    with reading(engine) as session:
        rows = list(session.scalars(query))
        session.expunge_all()
    return rows


@dataclass(frozen=True, slots=True)
class Running:
    """A pipeline in force, the device that answered last, and how model and device stand now."""

    version: Version
    wanted: str
    """The first device of its order."""
    device: str
    """Empty while nothing was answered yet."""
    backend: str
    driver: str
    missed: str
    """The first device before it in the order that has passed its check before; empty where there is none."""
    standing: Standing | None
    override: OverrideRow | None
    """If it was put in force without a certificate. It says nothing any more once a check has passed."""


def running(engine: Engine) -> list[Running]:
    """Every pipeline in force that can be run, by name."""
    with reading(engine) as session:
        usable, _ = pipelines.in_force(session)
        found = [_running(session, version) for version in usable.values()]
        session.expunge_all()
    return sorted(found, key=lambda one: one.version.pipeline)


def _running(session: Session, version: Version) -> Running:
    of = _predictions.c
    newest = (
        select(of.device, of.backend, of.driver, of.precision, of.certificate)
        .where(of.version_id == version.id)
        .order_by(of.end_time.desc())
        .limit(_NEWEST)
    )
    made = next((row for row in session.execute(newest) if row.device and row.certificate), None)
    override = _override(session, version)
    wanted = version.spec.devices[0]
    if made is None:
        return Running(version, wanted, "", "", "", "", None, override)
    missed = _missed(session, version, made.device)
    subject = Subject(version.spec.model_digest, made.device, made.backend, made.driver, made.precision)
    stands = standing_in(session, subject)
    return Running(version, wanted, made.device, made.backend, made.driver, missed, stands, override)


def _missed(session: Session, version: Version, device: str) -> str:
    passed = select(_rows.c.device).where(_rows.c.model_digest == version.spec.model_digest, _rows.c.passed).distinct()
    able = set(session.scalars(passed))
    for wanted, _ in map(entry, version.spec.devices):
        if wanted in {device, device.partition(":")[0]}:
            return ""
        if any(wanted in {one, one.partition(":")[0]} for one in able):
            return wanted
    return ""


def _override(session: Session, version: Version) -> OverrideRow | None:
    """Of this pipeline and model; a version after it, with other rules, runs under the same one."""
    of = PipelineVersionRow
    mine = (of.pipeline_id == version.pipeline_id) & (of.model_digest == version.spec.model_digest)
    query = select(OverrideRow).join(of, of.id == OverrideRow.version_id).where(mine)
    return session.scalar(query.order_by(OverrideRow.id.desc()).limit(1))
