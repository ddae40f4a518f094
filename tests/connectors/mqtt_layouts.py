"""What tags make of one MQTT message, for the tests of payload layouts."""

from __future__ import annotations

import json

from connectors import TagBinding
from connectors.mqtt.mapping import Mapping, Rows

NOW: int = 1_764_000_000_000_000_000
"""When the message came, in ns."""


def tag(place: str = "", datatype: str = "float", number: int = 1, /, **options: object) -> TagBinding:
    """A tag on the topic `t`."""
    return TagBinding(number, f"t{place}", datatype, options)


def taken(payload: object, *tags: TagBinding) -> Rows:
    """The readings and refusals of one message; what is not bytes is sent as JSON."""
    rows = Rows()
    Mapping(tags).add("t", payload if isinstance(payload, bytes) else json.dumps(payload).encode(), rows, NOW)
    return rows


def reasons(rows: Rows) -> list[tuple[str, int]]:
    """Each reason with its number of readings."""
    return [(refusal.reason, refusal.readings) for refusal in rows.refusals()]
