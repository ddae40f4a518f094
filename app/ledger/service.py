"""The ledger as people read it: per connection what was read, what became of it, and whether that balances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from app import times
from app.backfill.service import THINNED
from app.backfill.tables import RecomputeRow
from app.db import reading
from app.ledger.tables import GapRow, JournalStateRow, LedgerRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Account:
    """One connection, all journals together, as the gateways last counted it. Numbers are readings."""

    name: str
    read: int
    stored: int
    refused: int
    dropped: int
    held: int
    lost_by_peer: int
    reasons: Mapping[tuple[str, str], int]
    """(fate, reason) → readings; as of now, so it may be ahead of the sums."""
    at: int
    """ns: the oldest of the counts in it."""

    @property
    def balanced(self) -> bool:
        """Read = stored + refused + dropped + held; each is counted by itself."""
        return self.read == self.stored + self.refused + self.dropped + self.held


def accounts(engine: Engine) -> list[Account]:
    """Every connection that ever read something, by name."""
    state = JournalStateRow
    sums = (state.read, state.stored, state.refused, state.dropped, state.held, state.lost_by_peer)
    totals = (
        select(ConnectionRow.id, ConnectionRow.name, *(func.sum(c) for c in sums), func.min(state.at))
        .select_from(state)
        .join(ConnectionRow, ConnectionRow.id == state.connection_id)
        .group_by(ConnectionRow.id, ConnectionRow.name)
        .order_by(ConnectionRow.name)
    )
    by_reason = (
        select(LedgerRow.connection_id, LedgerRow.fate, LedgerRow.reason, func.sum(LedgerRow.readings))
        .where(LedgerRow.reason != "")
        .group_by(LedgerRow.connection_id, LedgerRow.fate, LedgerRow.reason)
    )
    with reading(engine) as session:
        reasons: dict[int, dict[tuple[str, str], int]] = {}
        for connection, fate, reason, readings in session.execute(by_reason):
            reasons.setdefault(connection, {})[fate, reason] = int(readings)
        found = []
        for row in session.execute(totals):
            connection, name, *numbers = list(row)
            read, stored, refused, dropped, held, lost, at = (int(number) for number in numbers)
            found.append(Account(name, read, stored, refused, dropped, held, lost, reasons.get(connection, {}), at))
        return found


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes of this connection may be missing between these times (ns), as far as they were not filled in."""

    id: int
    connection: str
    since: int
    until: int
    state: str = "open"
    """`open`: to be filled; `filled`, `partly`, `none`: how that ended."""
    readings: int = 0
    """Read from the peer's history."""
    reason: str = ""
    """Why it is not filled whole."""
    filled_until: int = 0
    """ns: so far the history was read; 0: nothing of it."""
    ended_at: int | None = None
    windows: int = 0
    """Computed again because of it."""
    windows_open: bool = False
    """Whether more of them are to come."""
    thinned: str = ""
    """A tag of which windows need readings that were thinned: these were not computed again."""
    cause: str = ""
    """Empty: the connection was lost. `journal_full`, `journal_age`: its readings were dropped. `journal_damaged`,
    `journal_missing`: the disk lost them."""


ONE_GAP_NS: Final = 5 * times.NANOS
"""What was dropped so soon after something else of the same connection lengthens its gap."""
_WINDOWS = select(func.coalesce(func.sum(RecomputeRow.windows), 0)).where(RecomputeRow.gap_id == GapRow.id)
_WORK_LEFT = select(func.count()).where(RecomputeRow.gap_id == GapRow.id, RecomputeRow.done_at.is_(None))
_THINNED = select(func.max(RecomputeRow.reason)).where(
    RecomputeRow.gap_id == GapRow.id, RecomputeRow.reason.startswith(THINNED)
)
_GAP: Final = (
    GapRow.id,
    ConnectionRow.name,
    GapRow.since,
    GapRow.until,
    GapRow.state,
    GapRow.readings,
    GapRow.reason,
    GapRow.filled_until,
    GapRow.ended_at,
    GapRow.cause,
    _WINDOWS.scalar_subquery().label("windows"),
    _WORK_LEFT.scalar_subquery().label("left"),
    _THINNED.scalar_subquery().label("thinned"),
)


def lengthen_gap(session: Session, connection: int, span: tuple[int, int], cause: str) -> None:
    """Readings were dropped, from and to (ns): a gap that can be filled as any other.

    It is one with what was dropped of the connection just before. Call it under a lock that others of the connection
    wait for.
    """
    since, until = span
    mine = (GapRow.connection_id == connection) & (GapRow.cause == cause) & (GapRow.state == "open")
    near = (GapRow.until >= since - ONE_GAP_NS) & (GapRow.since <= until) & (GapRow.filled_until == 0)
    found = session.scalar(select(GapRow).where(mine, near).order_by(GapRow.id.desc()).limit(1))
    if found is None:
        session.add(GapRow(connection_id=connection, since=since, until=until, cause=cause))
        return
    found.since, found.until = min(found.since, since), max(found.until, until)


def gaps(engine: Engine, *, connection: str | None = None, before: int | None = None, limit: int = 100) -> list[Gap]:
    """Newest first; of one connection, and from before an id, if given."""
    query = (
        select(*_GAP)
        .select_from(GapRow)
        .join(ConnectionRow, ConnectionRow.id == GapRow.connection_id)
        .order_by(GapRow.id.desc())
        .limit(limit)
    )
    if connection is not None:
        query = query.where(ConnectionRow.name == connection)
    if before is not None:
        query = query.where(GapRow.id < before)
    with reading(engine) as session:
        return [
            Gap(
                row.id, row.name, row.since, row.until, row.state, row.readings, row.reason, row.filled_until,
                row.ended_at, int(row.windows), bool(row.left),
                (row.thinned or "").removeprefix(THINNED), row.cause,
            )
            for row in session.execute(query)
        ]  # fmt: skip
