"""`headrace browse` and `read`: a peer's address space and its values; read-only, only a list asked for is saved."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.commands.console import as_json, fail, out, t, table
from app.commands.peers import (
    Mode,
    PasswordFile,
    Security,
    Trust,
    Url,
    User,
    ask,
    browsing,
    connector,
    credentials,
)
from app.commands.plant import Json
from app.commands.tag_list import TagList, named, write
from app.commands.walking import Walk, matches, walk
from app.times import rfc3339
from connectors import NO_TIME, Status

if TYPE_CHECKING:
    from app.commands.walking import Seen
    from connectors import Browser, Found

SEVERITY: Final = ("Good", "Uncertain", "Bad")
DEEP: Final = 16
LONGEST: Final = 60
Matching = Annotated[
    list[str] | None, typer.Option(help="Only names that match, e.g. 'Press/**/Temp*'; may be given again.")
]


def browse(  # noqa: PLR0913 - a command's options
    url: Url,
    address: Annotated[str, typer.Argument(help="Where to begin; a tag's address.")] = "",
    *,
    depth: Annotated[int | None, typer.Option(min=1, max=64, help="Levels; 1, or 16 with --match or --tags.")] = None,
    match: Matching = None,
    limit: Annotated[int, typer.Option(min=1, max=200_000, help="Most nodes to ask about.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="MQTT: how long to listen.")] = 10,
    tags: TagList = None,
    connection: Annotated[str, typer.Option(help="Connection to write into the tag list.")] = "",
    by_path: Annotated[bool, typer.Option("--by-path", help="Write addresses by browse path.")] = False,
    user: User = None,
    password_file: PasswordFile = None,
    security: Security = None,
    mode: Mode = None,
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Browse a peer level by level: name, type, unit, access, address; writes a tag list if asked to."""
    module = connector(url, "browse")
    given = credentials(
        module, user=user, password_file=password_file, security=security, mode=mode, trust=trust
    )
    deep = depth or (DEEP if match or tags else 1)

    async def looked() -> Walk:
        async with browsing(module.browse(url, seconds, **given)) as browser:
            return await walk(browser, address, deep, limit)

    found = ask(looked())
    seen = [one for one in found.in_order() if not match or any(matches(each, one.path) for each in match)]
    if not seen and found.notes:
        raise fail("; ".join(found.notes))
    if tags is not None:
        _list(tags, seen, connection or module.__name__.rpartition(".")[2], by_path=by_path, json_wanted=json_)
    if json_:
        as_json({"nodes": [{**asdict(one.node), "path": "/".join(one.path)} for one in seen], "notes": found.notes})
    else:
        _show(seen, found.notes, flat=bool(match))


def _list(file: Path, seen: list[Seen], connection: str, *, by_path: bool, json_wanted: bool) -> None:
    held = [one for one in seen if one.node.datatype and one.node.readable]
    entries = [
        {
            "name": name,
            "connection": connection,
            "address": (one.node.by_path if by_path else "") or one.node.address,
            "datatype": one.node.datatype,
            "unit": one.node.unit,
            "description": one.node.description,
            "options": dict(one.node.options),
        }
        for name, one in zip(named([one.path for one in held]), held, strict=True)
    ]
    write(file, entries, json_wanted=json_wanted)


def _show(seen: list[Seen], notes: list[str], *, flat: bool) -> None:
    rows = [
        (
            "/".join(one.path) if flat else "  " * (len(one.path) - 1) + one.path[-1],
            one.node.kind,
            one.node.peer_type,
            one.node.datatype,
            one.node.unit,
            ("r" if one.node.readable else "-") + ("w" if one.node.writable else "-") if one.node.datatype else "",
            ("+ " if one.node.has_children else "") + one.node.address,
            one.node.description[:LONGEST],
        )
        for one in seen
    ]
    columns = [t(c) for c in ("name", "kind", "type", "datatype", "unit", "access", "address", "description")]
    table("", columns, rows)
    for note in notes:
        out.print(f"· {note}", markup=False)


def read(  # noqa: PLR0913 - a command's options
    url: Url,
    addresses: Annotated[list[str], typer.Argument(help="Addresses of tags.")],
    *,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="MQTT: how long to listen.")] = 10,
    user: User = None,
    password_file: PasswordFile = None,
    security: Security = None,
    mode: Mode = None,
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Read values once: type, quality and source time; exit status 1 when one of them is Bad."""
    module = connector(url, "browse")
    given = credentials(
        module, user=user, password_file=password_file, security=security, mode=mode, trust=trust
    )

    async def asked() -> list[Found]:
        browser: Browser = module.browse(url, seconds, **given)
        async with browsing(browser):
            return await browser.read(addresses)

    found = ask(asked())
    if json_:
        as_json([asdict(one) for one in found])
    else:
        rows = [
            (
                one.address,
                one.datatype,
                one.value,
                one.unit,
                SEVERITY[Status.severity(one.status)],
                f"0x{one.status:08X}",
                "-" if one.source_time == NO_TIME else rfc3339(one.source_time),
            )
            for one in found
        ]
        columns = [t(c) for c in ("address", "type", "value", "unit", "quality", "status", "source time")]
        table("", columns, rows)
    if any(Status.severity(one.status) == Status.severity(Status.BAD) for one in found):
        raise typer.Exit(1)
