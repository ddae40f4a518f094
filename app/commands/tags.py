"""`headrace tags export` and `import`: the tags of a plant file as a table, and a table into a plant file."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands.console import as_json, fail, mistakes, out, t, table
from app.commands.plant import Json
from app.config import document, sheets
from app.config.document import DocumentError
from app.config.tag_edit import EditError, edited
from app.config.tag_import import planned, tags_of
from app.config.tag_rows import attributes, cells_of
from app.durable import sync_folder

if TYPE_CHECKING:
    from app.config.document import Document
    from app.config.tag_import import Plan

Plant = Annotated[Path, typer.Argument(help="The plant file.")]
Sheet = Annotated[Path, typer.Argument(help="The table: .csv, .xlsx or .yaml.")]
MOST_SHOWN: Final = 200


def export(plant: Plant, file: Sheet, *, json_: Json = False) -> None:
    """Write every tag of a plant file into a table, groups spread out."""
    try:
        entries = [known.entry for known in tags_of(document.read(plant)).values()]
        sheets.write(file, [cells_of(one) for one in entries], [attributes(one) for one in entries])
    except DocumentError as error:
        raise mistakes(error, plant) from error
    except (sheets.SheetError, OSError) as error:
        raise fail(str(error)) from error
    if json_:
        as_json({"tags": len(entries), "file": str(file)})
    else:
        out.print(t("{count} tags are in {file}.", count=len(entries), file=file), markup=False)


def import_(
    plant: Plant,
    file: Sheet,
    *,
    connection: Annotated[str, typer.Option(help="Connection of rows that name none.")] = "",
    skip_wrong: Annotated[bool, typer.Option("--skip-wrong", help="Leave wrong rows out and take the others.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference only.")] = False,
    json_: Json = False,
) -> None:
    """Add and change tags of a plant file from a table; the difference is shown first, wrong rows all at once."""
    if json_ and not (yes or dry_run):
        raise fail(t("--json asks nothing: add --yes or --dry-run."), 2)
    try:
        before = document.read(plant)
        plan = planned(before, str(file), sheets.read(file), connection)
        after = edited(before, plan.edits) if plan.changes else before.text
    except DocumentError as error:
        raise mistakes(error, plant) from error
    except (sheets.SheetError, EditError) as error:
        raise fail(str(error)) from error
    stopped = bool(plan.mistakes) and not skip_wrong
    if json_:
        told = {"changes": [asdict(one) for one in plan.changes], "mistakes": [asdict(one) for one in plan.mistakes]}
        as_json({**told, "same": plan.same, "written": bool(plan.changes) and not (stopped or dry_run)})
    else:
        _show(plan, file)
    if stopped:
        raise fail(t("Nothing was changed."))
    if plan.changes and not dry_run:
        _write(before, plant, after, len(plan.changes), asked=yes, quiet=json_)


def _show(plan: Plan, file: Path) -> None:
    said = {"added": t("added"), "changed": t("changed")}
    rows = [(one.line, one.name, said[one.what], one.detail) for one in plan.changes]
    if rows:
        columns = [t(one) for one in ("line", "tag", "what", "detail")]
        table(t("This would change:"), columns, rows[:MOST_SHOWN], numbers=(0,))
    if len(rows) > MOST_SHOWN:
        out.print(t("… and {count} more.", count=len(rows) - MOST_SHOWN))
    out.print(t("{changed} rows change something, {same} change nothing.", changed=len(rows), same=plan.same))
    if plan.mistakes:
        mistakes(DocumentError(plan.mistakes), file)


def _write(before: Document, plant: Path, after: str, count: int, *, asked: bool, quiet: bool) -> None:
    if not asked and not typer.confirm(t("Write these changes into {file}?", file=plant)):
        raise fail(t("Nothing was changed."))
    if document.read(plant).text != before.text:
        raise fail(t("{file} was changed meanwhile: try again.", file=plant))
    target = plant.resolve()
    with tempfile.NamedTemporaryFile("wb", dir=target.parent, prefix=f".{plant.name}.", delete=False) as made:
        made.write(after.encode())
        made.flush()
        os.fsync(made.fileno())
    fresh = Path(made.name)
    fresh.chmod(target.stat().st_mode & 0o7777)
    fresh.replace(target)
    sync_folder(target.parent)
    if not quiet:
        done = t("{count} tags were written into {file}. Then: headrace apply {file}", count=count, file=plant)
        out.print(done, markup=False)
