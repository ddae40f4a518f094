"""`headrace status`, `ledger`, `devices`: tables for people, JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app import live, settings, times, workers
from app.certificates import queries as certificates
from app.certificates.schemas import running_json
from app.commands import evidence
from app.commands.console import as_json, chinese, fail, out, t, table
from app.commands.plant import database
from app.commands.running import Data, choose_data
from app.health import service as health
from app.ledger import service as ledger_service
from inference.devices import devices as all_devices
from inference.host import Host

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def devices(
    *,
    json_: Json = False,
    root: Annotated[
        Path | None,
        typer.Option(help="Look for cards below this folder, e.g. the root of the host mounted into a container."),
    ] = None,
) -> None:
    """List what a model can run on here, and why the rest cannot be used."""
    found, missing = all_devices(None if root is None else Host(root))
    found, missing = evidence.raised(found, missing, evidence.filed(settings.settings().data_dir))
    if json_:
        as_json({"devices": [asdict(one) for one in found], "absent": [asdict(one) for one in missing]})
        return
    present = [(d.id, d.name, d.backend, d.evidence) for d in found]
    table(t("present"), [t("device"), t("name"), t("backend"), t("evidence")], present)
    reasons = [(a.vendor, (chinese() and a.reason_zh) or a.reason, a.evidence) for a in missing]
    table(t("absent"), [t("vendor"), t("reason"), t("evidence")], reasons)


def ledger(*, json_: Json = False, data: Data = None) -> None:
    """Show per connection what was read and what became of it; exit status 1 when it does not balance."""
    choose_data(data)
    with database(make=False) as engine:
        accounts = ledger_service.accounts(engine)
    good = all(one.balanced for one in accounts)
    if json_:
        as_json({"balanced": good, "connections": [ledger_view(one) for one in accounts]})
    elif not accounts:
        out.print(t("No gateway has counted anything yet."))
    else:
        columns = [
            t(c) for c in ("connection", "read", "stored", "refused", "dropped", "held", "lost by peer", "balanced")
        ]
        rows = [
            (
                a.name,
                a.read,
                a.stored,
                a.refused,
                a.dropped,
                a.held,
                a.lost_by_peer,
                t("yes") if a.balanced else t("NO"),
            )
            for a in accounts
        ]
        table("", columns, rows, numbers=range(1, 7))
        for one in accounts:
            for (fate, reason), readings in sorted(one.reasons.items()):
                out.print(f"  {one.name}: {t(fate)} {reason} {readings}", markup=False)
        _at_places(accounts)
        out.print(t("Every connection balances.") if good else t("NOT BALANCED: keep the data folder and report this."))
    if not good:
        raise typer.Exit(1)


def _at_places(accounts: Sequence[ledger_service.Account]) -> None:
    rows = [
        (a.name, one.place or t("no place"), one.stored, one.refused, one.dropped, one.held)
        for a in accounts
        for one in a.places
    ]
    if rows:
        columns = ("connection", "place", "stored", "refused", "dropped", "held")
        table(t("by place"), [t(c) for c in columns], rows, numbers=range(2, 6))


def gaps(
    *,
    connection: Annotated[str | None, typer.Option(help="Of this connection only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, newest first.")] = 100,
    json_: Json = False,
    data: Data = None,
) -> None:
    """Show from when to when changes were missed, and how far they were filled in from the peer's history."""
    choose_data(data)
    with database(make=False) as engine:
        found = ledger_service.gaps(engine, connection=connection, limit=limit)
    if json_:
        as_json([gap_view(one) for one in found])
    elif not found:
        out.print(t("No gaps."))
    else:
        rows = [
            (
                one.connection,
                times.rfc3339(one.since),
                times.rfc3339(one.until),
                f"{(one.until - one.since) / times.NANOS:.3f}",
                t(one.state),
                one.readings,
                f"{one.windows}{'+' if one.windows_open else ''}",
                _why(one),
            )
            for one in found
        ]
        columns = ("connection", "from", "to", "seconds", "filled?", "readings", "windows", "reason")
        table("", [t(c) for c in columns], rows, numbers=(3, 5, 6))


def _why(one: ledger_service.Gap) -> str:
    """Why a gap is there, why it is not filled whole, and why windows of it were not computed again."""
    thinned = t("windows need readings of {tag} that were thinned", tag=one.thinned) if one.thinned else ""
    return "; ".join(part for part in (t(one.cause) if one.cause else "", one.reason, thinned) if part)


def gap_view(one: ledger_service.Gap) -> dict[str, Any]:
    """A gap as JSON."""
    return {
        "connection": one.connection,
        "since": times.rfc3339(one.since),
        "until": times.rfc3339(one.until),
        "state": one.state,
        "reason": one.reason,
        "readings": one.readings,
        "filled_until": times.rfc3339(one.filled_until) if one.filled_until else None,
        "ended": times.optional_rfc3339(one.ended_at),
        "windows": one.windows,
        "windows_open": one.windows_open,
        "thinned": one.thinned,
        "cause": one.cause,
    }


