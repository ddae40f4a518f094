"""Applies a message: one transaction that starts with the batch id and ends with the outbox."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import bindparam, func, select
from sqlalchemy.exc import IntegrityError, StatementError

from app import fencing, times
from app.backfill import service as backfill
from app.db import UnreachableError, add_to, insert_all, insert_new, table, writing
from app.events import service as events
from app.ledger.service import lengthen_gap
from app.ledger.tables import GapRow, LedgerRow
from app.letters import service as letters
from app.northbound.queries import north
from app.northbound.schemas import North, outbox_rows
from app.northbound.tables import OutboxRow
from app.pipelines.tables import PipelineVersionRow
from app.places import NOWHERE
from app.readings.tables import WIDE_S, AppliedRow, BatchRow, DeadLetterRow, WatermarkRow
from app.reports.service import report
from app.scoring.schemas import announcement
from app.scoring.tables import ContextRow, PredictionRow, StationCountRow
from app.states import service as states
from app.texts import storable
from inference.window import CYCLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.backfill.service import Work
    from app.inferring import Scored
    from app.letters.service import Work as Letter
    from app.messages import Message
    from app.records import Record, WindowBlock

TryAgainError: Final = (*UnreachableError, IntegrityError)
"""The database does not answer, or another transaction was in the way: nothing was applied, try again."""
NotStorableError: Final = StatementError
"""The database refuses a value; it includes the errors above, so catch those first."""
NEWEST_FIRST: Final = "newest_first"
LATE: Final = "gap"
LETTER: Final = "letter"
"""Stand for a journal where no record closed a window: its number is that of the gap that was filled, or of the dead
letter that was replayed."""
NAMESPACE: Final = uuid.UUID("6f0d4f39-4f0c-5d1b-9a36-5b2f0a1e7c11")
"""Prediction ids are derived in this namespace (RFC 9562, version 5)."""


_Row: TypeAlias = dict[str, Any]
"""Columns of a prediction, by name."""

_marks = table(WatermarkRow)
_predictions = table(PredictionRow)
_contexts = table(ContextRow)


_MARK = (
    select(_marks.c.number)
    .where(_marks.c.journal == bindparam("of"), _marks.c.epoch == bindparam("since"))
    .with_for_update(read=True)
)
"""Statements are put together once: at ten messages a second that is a twentieth of a worker's time."""


def prediction_id(version: int, start: int, end: int, sequence: int | None, revision: int) -> str:
    """The same for the same window of the same version, whichever message carries it and however often."""
    return str(uuid.uuid5(NAMESPACE, f"{version}:{start}:{end}:{sequence}:{revision}"))


def apply(
    engine: Engine, message: Message, scored: Sequence[Scored], unscored: Sequence[tuple[WindowBlock, str]] = ()
) -> bool:
    """Store everything a message brings, once. False when it was applied before: then nothing changes.

    `unscored`: windows that nobody can score, and why: they become dead letters. Raises
    `TryAgainError` or `NotStorableError` when nothing was applied.
    """
    with writing(engine) as session:
        if _known(session, message):
            return False
        letters.ended(session, message)
        fence = fencing.look(session, message)
        record, repeated = fencing.without_stored(engine, message.record) if fence.overlaps else (message.record, 0)
        _store_readings(session, message, record)
        _store_gap(session, message)
        backfill.fill(session, message.record)
        _store_dead(session, message, scored, unscored)
        _store_late(session, _origin(message), [one for one in scored if not fence.is_live(one.block)])
        scored = [one for one in scored if fence.is_live(one.block)]
        told = north(session) if scored or message.record.events else North((), "")
        # Always in the same order: transactions that lock the same rows wait for each other and never in a circle.
        ordered = sorted(scored, key=lambda each: each.version.id)
        fresh = _new(session, [(one, _placed(session, one, _rows(_origin(message), one))) for one in ordered])
        for late in (True, False):
            whom = _without_nodes(told) if late else told
            mine = [announcement(one, row, whom) for one, rows in fresh for row in rows if row["late"] is late]
            insert_all(session, OutboxRow, outbox_rows(whom, mine))
        for one, rows in fresh:
            if rows:
                _follow(session, one, rows, told)
            if one.carried is not None:
                states.move(session, one.version.id, one.carried)
        counts = _taken(record, fencing.LATE if fence.late else "", repeated)
        _count(session, message, counts, report(session, message.record, told))
        return True


