"""`headrace history export` and `import`: readings into files and back, by tag and time."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from app import times
from app.commands.console import as_json, err, fail, out, t, table
from app.commands.plant import Json, database
from app.commands.running import Data, choose_data
from app.exchange import incoming
from app.exchange.files import FileError
from app.exchange.incoming import Target
from app.sources import queries as sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from app.exchange.incoming import Report
    from app.exchange.rows import Refused
    from app.sources.tables import TagRow

Sheet = Annotated[Path, typer.Argument(help="The file: .csv or .parquet.")]
ALL_TAGS: Final = 1_000_000
SHOWN: Final = 20
"""Refused rows that are shown; all of them are in the file of --refused."""


def export(
    file: Sheet,
    *,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Of this tag, by name; may be repeated. All tags without it.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this time, inclusive: RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Up to this time, exclusive: RFC 3339.")] = None,
    data: Data = None,
) -> None:
    """Write readings of the history into a file, tag after tag, in the order of time."""
    choose_data(data)
    start, end = _time(since, -times.LAST), _time(until, times.LAST)
    with database(make=False) as engine:
        known = {row.name: row.id for row, _ in _tags(engine)}
        unknown = [name for name in tag or () if name not in known]
        if unknown:
            raise fail(t("There is no tag {tag}.", tag=", ".join(unknown)))
        chosen = [(known[name], name) for name in (tag or known)]
        try:
            count, points = incoming.export(engine, file, chosen, start, end)
        except FileError as error:
            raise fail(t(error.text, **error.values)) from error
        except OSError as error:
            raise fail(str(error)) from error
    numbers = {"file": file, "readings": count, "tags": len(chosen)}
    said = t("{file}: {readings} readings of {tags} tags", **numbers)
    if points:
        said = t("{file}: {readings} readings and {points} points of {tags} tags", **numbers, points=points)
    out.print(said, markup=False)


def import_(
    file: Sheet,
    *,
    zone: Annotated[str | None, typer.Option(help="Of times that say none, e.g. Asia/Shanghai.")] = None,
    opc_classic: Annotated[
        bool, typer.Option("--opc-classic", help="The status is a quality of OPC Classic: 192 is Good, 0 is Bad.")
    ] = False,
    refused: Annotated[Path | None, typer.Option(help="Write every row that is refused into this CSV file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing, only say what would be stored.")] = False,
    json_: Json = False,
    data: Data = None,
) -> None:
    """Bring readings of a file into the history; what is there already is left out.

    Exit status 1 when any is refused.
    """
    choose_data(data)
    with database(make=False) as engine, ExitStack() as stack:
        tags = [row for row, _ in _tags(engine)]
        known = {row.name: Target(row.id, row.connection_id) for row in tags if row.connection_id}
        outputs = {row.name for row in tags if row.connection_id is None}
        try:
            tell = _teller(stack, refused)
            found = incoming.run(
                engine, file, known, tell, zone=_zone(zone), classic=opc_classic, outputs=outputs, dry=dry_run
            )
        except FileError as error:
            raise fail(t(error.text, **error.values)) from error
        except (OSError, UnicodeError) as error:
            raise fail(str(error)) from error
    _show(found, json=json_)
    if found.refused:
        raise typer.Exit(1)


def _show(found: Report, *, json: bool) -> None:
    if json:
        as_json({
            "rows": found.rows, "stored": found.stored, "repeated": found.repeated, "backwards": found.backwards,
            "refused": dict(found.refused), "first": found.first, "last": found.last,
        })  # fmt: skip
        return
    rows = [
        (t("rows"), found.rows),
        (t("stored"), found.stored),
        (t("there already, or twice in the file"), found.repeated),
        (t("of these stored, earlier than the one before"), found.backwards),
        *((f"{t('refused')}: {t(reason)}", count) for reason, count in sorted(found.refused.items())),
    ]  # fmt: skip
    table("", [t("what"), t("readings")], rows, numbers=range(1, 2))
    if found.stored:
        out.print(f"{times.rfc3339(found.first)} … {times.rfc3339(found.last)}", markup=False)


def _teller(stack: ExitStack, path: Path | None) -> Callable[[Refused], None]:
    """Shows the first rows that are refused, and writes all of them down where that is asked for."""
    shown = [0]
    writer = None
    if path is not None:
        writer = csv.writer(stack.enter_context(path.open("w", encoding="utf-8-sig", newline="")))
        writer.writerow(("line", "tag", "reason", "detail"))

    def tell(one: Refused) -> None:
        shown[0] += 1
        if shown[0] <= SHOWN:
            err.print(f"{one.line}: {one.tag} {t(one.reason)}: {one.detail}", markup=False)
        if writer is not None:
            writer.writerow((one.line, one.tag, one.reason, one.detail))

    return tell


def _tags(engine: Engine) -> list[tuple[TagRow, str | None]]:
    return sources.tags(engine, connection=None, search=None, after=0, limit=ALL_TAGS)


def _time(text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    try:
        return times.parse_time(text)
    except ValueError as error:
        raise fail(str(error)) from error


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise fail(t("There is no time zone {zone}: write a name such as Asia/Shanghai.", zone=name)) from error
