"""Applies a message: one transaction that starts with the batch id and ends with the outbox."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import insert, select

from app import times
from app.db import add_to, insert_new, writing
from app.events import service as events
from app.ledger.tables import LedgerRow
from app.northbound.schemas import PREDICTION_TYPE, ROOT, SEVERITY, PredictionBody, node, topic
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.plant.queries import path_in_force
from app.readings.tables import AppliedRow, BatchRow, DeadLetterRow, WatermarkRow
from app.scoring.tables import ContextRow, PredictionRow, StationCountRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.inferring import Scored
    from app.records import Message

NAMESPACE: Final = uuid.UUID("6f0d4f39-4f0c-5d1b-9a36-5b2f0a1e7c11")
"""Prediction and event ids are derived in this namespace (RFC 9562, version 5)."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """One enabled subscription as the outbox needs it."""

    id: int
    connector: str
    topic: str


def prediction_id(version: int, start: int, end: int, sequence: int | None, revision: int) -> str:
    """The same for the same window of the same version, whichever message carries it and however often."""
    return str(uuid.uuid5(NAMESPACE, f"{version}:{start}:{end}:{sequence}:{revision}"))


def apply(engine: Engine, message: Message, scored: Sequence[Scored]) -> bool:
    """Store everything a message brings, once. False when it was applied before: then nothing changes."""
    with writing(engine) as session:
        if _known(session, message):
            return False
        _store(session, message)
        consumers = _consumers(session)
        plant = path_in_force(session) if scored else ""
        for one in scored:
            _store_predictions(session, message, one, consumers, plant)
        return True


def _known(session: Session, message: Message) -> bool:
    """Whether this batch id was applied; if not, it is now, in this transaction."""
    mark = session.scalar(
        select(WatermarkRow.number)
        .where(WatermarkRow.journal == message.journal, WatermarkRow.epoch == message.epoch)
        .with_for_update(read=True),
    )
    if mark is not None and message.number <= mark:
        return True
    values = {"journal": message.journal, "epoch": message.epoch, "number": message.number}
    return not insert_new(session, AppliedRow, values)


def _store(session: Session, message: Message) -> None:
    """The readings, what was refused with them, and their entries in the ledger."""
    record = message.record
    if record.count:
        session.execute(insert(BatchRow), [{
            "journal": message.journal, "epoch": message.epoch, "number": message.number,
            "connection_id": record.connection, "revision": record.revision, "received_time": record.received_time,
            "first_time": record.first_time, "last_time": record.last_time, "count": record.count,
            "wide": record.last_time - record.first_time > 60 * times.NANOS,
            "columns": record.columns,
        }])
        _count(session, message, "stored", "", record.count)
    if record.refused:
        session.execute(insert(DeadLetterRow), [
            {
                "connection_id": record.connection, "at": record.received_time, "address": one.address[:500],
                "reason": one.reason[:60], "detail": one.detail[:1000], "excerpt": one.excerpt[:256],
                "readings": one.readings,
            }
            for one in record.refused
        ])
        reasons: dict[str, int] = {}
        for one in record.refused:
            reasons[one.reason] = reasons.get(one.reason, 0) + one.readings
        for reason, readings in sorted(reasons.items()):
            _count(session, message, "refused", reason[:60], readings)
    if record.lost:
        _count(session, message, "lost_by_peer", "", record.lost)


def _count(session: Session, message: Message, fate: str, reason: str, readings: int) -> None:
    key = {"journal": message.journal, "connection_id": message.record.connection, "fate": fate, "reason": reason}
    add_to(session, LedgerRow, key, {"readings": readings, "batches": 1})


def _consumers(session: Session) -> list[Consumer]:
    query = select(SubscriptionRow.id, SubscriptionRow.connector, SubscriptionRow.topic).where(SubscriptionRow.enabled)
    return [Consumer(row.id, row.connector, row.topic) for row in session.execute(query)]


def _store_predictions(
    session: Session, message: Message, scored: Scored, consumers: Sequence[Consumer], plant: str,
) -> None:
    rows = list(_rows(message, scored))
    session.execute(insert(PredictionRow), rows)
    if scored.dead:
        session.execute(insert(DeadLetterRow), [{
            "connection_id": message.record.connection, "at": message.record.received_time,
            "address": scored.version.pipeline[:500], "reason": "input_refused", "detail": scored.dead[:1000],
            "excerpt": b"", "readings": 0,
        }])
    outbox = [row for consumer in consumers for row in _publications(scored, rows, consumer, plant)]
    if outbox:
        session.execute(insert(OutboxRow), outbox)
    if scored.version.spec.context:
        _store_context(session, scored)
        _count_units(session, scored)
    events.advance(session, scored.version, rows, consumers, plant)


def _rows(message: Message, scored: Scored) -> Iterator[dict[str, Any]]:
    now, spec, passport = times.now(), scored.version.spec, scored.passport
    for index in range(len(scored)):
        start, end, sequence = (int(a[index]) for a in (scored.start_time, scored.end_time, scored.sequence))
        context = dict(scored.context[index]) if scored.context else {}
        unit = context.pop("unit_id", None)
        yield {
            "id": prediction_id(scored.version.id, start, end, sequence, 0),
            "pipeline_id": scored.version.pipeline_id, "version_id": scored.version.id, "sequence": sequence,
            "revision": 0, "late": False, "start_time": start, "end_time": end, "status": scored.status[index],
            "reason": scored.reason[index][:300], "outputs": scored.outputs[index],
            "unit_id": None if unit is None else str(unit)[:100], "context": context, "asset": spec.asset,
            "model_digest": spec.model_digest, "device_wanted": passport.device_wanted or spec.devices[0],
            "device": passport.device, "backend": passport.backend, "nodes": passport.nodes,
            "nodes_on_device": passport.on_device, "latency_ns": scored.latency_ns, "newest_time": scored.newest,
            "received_time": message.record.received_time, "created_time": now, "journal": message.journal,
            "epoch": message.epoch, "number": message.number, "input_digest": f"sha256:{scored.digest[index]}",
            "precision": "fp32",
        }


def _publications(
    scored: Scored, rows: Sequence[dict[str, Any]], consumer: Consumer, plant: str,
) -> Iterator[dict[str, Any]]:
    version = scored.version
    where = topic(consumer.topic or "headrace", plant, version.spec.asset, "prediction", version.pipeline)
    for row in rows:
        yield outbox_row(
            consumer, row["id"], key=f"pipeline:{version.pipeline}", where=where, content_type=PREDICTION_TYPE,
            body=msgspec.json.encode(_body(scored, row)) if consumer.connector == "mqtt" else b"",
            nodes=_nodes(scored, row) if consumer.connector == "opcua" else [],
            source_time=row["newest_time"], due_at=row["created_time"],
        )


def outbox_row(  # noqa: PLR0913 - the columns of an outbox row
    consumer: Consumer, publication: str, *, key: str, where: str, content_type: str, body: bytes,
    nodes: list[dict[str, Any]], source_time: int, due_at: int,
) -> dict[str, Any]:
    """One row of the outbox."""
    return {
        "subscription_id": consumer.id, "publication_id": publication, "key": key[:200], "topic": where[:500],
        "content_type": content_type, "body": body, "nodes": nodes, "retain": False, "source_time": source_time,
        "due_at": due_at, "sent_at": None, "attempts": 0, "error": "",
    }


def _body(scored: Scored, row: dict[str, Any]) -> PredictionBody:
    return PredictionBody(
        id=row["id"], pipeline=scored.version.pipeline, version=scored.version.number, sequence=row["sequence"],
        start=times.rfc3339(row["start_time"]), end=times.rfc3339(row["end_time"]), status=row["status"],
        quality=SEVERITY[row["status"] >> 30], reason=row["reason"], outputs=row["outputs"], unit_id=row["unit_id"],
        context=row["context"], model=row["model_digest"], device=row["device"], backend=row["backend"],
        latency_ms=row["latency_ns"] / 1e6, newest_time=times.rfc3339(row["newest_time"]),
    )


def _nodes(scored: Scored, row: dict[str, Any]) -> list[dict[str, Any]]:
    spec = scored.version.spec
    base = "/".join(level for level in (ROOT, spec.asset, spec.name) if level)
    status, at = row["status"], row["end_time"]
    made = [node(f"{base}/prediction_id", row["id"], status, at, description="id of the prediction shown here")]
    made += [node(f"{base}/unit_id", row["unit_id"], status, at, description="the part")] if row["unit_id"] else []
    for output in spec.outputs:
        value = row["outputs"].get(output.name)
        if isinstance(value, int | float | str):
            made.append(node(f"{base}/{output.name}", value, status, at, output.unit, output.description))
        elif value is None:
            made.append(node(f"{base}/{output.name}", 0.0, status, at, output.unit, output.description))
    return made


def _store_context(session: Session, scored: Scored) -> None:
    """A context field gets a row when its value changes: append-only."""
    asset = scored.version.spec.asset or scored.version.pipeline
    newest: dict[str, str] = {}
    for field in scored.version.spec.context:
        query = select(ContextRow.value).where(ContextRow.asset == asset, ContextRow.field == field)
        found = session.scalar(query.order_by(ContextRow.since.desc()).limit(1))
        if found is not None:
            newest[field] = found
    for end, context in zip(scored.end_time.tolist(), scored.context, strict=True):
        for field, value in context.items():
            if newest.get(field) != str(value):
                newest[field] = str(value)
                insert_new(session, ContextRow, {"asset": asset, "field": field, "since": end, "value": str(value)})


def _count_units(session: Session, scored: Scored) -> None:
    """Per station: answered and refused."""
    refused = sum(1 for reason in scored.reason if reason)
    key = {"asset": scored.version.spec.asset or scored.version.pipeline, "version_id": scored.version.id}
    add_to(session, StationCountRow, key, {"answered": len(scored) - refused, "refused": refused})
