"""What a gateway says of itself about once a second: live figures for people, never the truth of anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from app import queue, times
from app.errors import QueueError

PREFIX: Final = "headrace:gateway:"
STANDBY: Final = "standby"
FRESH_S: Final = 10
"""Older figures are not shown: unknown is better than stale."""


class ConnectionLive(msgspec.Struct, frozen=True):
    """How one connection stands."""

    name: str
    state: str
    """connecting, connected, lost, refused, stopped, ended, unknown; standby: another gateway reads it."""
    error: str = ""
    readings_per_s: float | None = None
    readings: int = 0
    """Since the gateway started."""
    notes: tuple[str, ...] = ()
    """What the operator should know though it works, such as a certificate that ends soon."""


class LeaseLive(msgspec.Struct, frozen=True):
    """Who owns a connection or a subscription, where several gateways share a database."""

    name: str
    """`connection NAME` or `subscription NAME`."""
    gateway: str
    """Its owner; empty while there is none."""
    since: str
    """RFC 3339: when its term began, by the clock of the database."""
    term: int
    mine: bool
    """Whether the gateway that reports is its owner, and sure of it."""


class GatewayLive(msgspec.Struct, frozen=True):
    """How one gateway stands."""

    gateway: str
    at: int
    """ns; older than a few seconds means unknown."""
    connections: tuple[ConnectionLive, ...] = ()
    journal_bytes: int = 0
    journal_state: str = ""
    head: int = 0
    watermark: int = 0
    held: int = 0
    """Records not applied."""
    readings_per_s: float = 0.0
    latency_p50_ms: float | None = None
    """Source time to taken by the northbound peer, over the last minute."""
    latency_p99_ms: float | None = None
    published: int = 0
    run_latency_p50_ms: float | None = None
    """The same since the gateway started."""
    run_latency_p99_ms: float | None = None
    journal_policy: str = ""
    """What happens when the journal is full: `stop`, `drop_oldest`, `drop_by_priority`."""
    dropped: int = 0
    """Readings that were dropped since the gateway started."""
    leases: tuple[LeaseLive, ...] = ()
    """As it sees them; empty where there is one gateway."""


UNKNOWN: Final = ConnectionLive(name="", state="unknown")


def gateways() -> list[GatewayLive]:
    """Every gateway that has reported in the last seconds; empty when none has, or when Redis is away."""
    oldest = times.now() - FRESH_S * times.NANOS
    try:
        reports = [queue.get_live(key) for key in queue.live_keys(PREFIX)]
    except QueueError:
        return []
    found = [msgspec.json.decode(report, type=GatewayLive) for report in reports if report]
    return [gateway for gateway in found if gateway.at >= oldest]


def connections() -> dict[str, ConnectionLive]:
    """How each connection stands, by name."""
    return by_name(gateways())


def by_name(reports: Iterable[GatewayLive]) -> dict[str, ConnectionLive]:
    """How each connection stands: as the gateway says that reads it."""
    found = [connection for gateway in reports for connection in gateway.connections]
    return {one.name: one for one in sorted(found, key=lambda one: one.state != STANDBY)}


def queue_answers() -> str:
    """Empty when the queue answers, else what it said."""
    try:
        queue.live_keys(PREFIX)
    except QueueError as error:
        return str(error)
    return ""


def as_json(gateway: GatewayLive) -> dict[str, Any]:
    """For the API: times as RFC 3339."""
    plain: dict[str, Any] = msgspec.to_builtins(gateway)
    return {**plain, "at": times.rfc3339(gateway.at)}
