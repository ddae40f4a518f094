"""Subscriptions over REST: how they stand, and what one is sent again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app import times
from app.access.api import Database, Engineer, Viewer
from app.api import View
from app.errors import Problem
from app.northbound import service
from app.northbound.queries import standing
from app.northbound.tables import OutboxReplayRow
from app.scoring.api import instant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

router = APIRouter(prefix="/api/v1", tags=["subscriptions"])
Name = Annotated[str, Path(max_length=100)]


class SubscriptionView(View):
    """A northbound consumer's standing order, without its options."""

    name: str
    connector: str
    topic: str
    enabled: bool
    due: int
    """Publications that the peer has not taken."""
    oldest_sent: str | None
    """Since when what was sent is kept and can be sent again."""


class ReplayOrder(BaseModel):
    """What is to be sent again: from a time or from one publication."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: str | None = Field(default=None, alias="from", max_length=40)
    """When the peer took it, inclusive."""
    from_id: str = Field(default="", max_length=80)
    """Id of the first publication, as consumers know it."""
    until: str | None = Field(default=None, alias="to", max_length=40)
    """Exclusive; up to now by default."""
    rate: int = Field(default=service.REPLAY_RATE, ge=1, le=service.MAX_RATE)
    """Publications a second, at most."""

    @model_validator(mode="after")
    def _one_begin(self) -> Self:
        if (self.since is None) == (not self.from_id):
            message = "give either `from` or `from_id`"
            raise ValueError(message)
        return self


class ReplayView(View):
    """One order to send again."""

    id: int
    rows: int
    """As they were found when it was asked for."""
    made_due: int
    keys: int
    """Order keys under which what is new waits for what is older."""
    rate: int
    asked_at: str
    asked_by: str
    done_at: str | None
    outcome: str
    """`done`, `stopped`; empty while it goes on."""


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except service.NoSubscriptionError as error:
        raise Problem(404, "not_found", "There is no such subscription", str(error)) from error
    except service.ReplayError as error:
        raise Problem(409, "replay_conflict", "This cannot be sent again", str(error)) from error


def _view(row: OutboxReplayRow) -> ReplayView:
    return ReplayView(
        id=row.id,
        rows=row.rows,
        made_due=row.made_due,
        keys=len(row.keys),
        rate=row.rate,
        asked_at=times.rfc3339(row.asked_at),
        asked_by=row.asked_by,
        done_at=times.optional_rfc3339(row.done_at),
        outcome=row.outcome,
    )


@router.get("/subscriptions", operation_id="listSubscriptions")
def subscriptions(_who: Viewer, engine: Database) -> list[SubscriptionView]:
    """Every subscription, by name."""
    return [
        SubscriptionView(
            name=one.name,
            connector=one.connector,
            topic=one.topic,
            enabled=one.enabled,
            due=one.due,
            oldest_sent=times.optional_rfc3339(one.oldest_sent),
        )
        for one in standing(engine)
    ]


@router.get("/subscriptions/{name}/replays", operation_id="listReplays")
def replays(name: Name, _who: Viewer, engine: Database) -> list[ReplayView]:
    """What a subscription was asked to be sent again, newest first."""
    with _told():
        return [_view(row) for row in service.replays(engine, name)]


@router.post("/subscriptions/{name}/replays", operation_id="replayOutbox", status_code=202)
def replay(name: Name, body: ReplayOrder, who: Engineer, engine: Database) -> ReplayView:
    """Send a peer again what it has taken, with the same ids, in order per key, at a bounded rate."""
    span = service.Span(instant(body.since, "from"), body.from_id, instant(body.until, "to"))
    with _told():
        return _view(service.order(engine, who.name, name, span, body.rate))


@router.delete("/subscriptions/{name}/replays/current", operation_id="stopReplay", status_code=204)
def stop(name: Name, who: Engineer, engine: Database) -> None:
    """Stop sending again; what is due stays due."""
    if not service.stop(engine, who.name, name):
        raise Problem(404, "not_found", "No replay is under way")
