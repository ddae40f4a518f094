"""`headrace listen`: learn mode. Listens to a topic filter and proposes tags; only a list asked for is saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.console import as_json, out, t, table
from app.commands.peers import PasswordFile, Trust, User, ask, connector, credentials
from app.commands.plant import Json
from app.commands.tag_list import TagList, named, write

if TYPE_CHECKING:
    from connectors import Learned, Proposal


def listen(  # noqa: PLR0913 - a command's options
    url: Annotated[str, typer.Argument(help="mqtt://HOST:PORT or mqtts://HOST:PORT")],
    wanted: Annotated[str, typer.Argument(metavar="FILTER", help="Topic filter, e.g. 'plant/+/data/#'.")] = "#",
    *,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long to listen.")] = 30,
    propose: TagList = None,
    connection: Annotated[str, typer.Option(help="Connection to write into the tag list.")] = "",
    user: User = None,
    password_file: PasswordFile = None,
    trust: Trust = None,
    json_: Json = False,
) -> None:
    """Listen to a broker and propose tags: layout, address, type, unit, samples and rate of every value heard."""
    module = connector(url, "learn")
    given = credentials(module, user=user, password_file=password_file, trust=trust)
    if not json_:
        said = t("Listening to {wanted} for {seconds} s: nothing is published.", wanted=wanted, seconds=f"{seconds:g}")
        out.print(said, markup=False)
    found: Learned = ask(module.learn(url, wanted, seconds, **given))
    if propose is not None:
        usable = [one for one in found.proposals if one.usable]
        names = named([(*one.address.partition("#")[0].split("/"), one.name) for one in usable])
        where = connection or module.__name__.rpartition(".")[2]
        tags = [_tag(one, name, where) for one, name in zip(usable, names, strict=True)]
        write(propose, tags, json_wanted=json_)
    if json_:
        as_json(asdict(found))
    else:
        _show(found)


def _tag(one: Proposal, name: str, connection: str) -> dict[str, object]:
    return {
        "name": name,
        "connection": connection,
        "address": one.address,
        "datatype": one.datatype,
        "unit": one.unit,
        "options": dict(one.options),
    }


def _show(found: Learned) -> None:
    rows = [
        (
            one.address,
            one.layout,
            one.datatype,
            one.unit,
            ", ".join(one.samples[-3:])[:60],
            f"{one.per_second:.2f}",
            ("" if one.usable else "✗ ") + one.note,
        )
        for one in found.proposals
    ]
    columns = [t(c) for c in ("address", "layout", "datatype", "unit", "samples", "values/s", "note")]
    table("", columns, rows, numbers=(5,))
    out.print(t("Peer: {peer}", peer=found.peer), markup=False)
    for note in found.notes:
        out.print(f"· {note}", markup=False)
