"""The outbox as a publisher sees it: what is due for whom, and what the peer has taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, func, or_, select, update

from app import times
from app.access.service import audit
from app.db import reading, writing
from app.leases import service as leases
from app.northbound.tables import OutboxReplayRow, OutboxRow, SubscriptionRow
from app.sources.service import opened
from connectors import NodeValue, Publication

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import ColumnElement, Engine, Row, Select
    from sqlalchemy.orm import InstrumentedAttribute, Session


@dataclass(frozen=True, slots=True)
class Subscription:
    """A northbound consumer's standing order as it is to be run."""

    id: int
    name: str
    connector: str
    options: Mapping[str, object] = field(repr=False)
    """With secrets in the clear."""
    topic: str
    revision: int
    problem: str = ""
    """Why it cannot be run; empty when it can."""


@dataclass(frozen=True, slots=True)
class Due:
    """One row of the outbox that its peer has not taken."""

    row: int
    subscription: int
    source_time: int
    attempts: int
    publication: Publication
    again: bool = False
    """Whether the peer has taken it before, and it is being replayed."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Under which leases a gateway publishes, where several share a database."""

    holder: str
    """Its journal."""
    terms: Mapping[int, int]
    """Subscription → term of its lease."""

    def stands(self, of: InstrumentedAttribute[int], *, now: bool = False) -> ColumnElement[bool]:
        """Whether a row's lease is still ours; `now`: and has not run out."""
        return leases.stands(of, self.holder, self.terms, now=now)


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that its sink refused for a reason of its own."""

    row: int
    due_at: int
    """When to try again, ns."""
    error: str


_COLUMNS = (
    OutboxRow.id,
    OutboxRow.subscription_id,
    OutboxRow.publication_id,
    OutboxRow.key,
    OutboxRow.topic,
    OutboxRow.content_type,
    OutboxRow.body,
    OutboxRow.nodes,
    OutboxRow.retain,
    OutboxRow.source_time,
    OutboxRow.attempts,
    OutboxRow.error,
)
_IS_DUE = and_(
    OutboxRow.subscription_id == bindparam("subscription"),
    OutboxRow.sent_at.is_(None),
    OutboxRow.due_at <= bindparam("now"),
)
_DUE = select(OutboxRow.id).where(_IS_DUE).order_by(OutboxRow.id).limit(bindparam("limit"))
_WHOLE = (
    select(*_COLUMNS)
    .where(_IS_DUE, OutboxRow.id >= bindparam("first"), OutboxRow.id <= bindparam("last"))
    .order_by(OutboxRow.id)
)
_HELD = select(
    OutboxReplayRow.subscription_id, OutboxReplayRow.next_row, OutboxReplayRow.last_row, OutboxReplayRow.keys
).where(OutboxReplayRow.done_at.is_(None))
_SENT = (
    update(OutboxRow)
    .where(OutboxRow.id.in_(bindparam("rows", expanding=True)))
    .values(sent_at=bindparam("at"), error="", attempts=OutboxRow.attempts + 1)
)
NODES: Final = "opcua"
"""The connector that shows nodes."""
REPLAY_RATE: Final = 200
"""Rows a second, where nobody says another rate."""
MAX_RATE: Final = 5000
ROWS_AT_ONCE: Final = 500
"""Of one statement: databases limit how many values it may have."""


def folder(data_dir: Path, subscription: int) -> str:
    """A subscription's own folder, for certificates and session state."""
    return str(data_dir / "subscriptions" / str(subscription))


def subscriptions(engine: Engine) -> dict[int, Subscription]:
    """Every enabled subscription by id."""
    with reading(engine) as session:
        rows = session.scalars(select(SubscriptionRow).where(SubscriptionRow.enabled.is_(True))).all()
        return {row.id: _subscription(row) for row in rows}


def _subscription(row: SubscriptionRow) -> Subscription:
    options, problem = opened(row.options or {})
    return Subscription(row.id, row.name, row.connector, options, row.topic, row.revision, problem)


def due(
    engine: Engine,
    now: int,
    wanted: Collection[int],
    limit: int,
    known: Collection[int] = (),
    fence: Fence | None = None,
) -> list[Due]:
    """What is due at this time (ns), oldest first, for each of these subscriptions at most `limit` rows.

    Rows in `known` are left out; what they hold is not read again. What is new under a key that is being replayed
    waits for the older rows of that key, and nothing else does. `fence`: nothing is due where its lease is not ours.
    """
    found: list[Due] = []
    with engine.connect() as connection:
        held = {row.subscription_id: _held(row) for row in connection.execute(_HELD)}
        for subscription in wanted:
            of = {"subscription": subscription, "now": now}
            query = _DUE.where(held[subscription]) if subscription in held else _DUE
            query = query if fence is None else query.where(fence.stands(OutboxRow.subscription_id, now=True))
            rows = connection.execute(query, {**of, "limit": limit + len(known)}).scalars()
            fresh = [row for row in rows if row not in known][:limit]
            if fresh:
                span = {**of, "first": fresh[0], "last": fresh[-1]}
                mine = set(fresh)
                found += [_due(row) for row in connection.execute(_WHOLE, span) if row.id in mine]
    return found


