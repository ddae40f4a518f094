"""The ledger over REST: per connection, what was read and what became of it."""

from __future__ import annotations

from fastapi import APIRouter

from app import times
from app.access.api import Database, Viewer
from app.api import View
from app.ledger import service

router = APIRouter(prefix="/api/v1", tags=["ledger"])


class Fate(View):
    """Readings that were not stored, by reason."""

    fate: str
    reason: str
    readings: int


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
            at=times.rfc3339(a.at),
        )
        for a in service.accounts(engine)
    ]
    return LedgerView(balanced=all(a.balanced for a in accounts), connections=accounts)
