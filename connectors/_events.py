"""The contract's part about what a peer reports beside its readings: events, and the states of its alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConditionState:
    """A condition at the time of an event (IEC 62541-9, 5.5 to 5.8); None where the condition has no such state."""

    id: str
    """Address of the condition in the peer's own words."""
    name: str
    branch: str
    """Address of an earlier state that still wants attention; empty for the present one."""
    retain: bool
    """Whether it is of interest to an operator."""
    enabled: bool | None
    acked: bool | None
    confirmed: bool | None
    active: bool | None
    quality: int
    """StatusCode of the values it was told from."""
    comment: str


@dataclass(frozen=True, slots=True)
class PlantEvent:
    """One event of a peer (IEC 62541-5, 6.4.2). It is no reading: it belongs to no tag, and no window sees it."""

    id: str
    """The peer's own, as hexadecimal digits: the same when the peer tells it again."""
    type: str
    """Address of its type in the peer's own words."""
    source_node: str
    source: str
    """What it is about, as the peer calls it."""
    time: int
    """ns since 1970 UTC; when it happened, by the peer's clock. Never `NO_TIME`: the time of receipt instead."""
    receive_time: int
    """ns; when the peer had it from what lies beneath; `NO_TIME` where it does not say."""
    message: Mapping[str, str]
    """Language tag -> text as the peer wrote it; the tag is empty where the peer gives none."""
    severity: int
    """1 to 1000."""
    condition: ConditionState | None = None
