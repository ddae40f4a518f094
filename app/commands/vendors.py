"""`headrace vendors`: what is known of each chip maker, as a table, a page or a compose override."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.commands.accelerators import page, section
from app.commands.console import chinese, fail, out, t, table
from app.commands.overrides import override
from inference.adapters.chip import chips
from inference.lint import routes
from inference.lint import vendors as judged


def vendors(
    name: Annotated[
        str | None, typer.Argument(help="One maker's file name, e.g. ascend; all of them by default.")
    ] = None,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page.")] = False,
    compose: Annotated[bool, typer.Option("--compose", help="Print the maker's compose override.")] = False,
) -> None:
    """Show what is known of accelerators, and from where; `documented` means that it was not tried."""
    known = {chip.vendor: chip for chip in chips()}
    if name is not None and name not in known:
        raise fail(t("There is no maker {name}; there are: {names}", name=name, names=", ".join(known)))
    if compose:
        if name is None:
            raise fail(t("--compose takes a maker; there are: {names}", names=", ".join(known)))
        sys.stdout.write(override(known[name]))
    elif name is not None:
        sys.stdout.write(section(known[name], 1 if chinese() else 0))
    elif markdown:
        sys.stdout.write(page(tuple(known.values()), _turns(), 1 if chinese() else 0))
    else:
        rows = [
            (
                chip.vendor,
                chip.maker[1 if chinese() else 0],
                chip.routes[0].name,
                chip.routes[0].kind,
                t("yes") if chip.routes[0].adapted else t("not yet"),
                chip.evidence,
            )
            for chip in known.values()
        ]
        table("", [t(c) for c in ("vendor", "maker", "best route", "kind", "adapter", "evidence")], rows)
        out.print(t("documented: read in public documents, not tried by us. More: headrace vendors NAME"), markup=False)


def _turns() -> tuple[str, ...]:
    return tuple(vendor for vendor in judged() if any(route.one_at_a_time for route in routes(vendor)))
