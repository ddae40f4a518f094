"""Leases as a gateway takes and keeps them, and as whoever writes asks whether they still stand.

Everything is judged by the clock of the database. A holder that is started again is the same holder: its journal has
one owner at a time. A lease that ran out and that nobody took is still its holder's, in the same term.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, bindparam, exists, false, literal, select, tuple_, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from app.db import hurried, insert_all, insert_new, reading, table, writing
from app.events.tables import EventRow
from app.leases.schemas import Taken, announcement, event
from app.leases.tables import LeaseRow
from app.northbound.queries import north
from app.northbound.schemas import outbox_rows
from app.northbound.tables import OutboxRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Engine
    from sqlalchemy.orm import InstrumentedAttribute, Session
    from sqlalchemy.sql.compiler import SQLCompiler

    Group = tuple[str, ...]
    """Names of leases that are held by one gateway; who has the first of them has the right to the others."""

CONNECTION, SUBSCRIPTION = "connection:", "subscription:"
_leases = table(LeaseRow)


class _Now(FunctionElement[int]):
    """The clock of the database, ns."""

    type = BigInteger()
    inherit_cache = True


@compiles(_Now)
def _now(_element: _Now, _compiler: SQLCompiler, **_: object) -> str:
    # Not that of the transaction's beginning: it may have waited for a lock.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000000 AS BIGINT)"


@compiles(_Now, "sqlite")
def _now_of_sqlite(_element: _Now, _compiler: SQLCompiler, **_: object) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000000"


_SEEN: Final = (
    select(*_leases.c, (_leases.c.expires_at <= _Now()).label("over"))
    .where(_leases.c.name.in_(bindparam("names", expanding=True)))
    .order_by(_leases.c.name)
)
"""In the order of names, so that whoever locks them waits for others and never in a circle."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A gateway that holds leases."""

    journal: str
    """The id of its journal."""
    gateway: str
    """Its name, for people."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who owns one thing, as the database last said."""

    name: str
    gateway: str
    term: int
    since: int
    """ns, by the clock of the database."""
    mine: bool
    free: bool
    """Whether nobody owns it now."""


def connection(key: int) -> str:
    """The lease of a connection."""
    return f"{CONNECTION}{key}"


def subscription(key: int) -> str:
    """The lease of a subscription."""
    return f"{SUBSCRIPTION}{key}"


def keep(engine: Engine, holder: Holder, groups: Collection[Group], ttl_ns: int) -> dict[str, Lease]:
    """Renew what is held, and take what nobody holds; returns how all of them stand, by name.

    Of a group whose first lease is another's, what is held is given back. Raises what the database does.
    """
    names = sorted({name for group in groups for name in group})
    found = _look(engine, holder, names)
    if all(name in found and not found[name].mine and not found[name].free for name in names):
        return found
    with writing(engine) as session:
        hurried(session)
        mine = _renew(session, holder, names, ttl_ns)
        for group in groups:
            if _unsettled(group, found):
                _settle(session, holder, group, mine, ttl_ns)
    return _look(engine, holder, names)


def _look(engine: Engine, holder: Holder, names: Sequence[str]) -> dict[str, Lease]:
    with reading(engine) as session:
        return {row.name: _lease(row, holder) for row in session.execute(_SEEN, {"names": names})}


def _lease(row: Any, holder: Holder) -> Lease:  # noqa: ANN401 - of any width
    mine = row.holder == holder.journal
    free = not row.holder or (bool(row.over) and not mine)
    return Lease(row.name, row.gateway, row.term, row.since, mine, free)


def _renew(session: Session, holder: Holder, names: Sequence[str], ttl_ns: int) -> set[str]:
    """Prolong what is held; returns which that is. Whoever takes one waits for this, or this for him."""
    mine = (_leases.c.holder == holder.journal) & _leases.c.name.in_(names)
    locked = select(_leases.c.name).where(mine).order_by(_leases.c.name).with_for_update(key_share=True)
    held = set(session.scalars(locked))
    if held:
        session.execute(update(_leases).where(_leases.c.name.in_(held)).values(expires_at=_Now() + ttl_ns))
    return held


def _unsettled(group: Group, found: Mapping[str, Lease]) -> bool:
    """Whether something of a group is to be taken, or given back."""
    first = found.get(group[0])
    if first is not None and not first.mine and not first.free:
        return any(name in found and found[name].mine for name in group)
    return any(name not in found or found[name].free for name in group)


