"""What a gateway says of itself about once a second: live figures for people, never the truth of anything."""

from __future__ import annotations

from typing import Final

import msgspec


class ConnectionLive(msgspec.Struct, frozen=True):
    """How one connection stands."""

    name: str
    state: str
    """connecting, connected, lost, refused, stopped, ended, unknown."""
    error: str = ""
    readings_per_s: float | None = None
    readings: int = 0
    """Since the gateway started."""


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


UNKNOWN: Final = ConnectionLive(name="", state="unknown")
