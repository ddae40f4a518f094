"""`headrace try URL`: a read-only look at a foreign plant; nothing is saved."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.commands.console import as_json, out, t, table
from app.commands.peers import ask, connector, credentials
from connectors import Look, Status

SEVERITY = ("Good", "Uncertain", "Bad")


def attempt(
    url: Annotated[str, typer.Argument(help="opc.tcp://HOST:PORT, mqtt://HOST:PORT or sparkplug://HOST:PORT")],
    *,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long to look.")] = 60,
    user: Annotated[str | None, typer.Option(help="User name.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="File that holds the password.", exists=True)] = None,
    trust: Annotated[str | None, typer.Option("--trust", help="SHA-256 fingerprint of the peer's certificate.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at a foreign plant: tags, types, quality, clock offset, rates, and the load it caused."""
    module = connector(url, "look")
    given = credentials(module, user=user, password_file=password_file)
    if trust is not None:
        given["fingerprint"] = trust
    if not json_:
        out.print(
            t("Looking at {url} for {seconds} s: read-only, nothing is saved.", url=url, seconds=f"{seconds:g}"),
            markup=False,
        )
    found: Look = ask(module.look(url, seconds, **given))
    if json_:
        as_json(asdict(found))
    else:
        _show(found)


def _show(found: Look) -> None:
    rows = [
        (
            one.name,
            one.address,
            one.datatype,
            one.value[:40],
            SEVERITY[Status.severity(one.status)],
            one.unit,
            f"{one.changes / found.seconds:.2f}" if found.seconds else "-",
        )
        for one in found.found
    ]
    columns = [t(one) for one in ("tag", "address", "type", "value", "quality", "unit", "changes/s")]
    table("", columns, rows, numbers=(6,))
    out.print(t("Peer: {peer}", peer=found.peer), markup=False)
    offset = found.clock_offset_ns
    out.print(
        t("Clock offset: unknown")
        if offset is None
        else t("Clock offset: {offset} ms (peer minus us)", offset=f"{offset / 1e6:.1f}")
    )
    out.print(
        t(
            "Load caused: {requests} requests, {bytes} bytes received in {seconds:.1f} s",
            requests=found.requests,
            bytes=found.bytes_received,
            seconds=found.seconds,
        )
    )
    for note in found.notes:
        out.print(f"· {note}", markup=False)
