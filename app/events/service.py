"""Rules and their memory: predictions are taken by sequence number, whoever brings the missing one goes on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import insert, select, update

from app import times
from app.db import insert_new, writing
from app.events.tables import EventRow, RuleStateRow
from app.northbound.schemas import EVENT_TYPE, ROOT, CloudEvent, EventData, event_time, node, topic
from app.northbound.tables import OutboxRow
from app.scoring.tables import PredictionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.pipelines.schemas import RuleSpec
    from app.pipelines.service import Version
    from app.scoring.service import Consumer

NAMESPACE: Final = uuid.UUID("0a9b0b6e-52a8-5c0e-8f0c-3a0f0a7d6c42")
PAGE: Final = 5000
"""Predictions a rule takes in one transaction at most when it catches up."""
UNACK_ACTIVE, ACK_ACTIVE, RTN_UNACK, NORMAL = "unack_active", "ack_active", "rtn_unack", "normal"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a rule remembers between predictions."""

    sequence: int
    active: bool
    streak: int
    event_id: str | None


def over(rule: RuleSpec, value: object) -> bool | None:
    """Whether a value is beyond the rule's limit; None when it is no number, which changes nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return (rule.above is not None and value > rule.above) or (rule.below is not None and value < rule.below)


def back(rule: RuleSpec, value: object) -> bool | None:
    """Whether a value is back inside, the deadband included; None when it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    upper = rule.clear if rule.clear is not None and rule.above is not None else rule.above
    lower = rule.clear if rule.clear is not None and rule.below is not None else rule.below
    return (upper is None or value <= upper) and (lower is None or value >= lower)


def step(rule: RuleSpec, memory: Memory, sequence: int, value: object) -> tuple[Memory, str]:
    """The rule's next memory, and `raise`, `clear` or nothing. Pure: ISA-18.2 on- and off-delay in predictions."""
    hit = back(rule, value) if memory.active else over(rule, value)
    if not hit:
        streak = memory.streak if hit is None else 0
        return Memory(sequence, memory.active, streak, memory.event_id), ""
    streak = memory.streak + 1
    if streak < (rule.off_delay if memory.active else rule.on_delay):
        return Memory(sequence, memory.active, streak, memory.event_id), ""
    return Memory(sequence, not memory.active, 0, memory.event_id), "clear" if memory.active else "raise"


def event_id(version: int, rule: str, prediction: str) -> str:
    """The same for the same raising prediction."""
    return str(uuid.uuid5(NAMESPACE, f"{version}:{rule}:{prediction}"))


def advance(
    session: Session, version: Version, fresh: Sequence[dict[str, Any]], consumers: Sequence[Consumer], plant: str,
) -> None:
    """Let every rule of a version take the predictions that are next, stored ones of other batches too."""
    for rule in version.spec.rules:
        _advance(session, version, rule, {row["sequence"]: row for row in fresh}, consumers, plant)


def _advance(  # noqa: PLR0913 - a transaction, a rule, and what it may need
    session: Session, version: Version, rule: RuleSpec, fresh: dict[int, dict[str, Any]],
    consumers: Sequence[Consumer], plant: str,
) -> None:
    state = _locked(session, version.id, rule.name)
    memory = Memory(state.sequence, state.active, state.streak, state.event_id)
    for row in _next(session, version.id, memory.sequence, fresh):
        value = row["outputs"].get(rule.output) if not row["reason"] else None
        memory, happened = step(rule, memory, row["sequence"], value)
        if happened == "raise":
            raised = _raise(session, version, rule, row, value)
            memory = Memory(memory.sequence, memory.active, memory.streak, raised["id"])
            _announce(session, version, rule, raised, row, "raised", consumers, plant)
        elif happened == "clear" and memory.event_id is not None:
            cleared = _clear(session, memory.event_id, row)
            memory = Memory(memory.sequence, memory.active, memory.streak, None)
            _announce(session, version, rule, cleared, row, "cleared", consumers, plant)
    _remember(session, state, memory)


def _locked(session: Session, version: int, rule: str) -> RuleStateRow:
    mine = (RuleStateRow.version_id == version) & (RuleStateRow.rule == rule)
    query = select(RuleStateRow).where(mine).with_for_update()
    found = session.scalar(query)
    if found is None:
        start = {"version_id": version, "rule": rule, "sequence": 0, "active": False, "streak": 0, "version": 0}
        insert_new(session, RuleStateRow, start)
        found = session.scalars(query).one()
    return found


