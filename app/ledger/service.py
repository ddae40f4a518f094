"""The ledger as people read it: per connection what was read, what became of it, and whether that balances."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from sqlalchemy import func, select

from app import times
from app.backfill.service import THINNED
from app.backfill.tables import RecomputeRow
from app.db import insert_new, reading, writing
from app.ledger.tables import GapRow, HeldRow, JournalStateRow, LedgerRow, PlaceRow
from app.places import Places, cut
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


class Located(NamedTuple):
    """A tag with where it stands."""

    tag: int
    address: str
    place: str


def located(engine: Engine, tags: Mapping[int, Sequence[Located]]) -> dict[int, Places]:
    """Per connection, the places of its tags under the ids that the ledger has for them, or has from now on."""
    cuts = {connection: cut(one.place for one in theirs) for connection, theirs in tags.items()}
    wanted = {(connection, path) for connection, paths in cuts.items() for path in paths.values() if path}
    known = _place_ids(engine)
    missing = sorted(wanted - set(known))
    if missing:
        with writing(engine) as session:
            for connection, path in missing:
                insert_new(session, PlaceRow, {"connection_id": connection, "path": path})
        known = _place_ids(engine)
    return {key: _places(theirs, cuts[key], {path: n for (c, path), n in known.items() if c == key})
            for key, theirs in tags.items()}  # fmt: skip


def _place_ids(engine: Engine) -> dict[tuple[int, str], int]:
    with reading(engine) as session:
        rows = session.execute(select(PlaceRow.id, PlaceRow.connection_id, PlaceRow.path))
        return {(row.connection_id, row.path): row.id for row in rows}


def _places(tags: Sequence[Located], cuts: Mapping[str, str], ids: Mapping[str, int]) -> Places:
    mine = sorted((one.tag, ids[cuts[one.place]], one.address) for one in tags if cuts.get(one.place))
    return Places(
        np.array([tag for tag, _, _ in mine], dtype=np.int64),
        np.array([place for _, place, _ in mine], dtype=np.int64),
        {address: place for _, place, address in mine},
    )


@dataclass(frozen=True, slots=True)
class AtPlace:
    """What the ledger has of one place of a connection, as of now. Numbers are readings."""

    place: str
    """Empty: of tags without a place, and what no tag is known of."""
    stored: int = 0
    refused: int = 0
    dropped: int = 0
    held: int = 0


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
    places: tuple[AtPlace, ...] = ()
    """By path; as of now. Empty where no tag has a place: the connection's sums say it all."""

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
        places = _at_places(session)
        found = []
        for row in session.execute(totals):
            connection, name, *numbers = list(row)
            read, stored, refused, dropped, held, lost, at = (int(number) for number in numbers)
            why, where = reasons.get(connection, {}), _split(places.get(connection, {}), held)
            found.append(Account(name, read, stored, refused, dropped, held, lost, why, at, where))
        return found


def _at_places(session: Session) -> dict[int, dict[str, dict[str, int]]]:
    """By connection, path and fate, `held` among them; of connections that have places."""
    found: dict[int, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    held = (
        select(PlaceRow.connection_id, PlaceRow.path, func.sum(HeldRow.held))
        .join(HeldRow, HeldRow.place_id == PlaceRow.id)
        .group_by(PlaceRow.connection_id, PlaceRow.path)
    )
    for connection, path, readings in session.execute(held):
        found[connection][path]["held"] = int(readings)
    has_place = LedgerRow.connection_id.in_(select(PlaceRow.connection_id))
    fates = (
        select(LedgerRow.connection_id, PlaceRow.path, LedgerRow.fate, func.sum(LedgerRow.readings))
        .outerjoin(PlaceRow, PlaceRow.id == LedgerRow.place_id)
        .where(has_place, LedgerRow.fate.in_(FATES))
        .group_by(LedgerRow.connection_id, PlaceRow.path, LedgerRow.fate)
    )
    for connection, path, fate, readings in session.execute(fates):
        found[connection][path or ""][fate] = int(readings)
    return found


def _split(places: Mapping[str, Mapping[str, int]], held: int) -> tuple[AtPlace, ...]:
    """`held`: of the connection; what of it has no place was scanned with it."""
    if not places:
        return ()
    rest = held - sum(one.get("held", 0) for one in places.values())
    whole = {**places, "": {**places.get("", {}), "held": rest}}
    return tuple(AtPlace(path, **fates) for path, fates in sorted(whole.items()) if path or any(fates.values()))


FATES: Final = ("stored", "refused", "dropped")


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