def _taken(record: Record, why: str, repeated: int) -> Counter[tuple[str, str, int]]:
    """By fate, reason and place, what became of readings that were not refused by the connector.

    `repeated`: how many others another gateway had stored; of which places they are is not looked up.
    """
    became = ("stored", why) if record.dropped is None else ("dropped", record.dropped.reason)
    placed = {NOWHERE: record.count} if repeated else record.placed()
    counts = Counter({(*became, place): readings for place, readings in placed.items()})
    counts["refused", fencing.REPEATED, NOWHERE] = repeated
    return counts


def _placed(session: Session, scored: Scored, rows: Iterator[_Row]) -> list[_Row]:
    """Where the newest windows go first, those that come behind a newer one are late; under a lock of the version."""
    if scored.version.spec.catch_up != NEWEST_FIRST:
        return list(rows)
    version = scored.version.id
    session.execute(select(PipelineVersionRow.id).where(PipelineVersionRow.id == version).with_for_update())
    newest = session.scalar(select(func.max(_predictions.c.end_time)).where(_predictions.c.version_id == version)) or 0
    return [{**row, "late": row["end_time"] < newest} for row in rows]


def _without_nodes(told: North) -> North:
    """Those who are sent bodies: a node shows what is now, and is left alone."""
    return North(tuple(one for one in told.consumers if not one.wants_nodes), told.plant)


def _known(session: Session, message: Message) -> bool:
    """Whether this batch id was applied; if not, it is now, in this transaction."""
    mark = session.connection().scalar(_MARK, {"of": message.journal, "since": message.epoch})
    if mark is not None and message.number <= mark:
        return True
    key = {"journal": message.journal, "epoch": message.epoch, "number": message.number}
    return not insert_new(session, AppliedRow, key)


def _store_readings(session: Session, message: Message, record: Record) -> None:
    if not record.count:
        return
    insert_all(session, BatchRow, [{
        "journal": message.journal,
        "epoch": message.epoch,
        "number": message.number,
        "connection_id": record.connection,
        "revision": record.revision,
        "received_time": record.received_time,
        "first_time": record.first_time,
        "last_time": record.last_time,
        "wide": record.last_time - record.first_time > WIDE_S * times.NANOS,
        "count": record.count,
        "columns": record.columns,
        "gap_id": None if record.fill is None else record.fill.gap,
    }])


def _store_gap(session: Session, message: Message) -> None:
    record = message.record
    if record.gap_since:
        session.add(GapRow(connection_id=record.connection, since=record.gap_since, until=record.received_time))


