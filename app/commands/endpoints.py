"""`headrace endpoints URL`: what a server says of itself to anyone who asks; read-only, nothing is saved."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer

import connectors
from app.commands.certificates import as_plain, show_certificate
from app.commands.console import as_json, fail, out, t, table
from app.commands.peers import connector
from connectors import Offer


def endpoints(
    url: Annotated[str, typer.Argument(help="opc.tcp://HOST:PORT")],
    *,
    timeout: Annotated[float, typer.Option(min=0.1, max=120, help="Seconds to wait for an answer.")] = 5,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the servers and endpoints a server offers, with security, log-in and certificate; it is only asked."""
    module = connector(url, "offer")
    try:
        found: Offer = asyncio.run(module.offer(url, timeout))
    except connectors.ConnectorError as error:
        raise fail(str(error)) from error
    except ValueError as error:
        raise fail(_said(error), 2) from error
    if json_:
        as_json(_json(found))
    else:
        _show(found)


def _said(error: ValueError) -> str:
    """What is wrong with the address; pydantic's own error holds a list."""
    errors: list[dict[str, Any]] = error.errors() if hasattr(error, "errors") else []
    return str(errors[0]["msg"]).removeprefix("Value error, ") if errors else str(error)


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