def _held(replay: Row[Any]) -> ColumnElement[bool]:
    """What may go out while this replay has rows that are not due yet."""
    keys = [key for key, last in replay.keys.items() if last >= replay.next_row]
    old = OutboxRow.id <= replay.last_row
    return old if len(keys) > ROWS_AT_ONCE else or_(old, OutboxRow.key.not_in(keys))


def newest_sent(engine: Engine, subscription: int, limit: int = 2000) -> list[Due]:
    """Per key the last row the peer took, among the newest of them: what a peer that forgot must be shown again."""
    query = (
        select(*_COLUMNS)
        .where(OutboxRow.subscription_id == subscription, OutboxRow.sent_at.is_not(None))
        .order_by(OutboxRow.id.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        found = [_due(row) for row in connection.execute(query)]
    newest: dict[str, Due] = {}
    for one in found:
        newest.setdefault(one.publication.key, one)
    return list(reversed(newest.values()))


def _due(row: Row[Any]) -> Due:
    nodes = tuple(NodeValue(**one) for one in row.nodes or ())
    made = Publication(row.publication_id, row.key, row.topic, row.body, row.content_type, nodes, row.retain)
    # What was put off has an error until it is taken.
    return Due(row.id, row.subscription_id, row.source_time, row.attempts, made, row.attempts > 0 and not row.error)


def settle(
    engine: Engine, sent: Mapping[int, int], failed: Sequence[Failure], fence: Fence | None = None
) -> None:
    """Mark rows as taken by their peer (row id -> ns), and put off those that failed, in one transaction.

    `fence`: rows of a subscription that another gateway has taken over are left as they are.
    """
    mine = () if fence is None else (fence.stands(OutboxRow.subscription_id),)
    with writing(engine) as session:
        together: dict[int, list[int]] = {}
        for row, at in sent.items():
            together.setdefault(at, []).append(row)
        for at, rows in together.items():
            for start in range(0, len(rows), ROWS_AT_ONCE):
                some = rows[start : start + ROWS_AT_ONCE]
                session.connection().execute(_SENT.where(*mine), {"rows": some, "at": at})
        for one in failed:
            session.execute(
                update(OutboxRow)
                .where(OutboxRow.id == one.row, *mine)
                .values(due_at=one.due_at, error=one.error[:1000], attempts=OutboxRow.attempts + 1),
            )


@dataclass(frozen=True, slots=True)
class Span:
    """What a peer is to be sent again: what it took from a time, or from one publication, up to a time (ns)."""

    since: int | None = None
    from_id: str = ""
    until: int | None = None
    """None: up to now."""


class ReplayError(ValueError):
    """What was asked for cannot be published again; the message says why and what to do."""


class NoSubscriptionError(ReplayError):
    """There is no subscription of this name."""


def order(engine: Engine, who: str, name: str, span: Span, rate: int = REPLAY_RATE) -> OutboxReplayRow:
    """Have a peer sent again what it has taken, `rate` rows a second at most: same ids, same order per key.

    Raises ReplayError.
    """
    now = times.now()
    with reading(engine) as session:
        subscription = _replayable(session, name)
        first = _first(session, subscription, span)
        found = _extent(session, subscription, (span.since or 0, first), min(span.until or now, now))
    with writing(engine) as session:
        open_one = (OutboxReplayRow.subscription_id == subscription) & OutboxReplayRow.done_at.is_(None)
        # Whoever asks at the same time waits here.
        session.execute(select(SubscriptionRow.id).where(SubscriptionRow.id == subscription).with_for_update())
        if session.scalar(select(OutboxReplayRow.id).where(open_one)) is not None:
            message = f"a replay of {name} is under way: wait until it is done, or stop it"
            raise ReplayError(message)
        row = OutboxReplayRow(subscription_id=subscription, rate=rate, asked_at=now, asked_by=who, **found)
        session.add(row)
        session.flush()
        audit(session, who, "outbox_replay_asked", name, {
            "replay": row.id, "rows": row.rows, "first_row": row.next_row, "last_row": row.last_row,
        })
        session.expunge(row)
    return row


def _replayable(session: Session, name: str) -> int:
    """The subscription's id. ReplayError where there is nothing that could be sent again."""
    row = session.scalar(select(SubscriptionRow).where(SubscriptionRow.name == name))
    if row is None:
        message = f"there is no subscription {name}"
        raise NoSubscriptionError(message)
    if row.connector == NODES:
        message = f"{name} shows nodes, and a node shows what is now: there is nothing to send again"
        raise ReplayError(message)
    if not row.enabled:
        message = f"{name} is switched off: put it in force first"
        raise ReplayError(message)
    return row.id


def _first(session: Session, subscription: int, span: Span) -> int:
    """The first row that may be meant. ReplayError."""
    if not span.from_id:
        return 0
    mine = (OutboxRow.subscription_id == subscription) & (OutboxRow.publication_id == span.from_id)
    found = session.scalar(select(func.min(OutboxRow.id)).where(mine))
    if found is None:
        message = f"the outbox has no publication {span.from_id} for it (any more): give a time instead"
        raise ReplayError(message)
    return found


def _extent(session: Session, subscription: int, begin: tuple[int, int], until: int) -> dict[str, Any]:
    """Which rows there are: as columns of the order. `begin`: time and row. ReplayError when there are none."""
    since, first = begin
    mine = (OutboxRow.subscription_id == subscription) & OutboxRow.sent_at.between(since, until - 1)
    figures = (func.min(OutboxRow.id), func.max(OutboxRow.id), func.count())
    query = select(OutboxRow.key, *figures).where(mine, OutboxRow.id >= first).group_by(OutboxRow.key)
    found = session.execute(query).all()
    if not found:
        message = "nothing that was sent then is in the outbox any more: see HEADRACE_KEEP_OUTBOX_D"
        raise ReplayError(message)
    return {
        "since": since,
        "until": until,
        "next_row": min(row[1] for row in found),
        "last_row": max(row[2] for row in found),
        "keys": {row[0]: row[2] for row in found},
        "rows": sum(row[3] for row in found),
    }


def replay(engine: Engine, now: int, wanted: Collection[int]) -> list[str]:
    """Make due what is next in the replays of these subscriptions; returns the names of those that are through with it.

    A peer that has not taken what is due is given no more: a replay is never faster than its peer.
    """
    with reading(engine) as session:
        mine = OutboxReplayRow.done_at.is_(None) & OutboxReplayRow.subscription_id.in_(wanted)
        found = list(session.scalars(select(OutboxReplayRow).where(mine)))
        session.expunge_all()
    return [name for one in found if (name := resume(engine, now, one))]


def resume(engine: Engine, now: int, one: OutboxReplayRow) -> str:
    """Make due what is next in one replay, as it was read; returns whose it is once all of it is due, else nothing."""
    most = min(one.rate, round(one.rate * (now - one.stepped_at) / times.NANOS))
    with reading(engine) as session:
        due_now = session.execute(_DUE, {"subscription": one.subscription_id, "now": now, "limit": ROWS_AT_ONCE})
        if most < 1 or len(due_now.all()) >= ROWS_AT_ONCE:
            return ""
        rows = list(session.scalars(_next_rows(one).limit(most)))
        name = session.scalar(select(SubscriptionRow.name).where(SubscriptionRow.id == one.subscription_id)) or ""
    with writing(engine) as session:
        row = session.get_one(OutboxReplayRow, one.id, with_for_update=True)
        if row.done_at is not None or row.next_row != one.next_row:
            return ""
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = OutboxRow.id.in_(rows[start : start + ROWS_AT_ONCE])
            session.execute(update(OutboxRow).where(some).values(sent_at=None, due_at=now, error=""))
        row.made_due, row.stepped_at = row.made_due + len(rows), now
        row.next_row = rows[-1] + 1 if rows else row.last_row + 1
        if row.next_row <= row.last_row:
            return ""
        row.done_at, row.outcome = now, "done"
        audit(session, row.asked_by, "outbox_replayed", name, {"replay": row.id, "rows": row.made_due})
        return name


def _next_rows(one: OutboxReplayRow) -> Select[int]:
    """What is left of a replay, in the order of the outbox.

    Sums keep the database from the index on what is sent: it would go through all of it at each step.
    """
    taken = (OutboxRow.sent_at + 0).between(one.since, one.until - 1)
    mine = OutboxRow.id.between(one.next_row, one.last_row) & (OutboxRow.subscription_id + 0 == one.subscription_id)
    return select(OutboxRow.id).where(mine, taken).order_by(OutboxRow.id)


def stop(engine: Engine, who: str, name: str) -> bool:
    """End the replay of a subscription where it is: what is due stays due. False when there is none."""
    with writing(engine) as session:
        mine = OutboxReplayRow.subscription_id.in_(select(SubscriptionRow.id).where(SubscriptionRow.name == name))
        query = select(OutboxReplayRow).where(mine, OutboxReplayRow.done_at.is_(None)).with_for_update()
        row = session.scalar(query)
        if row is None:
            return False
        row.done_at, row.outcome = times.now(), "stopped"
        audit(session, who, "outbox_replay_stopped", name, {"replay": row.id, "rows": row.made_due})
        return True


def replays(engine: Engine, name: str, limit: int = 100) -> list[OutboxReplayRow]:
    """Of a subscription, newest first. NoSubscriptionError."""
    with reading(engine) as session:
        subscription = session.scalar(select(SubscriptionRow.id).where(SubscriptionRow.name == name))
        if subscription is None:
            message = f"there is no subscription {name}"
            raise NoSubscriptionError(message)
        query = select(OutboxReplayRow).where(OutboxReplayRow.subscription_id == subscription)
        rows = list(session.scalars(query.order_by(OutboxReplayRow.id.desc()).limit(limit)))
        session.expunge_all()
        return rows
