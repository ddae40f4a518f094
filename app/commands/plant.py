"""`headrace init`, `check`, `apply`, `schema`: the plant file."""

from __future__ import annotations

import getpass
import json
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands import remote, verdicts
from app.commands.console import as_json, chinese, err, fail, mistakes, out, t, table
from app.commands.running import Data, choose_data
from app.config import portable, template
from app.config.activate import Gate
from app.config.check import check_file, check_text
from app.config.document import DocumentError
from app.config.jsonschema import plant_schema
from app.db import make_engine, upgrade
from app.plant import queries, service
from app.settings import settings
from app.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Engine

    from app.config.desired import Desired

SQLITE: Final = "sqlite:///"
SCHEMA: Final = "plant.schema.json"
MAX_REASON: Final = 500
File = Annotated[Path, typer.Argument(help="The plant file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def database(*, make: bool = True) -> Iterator[Engine]:
    """The database of this box, brought to the newest schema; unless `make`, only one that is there."""
    url = settings().database()
    if make:
        upgrade(url)
    elif url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).exists():
        raise fail(t("No database in {data}: run `headrace up` first.", data=settings().data_dir))
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
    """Write an annotated plant.yaml, and beside it the JSON Schema that editors complete it with."""
    if file.exists() and not force:
        raise fail(t("{file} is there already; it is left as it is. Use --force to replace it.", file=file))
    file.write_text(template.text(), encoding="utf-8")
    file.with_name(SCHEMA).write_text(schema_text(), encoding="utf-8")
    out.print(t("{file} is written. Edit it, then: headrace check {file}", file=file), markup=False)


def _report(error: DocumentError, file: Path, *, json_wanted: bool) -> typer.Exit:
    if json_wanted:
        as_json({"good": False, "mistakes": [asdict(one) for one in error.mistakes]})
        return typer.Exit(1)
    return mistakes(error, file)


def check(file: File, *, json_: Json = False) -> None:
    """Check a plant file: every mistake at once, with its line."""
    with tempfile.TemporaryDirectory(prefix="headrace-check-") as store:
        try:
            desired = check_file(file, Path(store))
        except DocumentError as error:
            raise _report(error, file, json_wanted=json_) from error
        found = portable.judged(desired)
    refusing = [*portable.refusing(desired, found)]
    counts = {"connections": len(desired.connections), "tags": len(desired.tags), "pipelines": len(desired.pipelines)}
    if json_:
        as_json({"good": True, **counts, **verdicts.as_members(found, refusing)})
        return
    out.print(
        t("{file} is good: {connections} connections, {tags} tags, {pipelines} pipelines.", file=file, **counts),
        markup=False,
    )
    verdicts.told(found, refusing)


def show_changes(changes: Sequence[service.Change]) -> None:
    """Print a difference as a table."""
    rows = [(one.kind, one.name, one.what, one.detail) for one in changes]
    table(t("This would change:"), [t("kind"), t("name"), t("what"), t("detail")], rows)


def activated(engine: Engine, desired: Desired, who: str, override: str = "") -> dict[str, str]:
    """Every model that is new to its pipeline passes its check, or nothing is applied, unless somebody says why.

    Returns the pipelines that did not pass, with what was said.
    """
    refused = {}
    for one in Gate(engine, models_folder(), who).refusals(desired):
        said = t("The model check failed for {pipeline}: {reason}", pipeline=one.pipeline,
                 reason=one.zh if chinese() else one.en)  # fmt: skip
        if not override.strip():
            raise fail(said)
        err.print(said, style="yellow", markup=False)
        refused[one.pipeline] = override.strip()[:MAX_REASON]
    return refused


def apply_file(engine: Engine, file: Path, who: str) -> service.Applied:
    """Check, check the models, apply: no questions. DocumentError, typer.Exit."""
    desired = check_file(file, models_folder())
    return service.apply(engine, desired, who, activated(engine, desired, who))


def apply(  # noqa: PLR0913 - a command's options
    file: Annotated[Path | None, typer.Argument(help="The plant file.")] = None,
    *,
    override: Annotated[
        str,
        typer.Option(help="Put pipelines in force though their model does not pass its check: why; it is audited."),
    ] = "",
    revision: Annotated[int | None, typer.Option(help="Bring back an earlier revision instead of a file.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference only.")] = False,
    json_: Json = False,
    data: Data = None,
    url: Annotated[str | None, typer.Option(help="A running gateway's address instead of a data folder.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="Holds the API token; else HEADRACE_TOKEN.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Who signed the gateway's certificate.")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Allow http to another machine.")] = False,
) -> None:
    """Make the gateway equal to a plant file; the difference is shown first."""
    if json_ and not (yes or dry_run):
        raise fail(t("--json asks nothing: add --yes or --dry-run."), 2)
    if url is not None:
        if file is None:
            raise fail(t("--url takes a plant file."), 2)
        asked = _Asked(file, yes=yes, dry_run=dry_run, json_wanted=json_, override=override)
        _apply_over(url, token_file, ca_file, asked, plain=plain_http)
        return
    choose_data(data)
    with database() as engine:
        desired = _wanted(engine, file, revision, json_wanted=json_)
        more = _judged(desired, json_wanted=json_)
        changes = service.difference(engine, desired)
        number = queries.number(engine)
        if not (changes and _go_on(changes, number, yes=yes, dry_run=dry_run, json_wanted=json_)):
            _unchanged(changes, number, more, json_wanted=json_)
            return
        who = getpass.getuser()
        refused = activated(engine, desired, who, override)
        applied = service.apply(engine, desired, who, refused)
    _done(applied.number, applied.changes, sorted(refused), more, json_wanted=json_)


def _judged(desired: Desired, *, json_wanted: bool) -> Mapping[str, object]:
    """Tell what devices will do with the models; for JSON, what is to be told in it."""
    found = portable.judged(desired)
    refusing = [*portable.refusing(desired, found)]
    if json_wanted:
        return verdicts.as_members(found, refusing)
    verdicts.told(found, refusing)
    return {}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an apply over the network was asked to do."""

    file: Path
    yes: bool
    dry_run: bool
    json_wanted: bool
    override: str


def _apply_over(url: str, token_file: Path | None, ca_file: Path | None, asked: _Asked, *, plain: bool) -> None:
    try:
        gateway = remote.Gateway(url, remote.token(token_file), ca_file, plain=plain)
        with remote.prepared(asked.file) as (desired, sent):
            more = _judged(desired, json_wanted=asked.json_wanted)
        would = gateway.ask("PUT", "/api/v1/plant?dry_run=true", sent)
        changes = [service.Change(**one) for one in would["changes"]]
        wanted = changes and _go_on(
            changes, would["number"], yes=asked.yes, dry_run=asked.dry_run, json_wanted=asked.json_wanted
        )
        if not wanted:
            _unchanged(changes, would["number"], more, json_wanted=asked.json_wanted)
            return
        applied = gateway.ask("PUT", "/api/v1/plant", {**sent, "override": asked.override.strip()[:MAX_REASON]})
    except DocumentError as error:
        raise _report(error, asked.file, json_wanted=asked.json_wanted) from error
    except (remote.RemoteError, OSError) as error:
        for line in getattr(error, "errors", ()):
            err.print(f"{asked.file}:{line}", markup=False)
        raise fail(str(error)) from error
    changes = [service.Change(**one) for one in applied["changes"]]
    _done(applied["number"], changes, applied.get("overridden", []), more, json_wanted=asked.json_wanted)


def _go_on(changes: Sequence[service.Change], number: int, *, yes: bool, dry_run: bool, json_wanted: bool) -> bool:
    """Show a difference and ask; False when it is only to be shown."""
    if not json_wanted:
        show_changes(changes)
    if dry_run:
        return False
    if not yes and not typer.confirm(t("Apply these changes to revision {number}?", number=number)):
        raise fail(t("Nothing was changed."))
    return True


def _done(
    number: int, changes: Sequence[service.Change], refused: Sequence[str], more: Mapping[str, object], *,
    json_wanted: bool,
) -> None:
    """`more`: further members of the JSON."""
    if json_wanted:
        as_json({"revision": number, "changes": [asdict(one) for one in changes], "overridden": list(refused), **more})
        return
    out.print(t("Revision {number} is in force.", number=number))
    for pipeline in refused:
        said = t("{pipeline} runs without a certificate: its answers are Uncertain.", pipeline=pipeline)
        out.print(said, style="yellow", markup=False)


def _unchanged(
    changes: Sequence[service.Change], number: int, more: Mapping[str, object], *, json_wanted: bool
) -> None:
    if json_wanted:
        as_json({"revision": number, "changes": [asdict(one) for one in changes], **more})
    elif not changes:
        out.print(t("No changes: revision {number} is in force.", number=number))


def _wanted(engine: Engine, file: Path | None, revision: int | None, *, json_wanted: bool) -> Desired:
    if (file is None) == (revision is None):
        raise fail(t("Give either a file or --revision."), 2)
    try:
        if file is not None:
            return check_file(file, models_folder())
        row = queries.revision(engine, revision)
        if row is None:
            raise fail(t("There is no revision {number}.", number=revision))
        return check_text(row.document, row.file, models_folder())
    except DocumentError as error:
        raise _report(error, file or Path(f"revision-{revision}"), json_wanted=json_wanted) from error


def revisions(*, json_: Json = False, data: Data = None) -> None:
    """List every plant file that was applied; `apply --revision` brings one back."""
    choose_data(data)
    with database(make=False) as engine:
        rows = [(row.number, rfc3339(row.applied_at), row.applied_by, row.digest) for row in queries.revisions(engine)]
    if json_:
        as_json([dict(zip(("number", "applied_at", "applied_by", "digest"), row, strict=True)) for row in rows])
    else:
        columns = [t(one) for one in ("revision", "applied at", "by", "digest")]
        table("", columns, [(*row[:3], row[3][:19]) for row in rows], numbers=(0,))


def schema() -> None:
    """Print the JSON Schema of plant.yaml, for editors."""
    sys.stdout.write(schema_text())


def schema_text() -> str:
    """The JSON Schema as it lies in the documents."""
    return json.dumps(plant_schema(), indent=2, ensure_ascii=False) + "\n"
