"""Removes what is old enough, a few rows at a time; what was not published or not applied stays, however old it is."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import and_, case, delete, exists, func, literal, or_, select

from app import times
from app.access.tables import TokenRow
from app.backfill.tables import RecomputeRow
from app.db import add_to, reading, table, writing
from app.events.tables import EventRow, RuleStateRow
from app.history.service import take_out
from app.history.tables import AxisRow, ChunkRow, ThinnedRow
from app.letters.tables import DeadWindowsRow
from app.northbound.tables import OutboxReplayRow, OutboxRow, SubscriptionRow
from app.pipelines.tables import PipelineRow
from app.readings.tables import DeadLetterRow
from app.retention.tables import RemovalRow
from app.scoring.tables import PredictionRow
from app.sources.tables import TagRow
from app.thinning.queries import classes
from app.thinning.service import THINNED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Engine, Select
    from sqlalchemy.orm import Session

    from app.db import Base
    from app.settings import Settings

Found: TypeAlias = "Sequence[tuple[Any, str]]"
"""Keys of rows to be removed, and what each is counted under."""

KEEP_ENDED_D: Final = 30.0
"""An ended token stays as long as its owner may ask what it was."""
BATCH: Final = 500
"""Rows of one transaction: a few milliseconds of the database's writer."""
LEAST: Final = 20
LONG_S: Final = 0.1
"""A transaction that took longer makes the next ones smaller."""
PIECE_S: Final = 0.5
"""One task removes for so long; the next is another task, so that the compaction of the history comes between."""
DAY_NS: Final = 86_400 * times.NANOS
SPAN_NS: Final = 3600 * times.NANOS
NO_CLASS: Final = 3
"""The priority of readings of tags that have no class."""

