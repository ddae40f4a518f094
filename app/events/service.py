"""Rules and their memory: predictions are taken by sequence number, whoever brings the missing one goes on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import select, update

from app import times
from app.db import insert_all, insert_new, table, writing
from app.events.tables import EventRow, RuleStateRow
from app.northbound.queries import north
from app.northbound.schemas import EVENT_TYPE, ROOT, Announcement, CloudEvent, EventData, North, node, outbox_rows
from app.northbound.tables import OutboxRow
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.scoring.tables import PredictionRow
from app.sources.tables import ConnectionRow
from app.watch import schemas as watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine, Row
    from sqlalchemy.orm import Session

    from app.pipelines.schemas import RuleSpec
    from app.pipelines.service import Version

NAMESPACE: Final = uuid.UUID("0a9b0b6e-52a8-5c0e-8f0c-3a0f0a7d6c42")
PAGE: Final = 5000
"""Predictions a rule takes in one transaction at most when it catches up."""
OVER: Final = 2**62
"""Sequence number of a memory whose version is no longer in force: nothing comes next."""
UNACK_ACTIVE, ACK_ACTIVE, RTN_UNACK, NORMAL = "unack_active", "ack_active", "rtn_unack", "normal"

_states = table(RuleStateRow)
_events = table(EventRow)
_predictions = table(PredictionRow)
_TAKEN: Final = [
    _predictions.c[name]
    for name in ("id", "sequence", "reason", "outputs", "end_time", "unit_id", "context", "newest_time")
]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a rule remembers between predictions."""

    sequence: int
    since: int
    at: int
    active: bool
    streak: int
    event_id: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """Which pipeline an event is of."""

    pipeline: str
    asset: str


def beyond(rule: RuleSpec, value: float) -> str:
    """The limit that this value is beyond, as a person writes it; empty when it is beyond none."""
    if rule.above is not None and value > rule.above:
        return f"> {rule.above:g}"
    return f"< {rule.below:g}" if rule.below is not None and value < rule.below else ""


def back(rule: RuleSpec, value: float) -> bool:
    """Whether a value is back inside; a rule with one limit has its deadband down (or up) to `clear`."""
    upper, lower = rule.above, rule.below
    if rule.clear is not None and lower is None and upper is not None:
        upper = min(upper, rule.clear)
    elif rule.clear is not None and upper is None and lower is not None:
        lower = max(lower, rule.clear)
    return (upper is None or value <= upper) and (lower is None or value >= lower)