def _settle(session: Session, holder: Holder, group: Group, mine: set[str], ttl_ns: int) -> None:
    """Have the whole group, or what of it others do not hold; or give back what is another's by right."""
    if mine.issuperset(group):
        return
    # Stronger than what a worker holds while it writes under a lease: it ends first, or finds the new term.
    rows = {row.name: row for row in session.execute(_SEEN.with_for_update(), {"names": group})}
    seen = {name: _lease(row, holder) for name, row in rows.items()}
    first = seen.get(group[0])
    if first is not None and not first.mine and not first.free:
        _give_back(session, holder, [name for name in group if name in mine])
        return
    taken = []
    for name in group:
        row = rows.get(name)
        if row is None:
            new = {"name": name, "holder": "", "gateway": "", "term": 0, "expires_at": 0, "since": 0}
            insert_new(session, LeaseRow, new)
        elif not seen[name].free:
            continue
        if _take(session, holder, name, 0 if row is None else row.term, ttl_ns):
            taken.append(Taken(name, "" if row is None else row.gateway, holder.gateway))
    _tell(session, [one for one in taken if one.was])


def _take(session: Session, holder: Holder, name: str, term: int, ttl_ns: int) -> bool:
    """Begin the next term, unless somebody else just did."""
    made = {"holder": holder.journal, "gateway": holder.gateway, "term": term + 1}
    times = {"expires_at": _Now() + ttl_ns, "since": _Now()}
    mine = (_leases.c.name == name) & (_leases.c.term == term)
    return session.connection().execute(update(_leases).where(mine).values(**made, **times)).rowcount == 1


def _tell(session: Session, taken: Sequence[Taken]) -> None:
    """An event for each connection whose holder let its lease run out."""
    ids = {one.name: int(one.name.removeprefix(CONNECTION)) for one in taken if one.name.startswith(CONNECTION)}
    if not ids:
        return
    query = select(ConnectionRow.id, ConnectionRow.name).where(ConnectionRow.id.in_(ids.values()))
    names = {row.id: row.name for row in session.execute(query)}
    began = terms(session, ids, Lock.NONE)
    made = [
        (names[key], event(one, key, names[key], began[one.name].term, began[one.name].since))
        for one in taken
        if (key := ids.get(one.name)) is not None and key in names
    ]
    insert_all(session, EventRow, [row for _, row in made])
    insert_all(session, OutboxRow, outbox_rows(north(session), [announcement(*one) for one in made]))


def _give_back(session: Session, holder: Holder, names: Iterable[str]) -> None:
    mine = (_leases.c.holder == holder.journal) & _leases.c.name.in_(list(names))
    session.execute(update(_leases).where(mine).values(holder="", gateway="", expires_at=0))


def give_back(engine: Engine, holder: Holder) -> None:
    """All that is held: another may take it at once. Its term goes on from where it is."""
    with writing(engine) as session:
        query = select(_leases.c.name).where(_leases.c.holder == holder.journal).order_by(_leases.c.name)
        _give_back(session, holder, list(session.scalars(query.with_for_update())))


def others(engine: Engine, journal: str) -> list[str]:
    """Gateways that hold anything now: one that knows of no leases must not run beside them."""
    query = select(_leases.c.gateway).where(_leases.c.holder.not_in(("", journal)), _leases.c.expires_at > _Now())
    with reading(engine) as session:
        return sorted(set(session.scalars(query)))


_TERMS: Final = (
    select(_leases.c.name, _leases.c.term, _leases.c.since)
    .where(_leases.c.name.in_(bindparam("names", expanding=True)))
    .order_by(_leases.c.name)
)


class Lock(Enum):
    """What keeps a term as it is until a transaction ends."""

    NONE = "none"
    SHARED = "shared"
    """Renewals do not wait for it; whoever takes the lease does."""
    ALONE = "alone"
    """Others wait who want the same."""


_LOCKED: Final = {
    Lock.NONE: _TERMS,
    Lock.SHARED: _TERMS.with_for_update(read=True, key_share=True),
    Lock.ALONE: _TERMS.with_for_update(),
}


@dataclass(frozen=True, slots=True)
class Term:
    """The term of a lease now, and since when (ns, by the clock of the database)."""

    term: int
    since: int


def terms(session: Session, names: Collection[str], lock: Lock = Lock.SHARED) -> dict[str, Term]:
    """What is in force, by name: until this transaction ends, with a lock."""
    rows = session.execute(_LOCKED[lock], {"names": sorted(names)})
    return {row.name: Term(row.term, row.since) for row in rows}


def stands(
    of: InstrumentedAttribute[int], holder: str, held: Mapping[int, int], *, now: bool = False
) -> ColumnElement[bool]:
    """Whether the lease of a row's subscription is still this holder's, for a statement that reads or writes it.

    `of`: the column with the subscription; `held`: subscription → term under which it is published. `now`: it has not
    run out either.
    """
    if not held:
        return false()
    pairs = [(subscription(key), term) for key, term in held.items()]
    mine = (_leases.c.name == literal(SUBSCRIPTION).concat(of)) & (_leases.c.holder == holder)
    mine &= tuple_(_leases.c.name, _leases.c.term).in_(pairs)
    if now:
        mine &= _leases.c.expires_at > _Now()
    return exists().where(mine)


__all__ = [
    "Holder", "Lease", "Lock", "Term", "connection", "give_back", "keep", "others", "stands", "subscription", "terms",
]