_predictions, _outbox, _events = table(PredictionRow), table(OutboxRow), table(EventRow)
_letters, _windows = table(DeadLetterRow), table(DeadWindowsRow)
_chunks, _thinned, _tags = table(ChunkRow), table(ThinnedRow), table(TagRow)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of rows that leave by their age."""

    name: str
    rows: type[Base]
    find: Callable[[Session, int, int], Found]
    """`find(session, before, limit)`: the oldest rows from before a time (ns) that nothing needs any more."""
    also: tuple[ColumnElement[Any], ...] = ()
    """Keys of other tables that go with them."""


@dataclass(slots=True)
class Removed:
    """What one piece of work removed."""

    rows: Counter[str] = field(default_factory=Counter)
    """By kind."""
    more: bool = False
    """Whether there is more to remove now."""


def _unsent() -> Select[str]:
    """Ids of what some peer has not taken yet."""
    # Each subscription by itself, so that the index on what is due serves.
    mine = _outbox.c.subscription_id.in_(select(SubscriptionRow.id)) & _outbox.c.sent_at.is_(None)
    return select(_outbox.c.publication_id).where(mine)


def _old_predictions(session: Session, before: int, limit: int) -> Found:
    row = _predictions.c
    state, work = table(RuleStateRow).c, table(RecomputeRow).c
    untaken = exists().where(
        state.version_id == row.version_id, state.sequence < row.sequence, row.end_time >= state.since
    )
    # How far back windows of a version can be computed again is told by its first one.
    # (A late revision has no number, and NULL is neither 1 nor another.)
    begun = (func.coalesce(row.sequence, 0) == 1) & exists().where(PipelineRow.active_version == row.version_id)
    again = exists().where(work.version_id == row.version_id, work.done_at.is_(None), row.end_time >= work.done_until)
    whose = case((row.reason == "", "answered"), else_="refused")
    found: list[tuple[str, str]] = []
    for pipeline in session.scalars(select(PipelineRow.id).order_by(PipelineRow.id)):
        mine = (row.pipeline_id == pipeline) & (row.end_time < before)
        alarms = select(_events.c.prediction_id).where(
            _events.c.pipeline_id == pipeline, _events.c.state != "normal", _events.c.prediction_id.is_not(None)
        )
        query = (
            select(row.id, whose)
            .where(mine, ~untaken, ~begun, ~again, row.id.not_in(_unsent()), row.id.not_in(alarms))
            .order_by(row.end_time, row.revision)
            .limit(limit - len(found))
        )
        found += [(key, f"{pipeline}:{became}") for key, became in session.execute(query)]
        if len(found) >= limit:
            break
    return found


def _old_publications(session: Session, before: int, limit: int) -> Found:
    row, replay = _outbox.c, table(OutboxReplayRow).c
    found: list[tuple[int, str]] = []
    for subscription in session.scalars(select(SubscriptionRow.id).order_by(SubscriptionRow.id)):
        replayed = exists().where(
            replay.subscription_id == row.subscription_id, replay.done_at.is_(None),
            row.id.between(replay.next_row, replay.last_row),
        )  # fmt: skip
        mine = (row.subscription_id == subscription) & (row.sent_at < before)
        query = select(row.id).where(mine, ~replayed).order_by(row.sent_at).limit(limit - len(found))
        found += [(key, "") for key in session.scalars(query)]
        if len(found) >= limit:
            break
    return found


def _old_events(session: Session, before: int, limit: int) -> Found:
    """Of a rule what is cleared and acknowledged; of a plant what is over, and of a condition never the newest."""
    row, younger = _events.c, _events.alias().c
    of_rule = (row.source == "rule") & (row.state == "normal") & (row.cleared_at < before)
    replaced = exists().where(younger.condition_key == row.condition_key, younger.raised_at > row.raised_at)
    of_plant = (row.source == "plant") & or_(and_(row.condition_key.is_(None), row.cleared_at.is_(None)), replaced)
    # A publication of an event is named after it, with what happened behind a colon.
    unsent = _unsent().with_only_columns(func.substr(_outbox.c.publication_id, 1, 36))
    query = (
        select(row.id, literal(""))
        .where(row.raised_at < before, or_(of_rule, of_plant), row.id.not_in(unsent))
        .order_by(row.raised_at)
        .limit(limit)
    )
    return [(key, whose) for key, whose in session.execute(query)]


def _old_letters(session: Session, before: int, limit: int) -> Found:
    """Not what waits to be computed."""
    # They were received about in the order of their ids; only the time has no index.
    oldest = select(_letters.c.id, _letters.c.at).order_by(_letters.c.id).limit(2 * limit).subquery()
    waiting = exists().where(_windows.c.letter_id == oldest.c.id, _windows.c.state == "waiting")
    query = select(oldest.c.id).where(oldest.c.at < before, ~waiting).limit(limit)
    return [(key, "") for key in session.scalars(query)]


def _old_tokens(session: Session, before: int, limit: int) -> Found:
    query = select(TokenRow.id).where(TokenRow.expires_at < before).limit(limit)
    return [(key, "") for key in session.scalars(query)]


def _past(rows: type[Base], name: str | None = None) -> Callable[[Session, int, int], Found]:
    """Of a class of tags, or of those that have none: readings or points of one tag, all of them old."""
    row = table(rows).c

    def find(session: Session, before: int, limit: int) -> Found:
        # By tag, and not by time: of other classes there may be many that are older.
        of_class = _tags.c.history.is_(None) if name is None else _tags.c.history == name
        query = select(row.id, row.connection_id).join(_tags, _tags.c.id == row.tag_id)
        found = session.execute(query.where(of_class, row.last_time < before).limit(limit))
        return [(key, str(connection)) for key, connection in found]

    return find


PAST: Final = (Kind("readings", ChunkRow, _past(ChunkRow)), Kind("points", ThinnedRow, _past(ThinnedRow)))
KINDS: Final = (
    Kind("predictions", PredictionRow, _old_predictions),
    Kind("outbox", OutboxRow, _old_publications),
    Kind("events", EventRow, _old_events),
    Kind("dead_letters", DeadLetterRow, _old_letters, (_windows.c.letter_id,)),
    Kind("tokens", TokenRow, _old_tokens),
    *PAST,
)


def keeps(chosen: Settings) -> dict[str, float | None]:
    """Kind → days that it is kept; None: for ever. Of readings and points those of tags without a class."""
    return {
        "readings": chosen.keep_readings_d,
        "points": chosen.keep_readings_d,
        "predictions": chosen.keep_predictions_d,
        "outbox": chosen.keep_outbox_d,
        "events": chosen.keep_events_d,
        "dead_letters": chosen.keep_dead_letters_d,
        "tokens": KEEP_ENDED_D,
    }


def piece(engine: Engine, keep: Mapping[str, float | None], now: int, seconds: float = PIECE_S) -> Removed:
    """Remove what is older than its kind, or its class, is kept (days), for about so many seconds; `now` in ns."""
    removed = Removed()
    end = time.monotonic() + seconds
    for kind, days in [*((kind, keep[kind.name]) for kind in KINDS), *_of_classes(engine)]:
        if days is None:
            continue
        limit = BATCH
        while time.monotonic() < end:
            began = time.monotonic()
            count = remove(engine, kind, now - round(days * DAY_NS), limit)
            removed.rows[kind.name] += count
            if count < limit:
                break
            if time.monotonic() - began > LONG_S:
                limit = max(LEAST, limit // 2)
        else:
            removed.more = True
    return removed


def _of_classes(engine: Engine) -> list[tuple[Kind, float | None]]:
    """What a class keeps, and for how many days."""
    with reading(engine) as session:
        found = classes(session)
    return [
        (Kind(name, rows, _past(rows, one.name)), one.keep_days)
        for one in found for name, rows in (("readings", ChunkRow), ("points", ThinnedRow))
    ]  # fmt: skip


def remove(engine: Engine, kind: Kind, before: int, limit: int) -> int:
    """One transaction; found before it begins, so that nobody waits for the search. Returns how many were found."""
    with reading(engine) as session:
        found = dict(kind.find(session, before, limit))
    if not found:
        return 0
    mine = table(kind.rows)
    with writing(engine) as session:
        # Whoever removes at the same time leaves these to us, and counts them not.
        there = select(mine.c.id).where(mine.c.id.in_(found), *_still(kind)).with_for_update(skip_locked=True)
        keys = list(session.scalars(there))
        for other in kind.also:
            session.execute(delete(other.table).where(other.in_(keys)))
        _delete(session, kind, keys)
        for whose, rows in sorted(Counter(found[key] for key in keys).items()):
            add_to(session, RemovalRow, {"kind": kind.name, "whose": whose}, {"rows": rows})
    return len(found)


def _delete(session: Session, kind: Kind, keys: Sequence[Any]) -> None:
    if kind.rows is ChunkRow:
        take_out(session, keys)
    else:
        mine = table(kind.rows)
        session.execute(delete(mine).where(mine.c.id.in_(keys)))


def _still(kind: Kind) -> tuple[ColumnElement[bool], ...]:
    """What may have changed since it was found: a publication that is to be sent again."""
    return (_outbox.c.sent_at.is_not(None),) if kind.rows is OutboxRow else ()


def within_budget(engine: Engine, budget: int, seconds: float = PIECE_S) -> Removed:
    """Remove readings and points while the compacted history takes more than so many bytes.

    Those of the classes with the greatest number as their priority leave first, of these the oldest.
    """
    removed = Removed()
    end = time.monotonic() + seconds
    blocks, axes = _size(engine)
    # Axes leave with the chunks that share them: so many bytes of chunks stand for all that is too much.
    excess = max(0, blocks + axes - budget) * blocks / max(1, blocks + axes)
    while excess > 0 and not removed.more:
        with reading(engine) as session:
            first = _least_valuable(session)
        chosen: list[Block] = []
        while len(chosen) < len(first) and excess > 0:
            chosen.append(first[len(chosen)])
            excess -= chosen[-1].size
        for kind in PAST:
            count = _leave(engine, kind, {one.id: one.whose for one in chosen if one.rows is kind.rows})
            removed.rows[kind.name] += count
        if not chosen:
            break
        removed.more = excess > 0 and time.monotonic() > end
    return removed


def _leave(engine: Engine, kind: Kind, chosen: Mapping[int, str]) -> int:
    """Remove these blocks, each counted for its connection."""
    if not chosen:
        return 0
    mine = table(kind.rows).c.id
    with writing(engine) as session:
        keys = list(session.scalars(select(mine).where(mine.in_(chosen))))
        _delete(session, kind, keys)
        for whose, rows in sorted(Counter(chosen[key] for key in keys).items()):
            add_to(session, RemovalRow, {"kind": kind.name, "whose": whose}, {"rows": rows})
    return len(keys)


def _size(engine: Engine) -> tuple[int, int]:
    """Bytes of chunks and points, and of the axes that chunks share, as they are packed."""
    with reading(engine) as session:
        sizes = [session.scalar(select(func.sum(func.length(r.block)))) for r in (ChunkRow, ThinnedRow, AxisRow)]
    chunks, points, axes = (int(size or 0) for size in sizes)
    return chunks + points, axes


@dataclass(frozen=True, slots=True)
class Block:
    """Readings or points of one tag that may leave."""

    last_time: int
    id: int
    size: int
    whose: str
    rows: type[Base]


def _least_valuable(session: Session) -> list[Block]:
    """The oldest of the classes of the lowest priority that have any; tags without a class have `NO_CLASS`."""
    priorities: dict[int, list[str | None]] = {NO_CLASS: [None]}
    for one in classes(session):
        priorities.setdefault(one.priority, []).append(one.name)
    for _, names in sorted(priorities.items(), reverse=True):
        mine = or_(*(_tags.c.history.is_(None) if name is None else _tags.c.history == name for name in names))
        if found := _oldest(session, mine):
            return found
    return []


def _oldest(session: Session, mine: ColumnElement[bool]) -> list[Block]:
    """Of some tags; searched by tag and not by time, since of others there may be many that are older."""
    first = [
        session.scalar(select(func.min(
            select(func.min(row.last_time)).where(row.tag_id == _tags.c.id).correlate(_tags).scalar_subquery()
        )).where(mine))
        for row in (table(kind.rows).c for kind in PAST)
    ]  # fmt: skip
    begin = min((one for one in first if one is not None), default=None)
    span = SPAN_NS
    while begin is not None:
        until = min(begin + span, times.LAST)
        found = [block for kind in PAST for block in _blocks(session, kind.rows, mine, until)]
        if found or until == times.LAST:
            return sorted(found, key=lambda one: (one.last_time, one.id))[:BATCH]
        span *= 8
    return []


def _blocks(session: Session, rows: type[Base], mine: ColumnElement[bool], until: int) -> list[Block]:
    row = table(rows).c
    query = (
        select(row.last_time, row.id, func.length(row.block), row.connection_id)
        .join(_tags, _tags.c.id == row.tag_id)
        .where(mine, row.last_time <= until)
        .order_by(row.last_time, row.id)
        .limit(BATCH)
    )
    return [Block(last, key, size, str(whose), rows) for last, key, size, whose in session.execute(query)]


def removals(engine: Engine) -> Counter[str]:
    """Rows that were removed since the box was set up, by kind."""
    query = select(RemovalRow.kind, func.sum(RemovalRow.rows)).group_by(RemovalRow.kind)
    with reading(engine) as session:
        return Counter({kind: int(rows) for kind, rows in session.execute(query)})


def oldest(engine: Engine) -> dict[str, int | None]:
    """Kind → when its oldest row is from (ns); None where there is none, as of `thinned`, which has no rows."""
    ages = {
        "readings": _chunks.c.first_time, "points": _thinned.c.first_time,
        "predictions": _predictions.c.end_time, "outbox": _outbox.c.due_at,
        "events": _events.c.raised_at, "dead_letters": _letters.c.at,
    }  # fmt: skip
    with reading(engine) as session:
        return {kind: session.scalar(select(func.min(at))) for kind, at in ages.items()} | {THINNED: None}