def step(rule: RuleSpec, memory: Memory, value: object) -> tuple[Memory, str]:
    """The rule's next memory, and `raise`, `clear` or nothing. Pure: on- and off-delay count predictions (ISA-18.2).

    What is no number (there is no answer) changes nothing.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return memory, ""
    hit = back(rule, value) if memory.active else bool(beyond(rule, value))
    streak = memory.streak + 1 if hit else 0
    if streak < (rule.off_delay if memory.active else rule.on_delay):
        return replace(memory, streak=streak), ""
    return replace(memory, active=not memory.active, streak=0), "clear" if memory.active else "raise"


def event_id(version: int, rule: str, prediction: str) -> str:
    """The same for the same raising prediction."""
    return str(uuid.uuid5(NAMESPACE, f"{version}:{rule}:{prediction}"))


def advance(session: Session, version: Version, fresh: Sequence[dict[str, Any]], told: North) -> None:
    """Let every rule of a version take the predictions that are next: these, and stored ones of other batches.

    `fresh`: rows of predictions of this transaction, already stored. Late revisions have no number and are none of
    the rules' business.
    """
    numbered = {row["sequence"]: row for row in fresh if row["sequence"] is not None}
    if 1 in numbered:
        _clear_orphans(session, version, numbered[1], told)
    stored = _Stored(session, version.id)
    for rule in sorted(version.spec.rules, key=lambda one: one.name):
        _advance(session, version, rule, numbered, stored, told)


def _advance(
    session: Session, version: Version, rule: RuleSpec, fresh: dict[int, dict[str, Any]], stored: _Stored, told: North
) -> None:
    key, memory = _locked(session, version.id, rule.name)
    first = fresh.get(1)
    if _takes_newest(version) and memory.sequence in {0, OVER}:
        first = next(iter(_newer(memory, fresh)), None)
    if first is not None and (memory.sequence == 0 or first["end_time"] > memory.at):
        memory = _begin(session, version, rule, first, memory)
    announced: list[Announcement] = []
    source = Source(version.pipeline, version.spec.asset)
    for row in _newer(memory, fresh) if _takes_newest(version) else _next(memory, fresh, stored):
        value: Any = None if row["reason"] else row["outputs"].get(rule.output)
        memory, happened = step(rule, replace(memory, sequence=row["sequence"], at=row["end_time"]), value)
        if happened == "raise":
            raised = _raise(session, version, rule, row, value)
            memory = replace(memory, event_id=raised["id"])
            announced.append(_announcement(source, raised, row, "raised"))
        elif happened == "clear" and memory.event_id is not None:
            cleared = _clear(session, memory.event_id, row)
            memory = replace(memory, event_id=None)
            announced.append(_announcement(source, cleared, row, "cleared"))
    _remember(session, key, memory)
    insert_all(session, OutboxRow, outbox_rows(told, announced))


def _locked(session: Session, version: int, rule: str) -> tuple[tuple[int, int], Memory]:
    """The rule's memory under a lock, with its key: row id and version."""
    query = select(_states).where(_states.c.version_id == version, _states.c.rule == rule).with_for_update()
    found = session.execute(query).one_or_none()
    if found is None:
        insert_new(session, RuleStateRow, {"version_id": version, "rule": rule, "sequence": 0})
        found = session.execute(query).one()
    memory = Memory(found.sequence, found.since, found.at, found.active, found.streak, found.event_id)
    return (found.id, found.version), memory


def _begin(session: Session, version: Version, rule: RuleSpec, first: dict[str, Any], memory: Memory) -> Memory:
    """A version is put in force: numbers start again, and an alarm that another version left active is carried over."""
    begun = Memory(0, first["end_time"], 0, memory.active, 0, memory.event_id)
    for other in _active_elsewhere(session, version):
        if other.rule == rule.name:
            _end(session, other.id)
            begun = replace(begun, active=True, event_id=other.event_id)
    return begun


def _active_elsewhere(session: Session, version: Version) -> Sequence[Row[Any, Any, Any]]:
    """Memories of the pipeline's other versions that hold an active alarm, under a lock."""
    versions = select(PipelineVersionRow.id).where(
        PipelineVersionRow.pipeline_id == version.pipeline_id, PipelineVersionRow.id != version.id
    )
    query = (
        select(_states.c.id, _states.c.rule, _states.c.event_id)
        .where(_states.c.version_id.in_(versions), _states.c.active)
        .order_by(_states.c.id)
        .with_for_update()
    )
    return session.execute(query).all()


def _end(session: Session, state: int) -> None:
    ended = {"active": False, "streak": 0, "event_id": None, "sequence": OVER}
    session.execute(update(_states).where(_states.c.id == state).values(ended))


def _clear_orphans(session: Session, version: Version, row: dict[str, Any], told: North) -> None:
    """An alarm whose rule the new version no longer has is cleared by the version's first prediction."""
    kept = {rule.name for rule in version.spec.rules}
    source = Source(version.pipeline, version.spec.asset)
    announced: list[Announcement] = []
    for other in _active_elsewhere(session, version):
        if other.rule not in kept and other.event_id is not None:
            _end(session, other.id)
            announced.append(_announcement(source, _clear(session, other.event_id, row), row, "cleared"))
    insert_all(session, OutboxRow, outbox_rows(told, announced))


class _Stored:
    """Predictions that other batches brought earlier, asked for once for all rules of a version."""

    def __init__(self, session: Session, version: int) -> None:
        self._session = session
        self._version = version
        self._pages: dict[tuple[int, int], dict[int, dict[str, Any]]] = {}

    def after(self, number: int, since: int) -> dict[int, dict[str, Any]]:
        """Those from `number` on, by number, if that one is there; at most a page."""
        key = (number, since)
        if key not in self._pages:
            # A hole may stay for a while: look for the missing number alone, not at all that wait behind it.
            there = self._read(number, since, number)
            self._pages[key] = self._read(number, since, number + PAGE) if there else {}
        return self._pages[key]

    def _read(self, first: int, since: int, last: int) -> dict[int, dict[str, Any]]:
        mine = (_predictions.c.version_id == self._version) & (_predictions.c.end_time >= since)
        query = select(*_TAKEN).where(mine, _predictions.c.sequence.between(first, last))
        return {row.sequence: dict(row._mapping) for row in self._session.execute(query)}  # noqa: SLF001 - public name