def _store_dead(
    session: Session, message: Message, scored: Sequence[Scored], unscored: Sequence[tuple[WindowBlock, str]]
) -> None:
    """What the connector refused, the windows that could not be scored, and those of versions that nobody knows."""
    insert_all(session, DeadLetterRow, [
        _letter(message.record, one.address, one.reason, one.detail, one.excerpt, one.readings)
        for one in message.record.refused
    ])
    for one in scored:
        if one.dead is not None:
            why = one.dead.why
            letter = _letter(message.record, one.version.pipeline, why.partition(":")[0], why)
            letters.keep(session, letter, one.block, one.dead.windows)
    for block, why in unscored:
        letter = _letter(message.record, f"pipeline version {block.version_id}", "version_unusable", why)
        letters.keep(session, letter, block, range(len(block.sequence) // 8))


def _letter(record: Record, address: str, reason: str, detail: str, excerpt: bytes = b"", readings: int = 0) -> _Row:
    return {
        "connection_id": record.connection,
        "at": record.received_time,
        "address": storable(address, 500),
        "reason": storable(reason, 60),
        "detail": storable(detail, 1000),
        "excerpt": excerpt[:256],
        "readings": readings,
    }


def _count(
    session: Session, message: Message, counts: Counter[tuple[str, str, int]], of_events: Mapping[str, int]
) -> None:
    """The ledger's counters, last: their rows are the ones that every transaction of a connection waits for.

    `counts`: by fate, reason and place, what became of the readings that were taken. `of_events`: of the plant's
    events. They are no readings, have a fate of their own and enter no balance.
    """
    record = message.record
    for one in record.refused:
        counts["refused", storable(one.reason, 60), one.place] += one.readings
    counts["lost_by_peer", "", NOWHERE] = record.lost
    for became, number in of_events.items():
        counts["event", became, NOWHERE] = number
    mine = {"journal": message.journal, "connection_id": record.connection}
    for (fate, reason, place), readings in sorted(counts.items()):
        if readings:
            key = {**mine, "place_id": place, "fate": fate, "reason": reason}
            add_to(session, LedgerRow, key, {"readings": readings, "batches": 1})
    if (gone := record.dropped) is not None:
        # Under the lock of the row that was just counted in.
        lengthen_gap(session, record.connection, (gone.since, record.alive), gone.reason)


def _new(session: Session, made: list[tuple[Scored, list[_Row]]]) -> list[tuple[Scored, list[_Row]]]:
    """Store these predictions, all in one call, and return those that were not there yet.

    A window may come in two messages; then each version is asked for what it has.
    """
    everything = [row for _, rows in made for row in rows]
    if not everything or insert_new(session, PredictionRow, *everything):
        return made
    fresh = []
    for one, rows in made:
        mine = select(_predictions.c.id).where(_predictions.c.id.in_([row["id"] for row in rows]))
        there = set(session.scalars(mine))
        fresh.append((one, [row for row in rows if row["id"] not in there]))
    insert_all(session, PredictionRow, [row for _, rows in fresh for row in rows])
    return fresh


def _follow(session: Session, scored: Scored, rows: list[_Row], told: North) -> None:
    """What predictions that are stored bring about: context in force, alarms, counts of units."""
    spec = scored.version.spec
    if spec.context:
        _store_context(session, spec.asset or spec.name, rows)
    events.advance(session, scored.version, rows, told)
    if spec.window.kind in CYCLES:
        refused = sum(1 for row in rows if row["reason"])
        key = {"asset": spec.asset or spec.name, "version_id": scored.version.id}
        add_to(session, StationCountRow, key, {"answered": len(rows) - refused, "refused": refused})


def apply_late(engine: Engine, work: Work, scored: Sequence[Scored], done_until: int) -> bool:
    """Store windows that were computed again, up to this end (ns), once; False when others did.

    Each is a further revision of its window, without a number: rules, alarms and counts have had theirs. Consumers
    that are sent bodies are told; a node shows what is now, and is left alone. Raises as `apply` does.
    """
    with writing(engine) as session:
        if not backfill.advance(session, work, done_until, sum(map(len, scored))):
            return False
        _store_late(session, _stand_in(LATE, work.gap), scored)
        return True


def apply_replayed(engine: Engine, work: Letter, scored: Scored) -> bool:
    """The same for the windows of a dead letter: False when they are no longer wanted."""
    why = [reason for reason in scored.reason if reason]
    with writing(engine) as session:
        if not letters.settle(session, work, len(scored) - len(why), len(scored), why[0] if why else ""):
            return False
        _store_late(session, _stand_in(LETTER, work.letter), [scored])
        return True


def _stand_in(journal: str, number: int) -> _Row:
    """What stands for the record that closed the windows."""
    return {"received_time": times.now(), "journal": journal, "epoch": 0, "number": number}


def _store_late(session: Session, origin: _Row, scored: Sequence[Scored]) -> None:
    """`origin`: the record that closed the windows, or what stands for it."""
    if not scored:
        return
    told = _without_nodes(north(session))
    for one in scored:
        rows = _revised(session, one, _rows(origin, one))
        insert_all(session, PredictionRow, rows)
        insert_all(session, OutboxRow, outbox_rows(told, [announcement(one, row, told) for row in rows]))


def _revised(session: Session, scored: Scored, rows: Iterator[_Row]) -> list[_Row]:
    """The next revision of each window, under the lock of its work."""
    version, ends = scored.version.id, scored.end_time.tolist()
    mine = (_predictions.c.version_id == version) & _predictions.c.end_time.between(ends[0], ends[-1])
    query = select(_predictions.c.end_time, func.max(_predictions.c.revision)).where(mine)
    known = {row[0]: row[1] for row in session.execute(query.group_by(_predictions.c.end_time))}
    made = []
    for row in rows:
        end, revision = row["end_time"], known.get(row["end_time"], 0) + 1
        key = prediction_id(version, row["start_time"], end, None, revision)
        newest = min(row["newest_time"], end)
        made.append(row | {"id": key, "sequence": None, "revision": revision, "late": True, "newest_time": newest})
    return made


def _origin(message: Message) -> _Row:
    """Where windows come from: the record that closed them."""
    return {
        "received_time": message.record.received_time,
        "journal": message.journal,
        "epoch": message.epoch,
        "number": message.number,
    }


def _rows(origin: _Row, scored: Scored) -> Iterator[_Row]:
    """One row a window: all that is the same for the block is put together once."""
    version, passport, standing = scored.version, scored.passport, scored.passport.standing
    same = {
        "pipeline_id": version.pipeline_id,
        "version_id": version.id,
        "revision": 0,
        "late": False,
        "asset": version.spec.asset,
        "model_digest": version.spec.model_digest,
        "device_wanted": passport.device_wanted or version.spec.devices[0],
        "device": passport.device,
        "backend": passport.backend,
        "driver": passport.driver,
        "certificate": "" if standing is None else standing.state,
        "certificate_id": None if standing is None else standing.certificate,
        "precision": passport.precision,
        "nodes": passport.nodes,
        "nodes_on_device": passport.on_device,
        "latency_ns": scored.latency_ns,
        "newest_time": scored.newest,
        "created_time": times.now(),
        **origin,
    }
    columns = (scored.start_time.tolist(), scored.end_time.tolist(), scored.sequence.tolist())
    for index, (start, end, sequence) in enumerate(zip(*columns, strict=True)):
        context = dict(scored.context[index]) if scored.context else {}
        unit = context.pop("unit_id", None)
        yield same | {
            "id": prediction_id(version.id, start, end, sequence, 0),
            "sequence": sequence,
            "start_time": start,
            "end_time": end,
            "status": scored.status[index],
            "reason": storable(scored.reason[index], 300),
            "outputs": scored.outputs[index],
            "unit_id": None if unit is None else storable(str(unit), 100),
            "context": context,
            "input_digest": f"sha256:{scored.digest[index]}",
        }


def _store_context(session: Session, asset: str, rows: Sequence[dict[str, Any]]) -> None:
    """A context field gets a row when its value is another than the one in force before: append-only."""
    in_force: dict[str, str | None] = {}
    for row in rows:
        fields = {**row["context"], **({"unit_id": row["unit_id"]} if row["unit_id"] else {})}
        for field, value in fields.items():
            shown = storable(str(value), 2000)
            if field not in in_force:
                in_force[field] = _in_force(session, asset, field, row["end_time"])
            if in_force[field] != shown:
                in_force[field] = shown
                change = {"asset": asset, "field": field, "since": row["end_time"], "value": shown}
                insert_new(session, ContextRow, change)


def _in_force(session: Session, asset: str, field: str, at: int) -> str | None:
    mine = (_contexts.c.asset == asset) & (_contexts.c.field == field) & (_contexts.c.since <= at)
    return session.scalar(select(_contexts.c.value).where(mine).order_by(_contexts.c.since.desc()).limit(1))
