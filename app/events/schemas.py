"""What a plant reported, as a row, as an announcement and as states of ISA-18.2."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from app import times
from app.northbound.schemas import EVENT_TYPE, ROOT, Announcement, CloudEvent, PlantEventData, node
from app.texts import storable

if TYPE_CHECKING:
    from app.records import ConditionRecord, EventRecord

NAMESPACE: Final = uuid.UUID("5f6c3c2e-6a3b-5d0a-9b55-0d7f2f1c9e84")
"""Ids of events of a plant are derived in this namespace (RFC 9562, version 5)."""
OCCURRED: Final = "occurred"
"""The state of an event that is no alarm: it has happened, and nothing about it is active."""
UNDETERMINED: Final = "und"
"""The language tag of a text whose language the plant does not tell (BCP 47)."""
URGENT: Final = ((751, 1), (501, 2), (251, 3))
"""Severity from which on a priority holds; 4 below (IEC 62541-5, 6.4.2: 1 to 1000; ISA-18.2: four priorities)."""


def state(condition: ConditionRecord | None) -> str:
    """The alarm state (ISA-18.2) of a condition; one that need not be acknowledged counts as acknowledged."""
    if condition is None or condition.active is None:
        return OCCURRED
    if condition.active:
        return "unack_active" if condition.acked is False else "ack_active"
    return "rtn_unack" if condition.acked is False else "normal"


def priority(severity: int) -> int:
    """1 to 4 for a severity of 1 to 1000."""
    return next((number for least, number in URGENT if severity >= least), 4)


def event_id(connection: int, peer_event: str) -> str:
    """The same for the same event of the same plant, however often it is told."""
    return str(uuid.uuid5(NAMESPACE, f"{connection}:{peer_event}"))


def condition_key(connection: int, condition: ConditionRecord | None) -> str | None:
    """The same for every event of one condition and branch."""
    if condition is None:
        return None
    return str(uuid.uuid5(NAMESPACE, f"{connection}:{condition.id or condition.name}:{condition.branch}"))


def row(connection: int, event: EventRecord) -> dict[str, Any]:
    """The columns of `EventRow`, by name."""
    condition, now = event.condition, state(event.condition)
    is_over = now in {"rtn_unack", "normal"}
    return {
        "id": event_id(connection, event.id),
        "source": "plant",
        "connection_id": connection,
        "condition_key": condition_key(connection, condition),
        "pipeline_id": None,
        "version_id": None,
        "rule": storable((condition.name if condition is not None else "") or event.source, 100),
        "prediction_id": None,
        "cleared_by": None,
        "state": now,
        "priority": priority(event.severity),
        "message": {storable(tag, 35) or UNDETERMINED: storable(text, 2000) for tag, text in event.message.items()},
        "value": None,
        "limit": "",
        "unit_id": None,
        "context": {},
        "raised_at": event.time,
        "cleared_at": event.time if is_over else None,
        "acked_at": None,
        "acked_by": None,
        "comment": storable(condition.comment if condition is not None else "", 2000),
        "plant": _said(event),
    }


def _said(event: EventRecord) -> dict[str, Any]:
    received = None if event.receive_time < 0 else times.rfc3339(event.receive_time)
    condition = event.condition
    return {
        "event_id": event.id,
        "type": storable(event.type, 500),
        "source": storable(event.source, 500),
        "source_node": storable(event.source_node, 500),
        "severity": event.severity,
        "received_at": received,
        "condition": None if condition is None else {
            "id": storable(condition.id, 500),
            "name": storable(condition.name, 500),
            "branch": storable(condition.branch, 500),
            "retain": condition.retain,
            "enabled": condition.enabled,
            "acked": condition.acked,
            "confirmed": condition.confirmed,
            "active": condition.active,
            "quality": condition.quality,
        },
    }


def announcement(connection: str, event: dict[str, Any], *, is_newest: bool) -> Announcement:
    """What the north is told of a row that is new; its id is the event's own.

    `is_newest`: nothing younger is known of its condition; nodes show only that.
    """
    said = event["plant"]
    data = PlantEventData(
        event_id=event["id"],
        connection=connection,
        state=event["state"],
        priority=event["priority"],
        severity=said["severity"],
        message=event["message"],
        type=said["type"],
        source=said["source"],
        source_node=said["source_node"],
        peer_event_id=said["event_id"],
        condition=said["condition"],
    )
    places = [one.replace("/", "_") for one in dict.fromkeys((said["source"], event["rule"])) if one] or ["event"]
    cloud = CloudEvent(
        id=event["id"],
        source=f"urn:headrace:connection:{connection}",
        type="com.headrace.event.plant",
        subject="/".join(places),
        time=times.rfc3339(event["raised_at"]),
        data=data,
    )
    return Announcement(
        id=event["id"],
        key=f"plant:{connection}:{event['condition_key'] or said['source']}",
        levels=(connection, "event", *places),
        content_type=EVENT_TYPE,
        body=msgspec.json.encode(cloud),
        nodes=_nodes((ROOT, connection, "events", *places), event) if is_newest and event["condition_key"] else [],
        source_time=event["raised_at"],
        due_at=times.now(),
    )


def _nodes(levels: tuple[str, ...], event: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a condition: its nodes stand for its present state. What only happened has none to stay in."""
    base, at = "/".join(levels), event["raised_at"]
    active = event["state"] in {"unack_active", "ack_active"}
    text = next(iter(event["message"].values()), event["rule"])
    return [
        node(f"{base}/active", active, 0, at, description="Whether the plant's alarm is active"),
        node(f"{base}/state", event["state"], 0, at, description="State after ISA-18.2"),
        node(f"{base}/event_id", event["id"], 0, at, description="Id of the event"),
        node(f"{base}/message", text, 0, at, description="The plant's text"),
    ]
