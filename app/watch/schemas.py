"""What is broken in the box, as a row and as an announcement."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from app import times
from app.northbound.schemas import EVENT_TYPE, ROOT, Announcement, BoxEventData, CloudEvent, node

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE: Final = uuid.UUID("c0a1f0d4-7d0f-5b39-8f0e-4c1b2d9a6e55")
"""Ids of the box's own events are derived in this namespace (RFC 9562, version 5)."""
BOX: Final = "box"
"""The source of such an event."""
ACTIVE: Final = ("unack_active", "ack_active")


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that is broken now."""

    rule: str
    """Which promise: `ledger_balance`."""
    connection_id: int | None
    """Of a promise on a connection; else `pipeline_id` says whose it is."""
    connection: str
    """The name of the connection, or of the pipeline."""
    message: Mapping[str, str]
    """Language tag to text, for people: what it is and what to do."""
    value: int | str
    """By how much; or what it is now."""
    priority: int = 1
    """1 is the most urgent."""
    pipeline_id: int | None = None
    limit: str = "= 0"

    @property
    def key(self) -> tuple[str, int | None, int | None]:
        """Of the event: rule, connection, pipeline."""
        return self.rule, self.connection_id, self.pipeline_id


class Judged(NamedTuple):
    """What has changed of a promise."""

    rule: str
    name: str
    """Of the connection or the pipeline."""
    value: int | str | None
    """What is broken by how much; None: it is whole again."""


def event_id(finding: Finding, before: int) -> str:
    """`before`: how many events of this key there were. Who comes second makes the same."""
    whose = str(finding.connection_id) if finding.pipeline_id is None else f"pipeline {finding.pipeline_id}"
    return str(uuid.uuid5(NAMESPACE, f"{finding.rule}:{whose}:{before}"))


def row(finding: Finding, before: int, now: int) -> dict[str, Any]:
    """The columns of `EventRow`, by name; `now` in ns."""
    return {
        "id": event_id(finding, before),
        "source": BOX,
        "connection_id": finding.connection_id,
        "condition_key": None,
        "pipeline_id": finding.pipeline_id,
        "version_id": None,
        "rule": finding.rule,
        "prediction_id": None,
        "cleared_by": None,
        "state": "unack_active",
        "priority": finding.priority,
        "message": dict(finding.message),
        "value": finding.value,
        "limit": finding.limit,
        "unit_id": None,
        "context": {},
        "raised_at": now,
        "cleared_at": None,
        "acked_at": None,
        "acked_by": None,
        "comment": "",
        "plant": None,
    }


def announcement(connection: str, event: Mapping[str, Any], what: str, at: int) -> Announcement:
    """`connection`: its name, or that of the pipeline. `what`: raised, cleared, acknowledged; `at` in ns."""
    data = BoxEventData(
        event_id=event["id"],
        connection=connection,
        rule=event["rule"],
        state=event["state"],
        priority=event["priority"],
        message=event["message"],
        value=event["value"],
        limit=event["limit"],
    )
    cloud = CloudEvent(
        id=f"{event['id']}:{what}",
        source="urn:headrace:box",
        type=f"com.headrace.event.{what}",
        subject=f"{connection}/{event['rule']}",
        time=times.rfc3339(at),
        data=data,
    )
    return Announcement(
        id=cloud.id,
        key=f"box:{connection}:{event['rule']}",
        levels=(connection, "box", event["rule"]),
        content_type=EVENT_TYPE,
        body=msgspec.json.encode(cloud),
        nodes=_nodes("/".join((ROOT, connection, "box", event["rule"])), event, at),
        source_time=at,
        due_at=times.now(),
    )


def _nodes(base: str, event: Mapping[str, Any], at: int) -> list[dict[str, Any]]:
    return [
        node(f"{base}/active", event["state"] in ACTIVE, 0, at, description="Whether a promise of the box is broken"),
        node(f"{base}/state", event["state"], 0, at, description="State after ISA-18.2"),
        node(f"{base}/event_id", event["id"], 0, at, description="Id of the event"),
        node(f"{base}/message", event["message"]["en"], 0, at, description="What it is and what to do"),
    ]
