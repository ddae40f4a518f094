"""A certificate as commands show it: lines for people, the fingerprint in one piece to be compared, or JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.commands.console import out, t
from app.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors import Certificate


def as_plain(one: Certificate) -> dict[str, Any]:
    """For JSON: times as RFC 3339."""
    return {**asdict(one), "valid_from": rfc3339(one.valid_from), "valid_to": rfc3339(one.valid_to)}


def show_certificate(whose: str, state: str, one: Certificate, more: Sequence[tuple[str, str]] = ()) -> None:
    """Print it; `more` are further lines, what they are called and what they say."""
    rows = [
        (t("SHA-256"), one.fingerprint),
        (t("subject"), one.subject),
        (t("application URI"), one.application_uri),
        (t("hosts"), ", ".join(one.hosts)),
        (t("valid"), f"{rfc3339(one.valid_from)[:10]} – {rfc3339(one.valid_to)[:10]}"),
        *more,
    ]
    out.print(f"{whose} · {state}", style="bold", markup=False)
    for what, said in rows:
        out.print(f"  {what}: {said}", markup=False)
