"""`headrace replay-outbox`: a peer is sent again what it has taken, in order and at a bounded rate."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app import times
from app.commands.console import as_json, fail, out, t, table
from app.commands.plant import database
from app.commands.running import Data, choose_data
from app.northbound import service
from app.northbound.service import ReplayError, Span

if TYPE_CHECKING:
    from app.northbound.tables import OutboxReplayRow

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def replay(
    subscription: Annotated[str, typer.Argument(help="Name of the subscription.")],
    *,
    since: Annotated[str | None, typer.Option("--from", help="What the peer took from this time on.")] = None,
    from_id: Annotated[str, typer.Option(help="From this publication on, by the id that consumers know.")] = "",
    until: Annotated[str | None, typer.Option("--to", help="What it took before then; up to now by default.")] = None,
    rate: Annotated[int, typer.Option(min=1, max=service.MAX_RATE, help="Publications a second, at most.")] = (
        service.REPLAY_RATE
    ),
    stop: Annotated[bool, typer.Option("--stop", help="Stop the replay that is under way.")] = False,
    json_: Json = False,
    data: Data = None,
) -> None:
    """Send a peer again what it has taken, same ids, in order; without --from or --from-id, show how that stands."""
    choose_data(data)
    if since is not None and from_id:
        raise fail(t("Give either --from or --from-id."), 2)
    with database(make=False) as engine:
        try:
            if stop:
                _stopped(subscription, stopped=service.stop(engine, getpass.getuser(), subscription))
            elif since is None and not from_id:
                _show(service.replays(engine, subscription), json_wanted=json_)
            else:
                span = Span(_time(since), from_id, _time(until))
                _asked(service.order(engine, getpass.getuser(), subscription, span, rate), json_wanted=json_)
        except ReplayError as error:
            raise fail(str(error)) from error


def _time(text: str | None) -> int | None:
    try:
        return None if text is None else times.parse_time(text)
    except ValueError as error:
        raise fail(str(error), 2) from error


def _stopped(subscription: str, *, stopped: bool) -> None:
    if not stopped:
        raise fail(t("No replay of {name} is under way.", name=subscription))
    out.print(t("The replay of {name} is stopped; what is due already is sent.", name=subscription), markup=False)


def _asked(row: OutboxReplayRow, *, json_wanted: bool) -> None:
    if json_wanted:
        as_json(_view(row))
        return
    said = t(
        "{rows} publications of {keys} keys are sent again, in about {seconds} s or more.",
        rows=row.rows, keys=len(row.keys), seconds=-(-row.rows // row.rate),
    )  # fmt: skip
    out.print(said)


def _show(rows: list[OutboxReplayRow], *, json_wanted: bool) -> None:
    if json_wanted:
        as_json([_view(row) for row in rows])
    elif not rows:
        out.print(t("Nothing was ever asked to be sent again."))
    else:
        columns = ("number", "time", "by", "publications", "due again", "how it ended")
        ongoing = t("goes on")
        shown = [
            (one.id, times.rfc3339(one.asked_at)[:19], one.asked_by, one.rows, one.made_due, one.outcome or ongoing)
            for one in rows
        ]
        table("", [t(c) for c in columns], shown, numbers=(0, 3, 4))


def _view(row: OutboxReplayRow) -> dict[str, Any]:
    return {
        "id": row.id, "rows": row.rows, "made_due": row.made_due, "keys": len(row.keys), "rate": row.rate,
        "asked_at": times.rfc3339(row.asked_at), "asked_by": row.asked_by,
        "done_at": times.optional_rfc3339(row.done_at), "outcome": row.outcome,
    }  # fmt: skip
