"""`headrace endpoints URL`: what a server says of itself to anyone who asks; read-only, nothing is saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from app.commands.certificates import as_plain, show_certificate
from app.commands.console import as_json, out, t, table
from app.commands.peers import ask, connector
from connectors import Offer


def endpoints(
    url: Annotated[str, typer.Argument(help="opc.tcp://HOST:PORT")],
    *,
    timeout: Annotated[float, typer.Option(min=0.1, max=120, help="Seconds to wait for an answer.")] = 5,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the servers and endpoints a server offers, with security, log-in and certificate; it is only asked."""
    found: Offer = ask(connector(url, "offer").offer(url, timeout))
    if json_:
        as_json(_json(found))
    else:
        _show(found)


def _json(found: Offer) -> dict[str, Any]:
    plain = asdict(found)
    for one, shown in zip(found.endpoints, plain["endpoints"], strict=True):
        shown["certificate"] = as_plain(one.certificate) if one.certificate else None
    return plain


def _show(found: Offer) -> None:
    """The certificate once, where all endpoints show the same: a fingerprint is long."""
    for one in found.applications:
        rows = [(t("kind"), one.kind), (t("application URI"), one.uri), (t("address"), "\n".join(one.urls))]
        table("", [t("server"), one.name], rows)
    offered = [(one.policy, one.mode, one.level, ", ".join(one.tokens), one.url) for one in found.endpoints]
    columns = [t(c) for c in ("policy", "mode", "level", "log-in", "address")]
    table("", columns, offered, numbers=(2,))
    for certificate in dict.fromkeys(one.certificate for one in found.endpoints if one.certificate):
        show_certificate(t("server"), t("certificate"), certificate)
    for note in found.notes:
        out.print(f"· {note}", markup=False)