def _takes_newest(version: Version) -> bool:
    """Whether its rules look at what is newer than all before, whatever was left out: they remember nothing else."""
    return version.spec.catch_up == "newest_first"


def _newer(memory: Memory, fresh: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Of this batch, what ends behind all that the rule has taken."""
    rows = [row for row in fresh.values() if not row["late"] and row["end_time"] > memory.at]
    return sorted(rows, key=lambda row: row["end_time"])


def _next(memory: Memory, fresh: dict[int, dict[str, Any]], stored: _Stored) -> list[dict[str, Any]]:
    """Predictions from the one after `memory` on without a hole: those of this batch, those stored by others."""
    found: list[dict[str, Any]] = []
    page: dict[int, dict[str, Any]] = {}
    while len(found) < PAGE:
        wanted = memory.sequence + len(found) + 1
        row = fresh.get(wanted)
        if row is None or row["end_time"] < memory.since:
            page = page if wanted in page else stored.after(wanted, memory.since)
            row = page.get(wanted)
        if row is None:
            return found
        found.append(row)
    return found


def _raise(session: Session, version: Version, rule: RuleSpec, row: dict[str, Any], value: float) -> dict[str, Any]:
    made = {
        "id": event_id(version.id, rule.name, row["id"]),
        "pipeline_id": version.pipeline_id,
        "version_id": version.id,
        "rule": rule.name,
        "prediction_id": row["id"],
        "cleared_by": None,
        "state": UNACK_ACTIVE,
        "priority": rule.priority,
        "message": texts(rule, row["outputs"], row["unit_id"]),
        "value": value,
        "limit": beyond(rule, value),
        "unit_id": row["unit_id"],
        "context": row["context"],
        "raised_at": row["end_time"],
        "cleared_at": None,
        "acked_at": None,
        "acked_by": None,
        "comment": "",
    }
    insert_all(session, EventRow, [made])
    return made


def texts(rule: RuleSpec, outputs: dict[str, Any], unit_id: str | None) -> dict[str, str]:
    """The rule's texts with `{output}` and `{unit_id}` filled in; a name that is not there stays as it is."""
    shown = {name: f"{one:.4g}" if isinstance(one, float) else str(one) for name, one in outputs.items()}
    shown["unit_id"] = unit_id or ""
    found = rule.message or {"en": f"{rule.name}: {{{rule.output}}}", "zh-CN": f"{rule.name}：{{{rule.output}}}"}
    made: dict[str, str] = {}
    for language, text in found.items():
        made[language] = text
        for name, value in shown.items():
            made[language] = made[language].replace(f"{{{name}}}", value)
    return made


def _clear(session: Session, raised: str, row: dict[str, Any]) -> dict[str, Any]:
    query = select(_events).where(_events.c.id == raised).with_for_update()
    event = dict(session.execute(query).one()._mapping)  # noqa: SLF001 - public name
    event["state"] = RTN_UNACK if event["acked_at"] is None else NORMAL
    changed = {"state": event["state"], "cleared_at": row["end_time"], "cleared_by": row["id"]}
    session.execute(update(_events).where(_events.c.id == raised).values(changed))
    return event


def _remember(session: Session, key: tuple[int, int], memory: Memory) -> None:
    """Compare and swap; the row is locked, so a difference means a defect and must not pass."""
    state, version = key
    changed = {
        "sequence": memory.sequence,
        "since": memory.since,
        "at": memory.at,
        "active": memory.active,
        "streak": memory.streak,
        "event_id": memory.event_id,
        "version": version + 1,
    }
    mine = (_states.c.id == state) & (_states.c.version == version)
    if session.connection().execute(update(_states).where(mine).values(changed)).rowcount != 1:
        message = f"rule state {state} changed under its lock"
        raise RuntimeError(message)


def _announcement(source: Source, event: dict[str, Any], row: dict[str, Any], what: str) -> Announcement:
    """`what`: raised, cleared, acknowledged. `row`: the prediction that did it, or that raised it."""
    data = EventData(
        event_id=event["id"],
        prediction_id=row["id"],
        pipeline=source.pipeline,
        rule=event["rule"],
        state=event["state"],
        priority=event["priority"],
        message=event["message"],
        value=event["value"],
        limit=event["limit"],
        unit_id=event["unit_id"],
        context=event["context"],
    )
    cloud = CloudEvent(
        id=f"{event['id']}:{what}",
        source=f"urn:headrace:pipeline:{source.pipeline}",
        type=f"com.headrace.event.{what}",
        subject=event["rule"],
        time=times.rfc3339(row["end_time"]),
        data=data,
    )
    return Announcement(
        id=cloud.id,
        key=f"rule:{source.pipeline}:{event['rule']}",
        levels=(source.asset, "event", event["rule"]),
        content_type=EVENT_TYPE,
        body=msgspec.json.encode(cloud),
        nodes=_nodes(source, event, row),
        source_time=row["newest_time"],
        due_at=times.now(),
    )


def _nodes(source: Source, event: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
    levels = (ROOT, source.asset, source.pipeline, "events", event["rule"])
    base, at = "/".join(level for level in levels if level), row["end_time"]
    text = event["message"].get("en") or next(iter(event["message"].values()), event["rule"])
    active = event["state"] in {UNACK_ACTIVE, ACK_ACTIVE}
    return [
        node(f"{base}/active", active, 0, at, description="Whether the alarm is active"),
        node(f"{base}/state", event["state"], 0, at, description="State after ISA-18.2"),
        node(f"{base}/prediction_id", row["id"], 0, at, description="The prediction that raised or cleared it"),
        node(f"{base}/event_id", event["id"], 0, at, description="Id of the event"),
        node(f"{base}/message", text, 0, at, description="The rule's text"),
    ]


class OfPlantError(Exception):
    """An alarm of the plant: it is acknowledged at the plant, never by us."""


def acknowledge(engine: Engine, event: str, who: str, comment: str) -> bool:
    """Note who has seen it, once, and tell the consumers (ISA-18.2: acknowledging never clears).

    False when there is no such event. OfPlantError for one that a plant reported.
    """
    with writing(engine) as session:
        query = select(_events).where(_events.c.id == event).with_for_update()
        found = session.execute(query).one_or_none()
        if found is None:
            return False
        if found.source == "plant":
            raise OfPlantError
        if found.acked_at is None:
            state = ACK_ACTIVE if found.cleared_at is None else NORMAL
            changed = {"acked_at": times.now(), "acked_by": who, "comment": comment, "state": state}
            session.execute(update(_events).where(_events.c.id == event).values(changed))
            _tell_acknowledged(session, {**found._mapping, **changed})  # noqa: SLF001 - public name
        return True


def _tell_acknowledged(session: Session, event: dict[str, Any]) -> None:
    if event["source"] == watch.BOX:
        of = ConnectionRow if event["pipeline_id"] is None else PipelineRow
        key = event["connection_id"] if event["pipeline_id"] is None else event["pipeline_id"]
        name = session.scalar(select(of.name).where(of.id == key)) or ""
        told = watch.announcement(name, event, "acknowledged", event["acked_at"])
        insert_all(session, OutboxRow, outbox_rows(north(session), [told]))
        return
    query = (
        select(PipelineRow.name, PipelineVersionRow.spec)
        .join(PipelineVersionRow, PipelineVersionRow.pipeline_id == PipelineRow.id)
        .where(PipelineVersionRow.id == event["version_id"])
    )
    pipeline, spec = session.execute(query).one()
    row = {"id": event["prediction_id"], "end_time": event["acked_at"], "newest_time": event["acked_at"]}
    told = _announcement(Source(pipeline, spec["asset"]), event, row, "acknowledged")
    insert_all(session, OutboxRow, outbox_rows(north(session), [told]))
