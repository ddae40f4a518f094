"""What goes north: the bodies of predictions and events, their topics and their nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

SEVERITY: Final = ("Good", "Uncertain", "Bad", "Bad")
PREDICTION_TYPE: Final = "application/json"
EVENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
ROOT: Final = "Headrace"
_UNFIT: Final = re.compile(r"[+#$\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Consumer:
    """One enabled subscription as whoever writes the outbox needs it."""

    id: int
    connector: str
    topic: str

    @property
    def wants_nodes(self) -> bool:
        """Whether it shows node values; every other one is sent a body."""
        return self.connector == "opcua"


@dataclass(frozen=True, slots=True)
class North:
    """Who is told, and where the plant stands: the same for everything in one transaction."""

    consumers: tuple[Consumer, ...]
    plant: str
    """Enterprise, site, area and line, `/` between levels: begins every topic after the consumer's own prefix."""

    @property
    def nodes(self) -> bool:
        """Whether anybody shows node values."""
        return any(one.wants_nodes for one in self.consumers)

    @property
    def bodies(self) -> bool:
        """Whether anybody is sent a body."""
        return not all(one.wants_nodes for one in self.consumers)


@dataclass(frozen=True, slots=True)
class Announcement:
    """One thing to tell every consumer, in the form each takes."""

    id: str
    """The same on a repeat."""
    key: str
    """Order is kept per key."""
    levels: tuple[str, ...]
    """The topic after prefix and plant."""
    content_type: str
    body: bytes
    nodes: list[dict[str, Any]]
    source_time: int
    """ns: newest source time behind it."""
    due_at: int


class PredictionBody(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction as an MQTT consumer reads it: plain JSON."""

    id: str
    pipeline: str
    version: int
    sequence: int | None
    revision: int
    """0 for the first answer; more where a gap was filled and its windows were computed again."""
    late: bool
    start: str
    end: str
    status: int
    quality: str
    reason: str
    outputs: dict[str, Any]
    unit_id: str | None
    context: dict[str, Any]
    model: str
    device: str
    backend: str
    latency_ms: float
    newest_time: str


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to an alarm."""

    event_id: str
    prediction_id: str
    pipeline: str
    rule: str
    state: str
    priority: int
    message: dict[str, str]
    value: Any
    limit: str
    unit_id: str | None
    context: dict[str, Any]


class PlantEventData(msgspec.Struct, frozen=True, kw_only=True):
    """What a plant reported: an event, or a state of one of its alarms."""

    event_id: str
    connection: str
    state: str
    priority: int
    severity: int
    message: dict[str, str]
    type: str
    source: str
    source_node: str
    peer_event_id: str
    condition: dict[str, Any] | None


class BoxEventData(msgspec.Struct, frozen=True, kw_only=True):
    """A promise of the box itself that is broken, or kept again."""

    event_id: str
    connection: str
    rule: str
    state: str
    priority: int
    message: dict[str, str]
    value: Any
    limit: str


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0 in structured mode (CloudEvents 1.0.2, JSON event format, section 3)."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: EventData | PlantEventData | BoxEventData
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


def outbox_rows(north: North, told: list[Announcement]) -> list[dict[str, Any]]:
    """The rows of the outbox that carry these announcements, consumer by consumer, each in the order given."""
    return [
        {
            "subscription_id": consumer.id,
            "publication_id": one.id[:80],
            "key": one.key[:200],
            "topic": topic(consumer.topic or "headrace", north.plant, *one.levels)[:500],
            "content_type": one.content_type,
            "body": b"" if consumer.wants_nodes else one.body,
            "nodes": one.nodes if consumer.wants_nodes else [],
            "retain": False,
            "source_time": one.source_time,
            "due_at": one.due_at,
            "sent_at": None,
            "attempts": 0,
            "error": "",
        }
        for consumer in north.consumers
        for one in told
    ]


def topic(*levels: str) -> str:
    """Levels joined by `/`, empty ones left out, characters that MQTT reserves replaced by `_`."""
    return "/".join(_UNFIT.sub("_", level.strip("/")) for level in levels if level.strip("/"))


def node(
    path: str, value: float | bool | str, status: int, source_time: int, unit: str = "", description: str = "",  # noqa: FBT001
) -> dict[str, Any]:
    """`connectors.NodeValue` as the outbox keeps it."""
    return {
        "path": path, "value": value, "status": status, "source_time": source_time, "unit": unit,
        "description": description,
    }
