"""The ledger over REST: per connection, what was read and what became of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from app import times
from app.access.api import Database, Viewer
from app.api import Cursor, Limit, Page, View, open_cursor, seal_cursor
from app.ledger import service

Connection = Annotated[str | None, Query(max_length=100)]

router = APIRouter(prefix="/api/v1", tags=["ledger"])


class Fate(View):
    """Readings that were not stored, by reason. The fate `event` counts the plant's events, which are no readings."""

    fate: str
    reason: str
    readings: int


class AtPlace(View):
    """Readings of one place in the plant, as of now."""

    place: str
    """The beginning of its tags' places; empty: of tags without one, and what no tag is known of."""
    stored: int
    refused: int
    dropped: int
    held: int


class Account(View):
    """One connection: read = stored + refused + dropped + held."""

    name: str
    read: int
    stored: int
    refused: int
    dropped: int
    held: int
    lost_by_peer: int
    """Readings the peer itself says it dropped; never part of `read`."""
    balanced: bool
    reasons: list[Fate]
    places: list[AtPlace]
    """Empty where no tag of it has a place."""
    at: str
    """When the gateway last counted."""


class LedgerView(View):
    """Every connection's account, and whether all of them balance."""

    balanced: bool
    connections: list[Account]


@router.get("/ledger", operation_id="getLedger")
def ledger(_who: Viewer, engine: Database) -> LedgerView:
    """The ledger as the gateways last counted it."""
    accounts = [
        Account(
            name=a.name,
            read=a.read,
            stored=a.stored,
            refused=a.refused,
            dropped=a.dropped,
            held=a.held,
            lost_by_peer=a.lost_by_peer,
            balanced=a.balanced,
            reasons=[Fate(fate=fate, reason=reason, readings=n) for (fate, reason), n in sorted(a.reasons.items())],
            places=[AtPlace(**asdict(one)) for one in a.places],
            at=times.rfc3339(a.at),
        )
        for a in service.accounts(engine)
    ]
    return LedgerView(balanced=all(a.balanced for a in accounts), connections=accounts)


class GapView(View):
    """Between these times changes of a connection are missing: see `cause`."""

    connection: str
    since: str
    until: str
    seconds: float
    state: str
    """`open`: to be filled from the peer's history; `filled`, `partly` or `none`: how that ended."""
    reason: str
    """Why it is not filled whole."""
    readings: int
    """Read from the history."""
    filled_until: str | None
    """So far the history was read."""
    ended: str | None
    """When the filling ended."""
    windows: int
    """Computed again because of it, and marked late."""
    windows_open: bool
    """Whether more of them are to come."""
    thinned: str
    """A tag of which windows need readings that were thinned: these were not computed again. Else empty."""
    cause: str
    """Empty: it could not take up where it was lost. `journal_full`, `journal_age`: its readings were dropped.
    `journal_damaged`, `journal_missing`: the disk lost them."""


@router.get("/gaps", operation_id="listGaps")
def gaps(
    _who: Viewer, engine: Database, *, connection: Connection = None, cursor: Cursor = None, limit: Limit = 100
) -> Page[GapView]:
    """What was missed, and how far it was filled in from the peer's history; newest first."""
    key = open_cursor(cursor, 1)
    found = service.gaps(engine, connection=connection, before=int(key[0]) if key else None, limit=limit)
    items = [
        GapView(
            connection=one.connection,
            since=times.rfc3339(one.since),
            until=times.rfc3339(one.until),
            seconds=(one.until - one.since) / times.NANOS,
            state=one.state,
            reason=one.reason,
            readings=one.readings,
            filled_until=times.rfc3339(one.filled_until) if one.filled_until else None,
            ended=times.optional_rfc3339(one.ended_at),
            windows=one.windows,
            windows_open=one.windows_open,
            thinned=one.thinned,
            cause=one.cause,
        )
        for one in found
    ]
    return Page(items=items, next=seal_cursor(found[-1].id) if len(found) == limit else None)