def ledger_view(one: ledger_service.Account) -> dict[str, Any]:
    """An account as JSON."""
    return {
        "name": one.name,
        "read": one.read,
        "stored": one.stored,
        "refused": one.refused,
        "dropped": one.dropped,
        "held": one.held,
        "lost_by_peer": one.lost_by_peer,
        "balanced": one.balanced,
        "reasons": [{"fate": f, "reason": r, "readings": n} for (f, r), n in sorted(one.reasons.items())],
        "places": [asdict(place) for place in one.places],
    }


def status(*, json_: Json = False, data: Data = None) -> None:
    """Show how gateways, connections and pipelines stand; exit status 1 when no gateway reports."""
    choose_data(data)
    with database(make=False) as engine:
        counts = health.prediction_counts(engine)
        running = [running_json(one) for one in certificates.running(engine)]
    gateways, there = live.gateways(), workers.workers()
    if json_:
        predictions = [{"pipeline": p, "refused": r, "count": n} for p, r, n in counts]
        reports = [live.as_json(one) for one in gateways]
        said = [workers.as_json(one) for one in there]
        as_json({"gateways": reports, "workers": said, "predictions": predictions, "pipelines": running})
    else:
        _show(gateways, counts, running)
        _show_workers(there)
    if not gateways:
        raise fail(t("No gateway has reported in the last seconds."))


def _show(
    gateways: list[live.GatewayLive], counts: list[tuple[str, bool, int]], running: list[dict[str, Any]]
) -> None:
    columns = [
        t("gateway"),
        t("readings/s"),
        t("journal"),
        t("head"),
        t("watermark"),
        t("held"),
        t("p50 ms"),
        t("p99 ms"),
    ]
    rows = [
        (
            g.gateway,
            f"{g.readings_per_s:.0f}",
            g.journal_state,
            g.head,
            g.watermark,
            g.held,
            _ms(g.latency_p50_ms),
            _ms(g.latency_p99_ms),
        )
        for g in gateways
    ]
    table("", columns, rows, numbers=(1, 3, 4, 5, 6, 7))
    peers = [
        (c.name, c.state, None if c.readings_per_s is None else f"{c.readings_per_s:.0f}", c.error)
        for g in gateways
        for c in g.connections
    ]
    table("", [t("connection"), t("state"), t("readings/s"), t("error")], peers, numbers=(2,))
    _show_leases(gateways)
    for g in gateways:
        if g.journal_policy:
            what = t("when full: {policy}; dropped since the start: {readings} readings")
            out.print(f"· {g.gateway}: {what.format(policy=t(g.journal_policy), readings=g.dropped)}", markup=False)
        for c in g.connections:
            for note in c.notes:
                out.print(f"· {c.name}: {note}", style="yellow", markup=False)
    _show_pipelines(counts, {one["pipeline"]: one for one in running})


def _show_pipelines(counts: list[tuple[str, bool, int]], running: dict[str, dict[str, Any]]) -> None:
    totals = {(name, refused): n for name, refused, n in counts}
    rows = []
    for name in sorted({name for name, _, _ in counts} | running.keys()):
        one = running.get(name)
        where = (one["device_wanted"], one["device"], t(one["certificate"] or "-")) if one is not None else ("", "", "")
        rows.append((name, totals.get((name, False), 0), totals.get((name, True), 0), *where))
    columns = ("pipeline", "answered", "refused", "wanted device", "device", "certificate")
    table("", [t(one) for one in columns], rows, numbers=(1, 2))
    for one in running.values():
        if one["override"] is not None:
            said = t("{pipeline} runs without a certificate, by {who}: {reason}", pipeline=one["pipeline"],
                     who=one["override"]["who"], reason=one["override"]["reason"])  # fmt: skip
            out.print(f"· {said}", style="yellow", markup=False)


def _show_workers(there: list[workers.WorkerLive]) -> None:
    """Which devices are where; nothing where no worker reports."""
    if there:
        rows = [
            (one.name, ", ".join(one.devices), ", ".join(one.lost), ", ".join(one.queues), f"{workers.age_s(one):.0f}")
            for one in there
        ]
        columns = ("worker", "devices", "lost devices", "queues", "age s")
        table("", [t(one) for one in columns], rows, numbers=(4,))


def _show_leases(gateways: list[live.GatewayLive]) -> None:
    """Who owns what, as the newest report has it; nothing where there is one gateway."""
    found = {one.name: one for g in sorted(gateways, key=lambda g: g.at) for one in g.leases}
    if found:
        owners = [(_named(one.name), one.gateway or "-", one.since, one.term) for one in found.values()]
        table("", [t("lease"), t("gateway"), t("since"), t("term")], owners, numbers=(3,))


def _named(lease: str) -> str:
    kind, _, name = lease.partition(" ")
    return f"{t(kind)} {name}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
