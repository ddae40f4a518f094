"""What goes north: the bodies of predictions and events, their topics and their nodes."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from app import times

SEVERITY: Final = ("Good", "Uncertain", "Bad", "Bad")
PREDICTION_TYPE: Final = "application/json"
EVENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
ROOT: Final = "Headrace"
_UNFIT: Final = re.compile(r"[+#$\x00-\x1f]")


class PredictionBody(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction as an MQTT consumer reads it: plain JSON."""

    id: str
    pipeline: str
    version: int
    sequence: int | None
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


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0 in structured mode (CloudEvents 1.0.2, JSON event format, section 3)."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: EventData
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


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


def event_time(nanos: int) -> str:
    """RFC 3339, as CloudEvents asks."""
    return times.rfc3339(nanos)