def _next(session: Session, version: int, last: int, fresh: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Predictions from `last + 1` on without a hole: those of this batch, then those stored by others."""
    found: list[dict[str, Any]] = []
    stored: dict[int, dict[str, Any]] | None = None
    while len(found) < PAGE:
        wanted = last + len(found) + 1
        row = fresh.get(wanted)
        if row is None:
            stored = _stored(session, version, wanted) if stored is None else stored
            row = stored.get(wanted)
        if row is None:
            return found
        found.append(row)
    return found


def _stored(session: Session, version: int, since: int) -> dict[int, dict[str, Any]]:
    row = PredictionRow
    query = (
        select(row.id, row.sequence, row.reason, row.outputs, row.end_time, row.status, row.unit_id, row.context,
               row.newest_time, row.asset)
        .where(row.version_id == version, row.sequence >= since)
        .order_by(row.sequence)
        .limit(PAGE)
    )
    return {found.sequence: dict(found._mapping) for found in session.execute(query)}  # noqa: SLF001 - the public name


def _raise(
    session: Session, version: Version, rule: RuleSpec, row: dict[str, Any], value: object,
) -> dict[str, Any]:
    limit = f"> {rule.above:g}" if rule.above is not None else f"< {rule.below:g}"
    made = {
        "id": event_id(version.id, rule.name, row["id"]), "pipeline_id": version.pipeline_id, "version_id": version.id,
        "rule": rule.name, "prediction_id": row["id"], "cleared_by": None, "state": UNACK_ACTIVE,
        "priority": rule.priority, "message": _texts(rule, row), "value": value, "limit": limit,
        "unit_id": row["unit_id"], "context": row["context"], "raised_at": row["end_time"], "cleared_at": None,
        "acked_at": None, "acked_by": None, "comment": "",
    }
    session.execute(insert(EventRow), [made])
    return made


def _texts(rule: RuleSpec, row: dict[str, Any]) -> dict[str, str]:
    """The rule's texts with `{output}` filled in; a name that is not there stays as it is."""
    texts = dict(rule.message) or {"en": f"{rule.name}: {{{rule.output}}}", "zh-CN": f"{rule.name}：{{{rule.output}}}"}
    for name, value in {**row["outputs"], "unit_id": row["unit_id"]}.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        texts = {language: text.replace(f"{{{name}}}", shown) for language, text in texts.items()}
    return texts


def _clear(session: Session, raised: str, row: dict[str, Any]) -> dict[str, Any]:
    event = session.get_one(EventRow, raised)
    event.state = RTN_UNACK if event.acked_at is None else NORMAL
    event.cleared_at, event.cleared_by = row["end_time"], row["id"]
    session.flush()
    return {name: getattr(event, name) for name in ("id", "state", "priority", "message", "value", "limit", "unit_id", "context")}


def _remember(session: Session, state: RuleStateRow, memory: Memory) -> None:
    """Compare and swap; the row is locked, so a difference means a defect and must not pass."""
    changed = session.execute(
        update(RuleStateRow)
        .where(RuleStateRow.id == state.id, RuleStateRow.version == state.version)
        .values(
            sequence=memory.sequence, active=memory.active, streak=memory.streak, event_id=memory.event_id,
            version=state.version + 1,
        ),
        execution_options={"synchronize_session": False},
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE has a row count
        message = f"rule state {state.id} changed under its lock"
        raise RuntimeError(message)


def _announce(  # noqa: PLR0913 - what an event is made of
    session: Session, version: Version, rule: RuleSpec, event: dict[str, Any], row: dict[str, Any], what: str,
    consumers: Sequence[Consumer], plant: str,
) -> None:
    from app.scoring.service import outbox_row  # noqa: PLC0415 - scoring calls this module

    data = EventData(
        event_id=event["id"], prediction_id=row["id"], pipeline=version.pipeline, rule=rule.name, state=event["state"],
        priority=event["priority"], message=event["message"], value=event["value"], limit=event["limit"],
        unit_id=event["unit_id"], context=event["context"],
    )
    cloud = CloudEvent(
        id=f"{event['id']}:{what}", source=f"urn:headrace:pipeline:{version.pipeline}",
        type=f"com.headrace.event.{what}", subject=rule.name, time=event_time(row["end_time"]), data=data,
    )
    now = times.now()
    session.execute(insert(OutboxRow), [
        outbox_row(
            consumer, cloud.id, key=f"rule:{version.pipeline}:{rule.name}",
            where=topic(consumer.topic or "headrace", plant, version.spec.asset, "event", rule.name),
            content_type=EVENT_TYPE, body=msgspec.json.encode(cloud) if consumer.connector == "mqtt" else b"",
            nodes=_nodes(version, rule, event, row, what) if consumer.connector == "opcua" else [],
            source_time=row["newest_time"], due_at=now,
        )
        for consumer in consumers
    ]) if consumers else None


def _nodes(version: Version, rule: RuleSpec, event: dict[str, Any], row: dict[str, Any], what: str) -> list[dict[str, Any]]:
    levels = (ROOT, version.spec.asset, version.spec.name, "events", rule.name)
    base, at = "/".join(level for level in levels if level), row["end_time"]
    text = event["message"].get("en") or next(iter(event["message"].values()), rule.name)
    return [
        node(f"{base}/active", what == "raised", 0, at, description="whether the alarm is active"),
        node(f"{base}/prediction_id", row["id"], 0, at, description="the prediction that raised or cleared it"),
        node(f"{base}/event_id", event["id"], 0, at, description="id of the event"),
        node(f"{base}/message", text, 0, at, description="the rule's text"),
    ]


def acknowledge(engine: Engine, event: str, who: str, comment: str) -> bool:
    """Note who has seen it (ISA-18.2: acknowledging never clears). False when there is no such event."""
    with writing(engine) as session:
        row = session.get(EventRow, event, with_for_update=True)
        if row is None:
            return False
        if row.acked_at is None:
            row.acked_at, row.acked_by, row.comment = times.now(), who, comment
            row.state = ACK_ACTIVE if row.cleared_at is None else NORMAL
        return True
