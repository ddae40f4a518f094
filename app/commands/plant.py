"""`headrace init`, `check`, `apply`, `schema`: the plant file."""

from __future__ import annotations

import getpass
import json
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.console import as_json, err, fail, out, t, table
from app.config import template
from app.config.activate import refusals
from app.config.check import check_file, check_text
from app.config.document import DocumentError
from app.config.jsonschema import plant_schema
from app.db import make_engine, upgrade
from app.plant import queries, service
from app.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from app.config.desired import Desired

File = Annotated[Path, typer.Argument(help="The plant file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def database() -> Iterator[Engine]:
    """The database of this box, brought to the newest schema."""
    url = settings().database()
    upgrade(url)
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def models_folder() -> Path:
    """Where models are kept by digest."""
    return settings().data_dir.resolve() / "models"


def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("plant.yaml"),
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write an annotated plant.yaml."""
    if file.exists() and not force:
        raise fail(t("{file} is there already; it is left as it is. Use --force to replace it.", file=file))
    file.write_text(template.text(), encoding="utf-8")
    out.print(t("{file} is written. Edit it, then: headrace check {file}", file=file), markup=False)


def _report(error: DocumentError, file: Path, *, json_wanted: bool) -> typer.Exit:
    if json_wanted:
        as_json({"good": False, "mistakes": [asdict(one) for one in error.mistakes]})
        return typer.Exit(1)
    for one in error.mistakes:
        err.print(str(one), markup=False)
    return fail(t("{count} mistakes in {file}.", count=len(error.mistakes), file=file))


def check(file: File, *, json_: Json = False) -> None:
    """Check a plant file: every mistake at once, with its line."""
    with tempfile.TemporaryDirectory(prefix="headrace-check-") as store:
        try:
            desired = check_file(file, Path(store))
        except DocumentError as error:
            raise _report(error, file, json_wanted=json_) from error
    counts = {"connections": len(desired.connections), "tags": len(desired.tags), "pipelines": len(desired.pipelines)}
    if json_:
        as_json({"good": True, **counts})
        return
    out.print(
        t("{file} is good: {connections} connections, {tags} tags, {pipelines} pipelines.", file=file, **counts),
        markup=False,
    )


def show_changes(changes: Sequence[service.Change]) -> None:
    """Print a difference as a table."""
    rows = [(one.kind, one.name, one.what, one.detail) for one in changes]
    table(t("This would change:"), [t("kind"), t("name"), t("what"), t("detail")], rows)


def activated(engine: Engine, desired: Desired) -> None:
    """Every model that is new to its pipeline passes its check, or nothing is applied."""
    for pipeline, reason in refusals(engine, desired, models_folder()):
        raise fail(t("The model check failed for {pipeline}: {reason}", pipeline=pipeline, reason=reason))


def apply_file(engine: Engine, file: Path, who: str) -> service.Applied:
    """Check, check the models, apply: no questions. DocumentError, typer.Exit."""
    desired = check_file(file, models_folder())
    activated(engine, desired)
    return service.apply(engine, desired, who)


def apply(
    file: Annotated[Path | None, typer.Argument(help="The plant file.")] = None,
    *,
    revision: Annotated[int | None, typer.Option(help="Bring back an earlier revision instead of a file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference only.")] = False,
    json_: Json = False,
) -> None:
    """Make the gateway equal to a plant file; the difference is shown first."""
    with database() as engine:
        desired = _wanted(engine, file, revision, json_wanted=json_)
        changes = service.difference(engine, desired)
        if not json_ and changes:
            show_changes(changes)
        if dry_run or not changes:
            _unchanged(engine, changes, json_wanted=json_)
            return
        activated(engine, desired)
        if not (yes or json_) and not typer.confirm(t("Apply these changes?")):
            raise fail(t("Nothing was changed."))
        applied = service.apply(engine, desired, getpass.getuser())
    if json_:
        as_json({"revision": applied.number, "changes": [asdict(one) for one in applied.changes]})
    else:
        out.print(t("Revision {number} is in force.", number=applied.number))


def _unchanged(engine: Engine, changes: Sequence[service.Change], *, json_wanted: bool) -> None:
    row = queries.revision(engine)
    number = row.number if row else 0
    if json_wanted:
        as_json({"revision": number, "changes": [asdict(one) for one in changes]})
    elif not changes:
        out.print(t("No changes: revision {number} is in force.", number=number))


def _wanted(engine: Engine, file: Path | None, revision: int | None, *, json_wanted: bool) -> Desired:
    if (file is None) == (revision is None):
        message = "give either a file or --revision"
        raise typer.BadParameter(message)
    try:
        if file is not None:
            return check_file(file, models_folder())
        row = queries.revision(engine, revision)
        if row is None:
            raise fail(t("There is no revision {number}.", number=revision))
        return check_text(row.document, row.file, models_folder())
    except DocumentError as error:
        raise _report(error, file or Path(f"revision-{revision}"), json_wanted=json_wanted) from error


def schema() -> None:
    """Print the JSON Schema of plant.yaml, for editors."""
    out.print(json.dumps(plant_schema(), indent=2, ensure_ascii=False), markup=False)
