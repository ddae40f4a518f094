"""The plant file over REST: what is in force, the difference a new one would make, and applying it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import Field, SecretStr

from app import times
from app.access.api import Database, Engineer, Viewer
from app.api import View
from app.config.activate import Gate, Refusal
from app.config.check import check_text
from app.config.document import MAX_BYTES, DocumentError
from app.config.secrets import MAX_SECRET
from app.errors import Problem
from app.plant import queries, service
from app.plant.tables import PlantRevisionRow
from app.settings import settings

router = APIRouter(prefix="/api/v1", tags=["plant"])


class RevisionView(View):
    """One applied plant file."""

    number: int
    digest: str
    applied_at: str
    applied_by: str


class PlantView(RevisionView):
    """The plant file in force; it holds references to secrets, never secrets."""

    document: str


class ChangeView(View):
    """One difference."""

    kind: str
    name: str
    what: str
    detail: str


class AppliedView(View):
    """What an apply did or would do."""

    number: int
    changes: list[ChangeView]
    dry_run: bool
    overridden: list[str] = []  # noqa: RUF012 - pydantic copies a default
    """Pipelines in force without a certificate."""


class NewPlant(View):
    """A plant file as text. Models are named by `digest`: a file on the client is not a file here."""

    document: Annotated[str, Field(max_length=MAX_BYTES)]
    secrets: Annotated[
        dict[Annotated[str, Field(max_length=500)], Annotated[SecretStr, Field(max_length=MAX_SECRET)]],
        Field(
            max_length=1000,
            description="What the file refers to, by `env:NAME` or `file:PATH`: this box looks at neither.",
        ),
    ] = {}  # noqa: RUF012 - pydantic copies a default
    override: Annotated[
        str,
        Field(
            max_length=500,
            description="Why pipelines are to be put in force though their model does not pass its check; audited.",
        ),
    ] = ""


def _revision(row: PlantRevisionRow) -> RevisionView:
    return RevisionView(
        number=row.number, digest=row.digest, applied_at=times.rfc3339(row.applied_at), applied_by=row.applied_by
    )


@router.get("/plant", operation_id="getPlant")
def plant(_who: Viewer, engine: Database) -> PlantView:
    """The plant file in force."""
    row = queries.revision(engine)
    if row is None:
        raise Problem(404, "not_found", "No plant file has been applied yet")
    return PlantView(**_revision(row).model_dump(), document=row.document)


@router.get("/plant/revisions", operation_id="listPlantRevisions")
def revisions(_who: Viewer, engine: Database) -> list[RevisionView]:
    """Every applied file, newest first."""
    return [_revision(row) for row in queries.revisions(engine)]


def _refused(one: Refusal) -> Problem:
    said = [{"pointer": "/document", "detail": text} for text in (one.en, one.zh)]
    return Problem(422, "model_check_failed", "The model check failed", f"{one.pipeline}: {one.en}", errors=said)


@router.put("/plant", operation_id="applyPlant")
def apply(
    body: Annotated[NewPlant, Body()],
    who: Engineer,
    engine: Database,
    *,
    dry_run: Annotated[bool, Query()] = False,
) -> AppliedView:
    """Make the gateway equal to a plant file. Problem 422 with every mistake, or with the model check's reason.

    References to files are refused: whoever may configure must not read this box's files through them.
    """
    store = settings().data_dir.resolve() / "models"
    sent = {reference: secret.get_secret_value() for reference, secret in body.secrets.items()}
    with tempfile.TemporaryDirectory(prefix="headrace-plant-") as nowhere:
        try:
            desired = check_text(body.document, str(Path(nowhere) / "plant.yaml"), store, sent)
        except DocumentError as error:
            errors = [
                {"pointer": f"/document:{m.line}:{m.column}", "detail": f"{m.message} {m.hint}".strip()}
                for m in error.mistakes
            ]
            raise Problem(422, "invalid_plant", "The plant file has mistakes", "See errors.", errors=errors) from error
    changes = service.difference(engine, desired)
    if not dry_run and changes:
        refused = {}
        for one in Gate(engine, store, who.name).refusals(desired):
            if not body.override.strip():
                raise _refused(one)
            refused[one.pipeline] = body.override.strip()
        applied = service.apply(engine, desired, who.name, refused)
        return AppliedView(
            number=applied.number, changes=[ChangeView.model_validate(c) for c in applied.changes], dry_run=False,
            overridden=sorted(refused),
        )  # fmt: skip
    return AppliedView(
        number=queries.number(engine), changes=[ChangeView.model_validate(c) for c in changes], dry_run=dry_run
    )
