"""A takeover as an event of the box, and as an announcement."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.watch import schemas as watch
from app.watch.schemas import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.northbound.schemas import Announcement

TAKEOVER: Final = "lease_taken_over"
"""The rule of such an event."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease that got another holder."""

    name: str
    was: str
    """The gateway that let it run out; empty where nobody had it."""
    gateway: str


def event(taken: Taken, connection_id: int, connection: str, term: int, at: int) -> dict[str, Any]:
    """The columns of `EventRow`: over as soon as it came, and there until somebody has seen it. `at`: ns."""
    message = {
        "en": f"{taken.gateway} reads {connection} now: {taken.was} has not renewed its lease. Look after {taken.was}.",
        "zh-CN": f"{connection} 现由 {taken.gateway} 读取：{taken.was} 未续租。请检查 {taken.was}。",
    }
    made = watch.row(Finding(TAKEOVER, connection_id, connection, message, term, priority=2), term, at)
    key = f"{TAKEOVER}:{connection_id}:{term}"
    return {
        **made, "id": str(uuid.uuid5(watch.NAMESPACE, key)), "state": "rtn_unack", "cleared_at": at, "limit": "",
    }  # fmt: skip


def announcement(connection: str, row: Mapping[str, Any]) -> Announcement:
    """For consumers: that it happened."""
    return watch.announcement(connection, row, "raised", row["raised_at"])
