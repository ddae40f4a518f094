"""What the conformance suite needs of a connector's peer: `peer_<name>.py` offers `peer(request, tmp_path, variant)`.

`VARIANTS` there names the ways in which the protocol takes other steps; the first is what `peer` gives by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from connectors import TagBinding
from tests.connectors.message_gate import Framing


@dataclass(frozen=True)
class Peer:
    """A real peer, configured for the connector, with one number and one text to read."""

    options: Mapping[str, object]
    number: TagBinding
    text: TagBinding
    emit: Callable[[float, str], Awaitable[None]]
    """Let the peer produce a new number and a new text."""
    unreachable: Mapping[str, object]
    """Options that lead to nobody."""
    wrong_addresses: tuple[str, ...]
    wrong_password: Mapping[str, object] | None = None
    """None where the protocol knows no password."""
    cut: Callable[[], Awaitable[None]] | None = None
    """Break the connection as if the peer were killed; None where that cannot happen."""
    ends: bool = False
    """Whether the peer is a recording, which ends."""
    resends: bool = False
    """Whether what was not acknowledged comes again at the next connect."""
    tells_at_once: bool = True
    """Whether a tag that is new on a living connection has a value before the peer produces one."""
    forgotten: int = 0
    """At how many steps of a connection that takes up another what the peer keeps cannot be taken up afterwards."""
    unacknowledged: Callable[[], int] | None = None
    """How many messages the peer still keeps for us; None where it does not tell."""
    sink_options: Mapping[str, object] | None = field(default=None)
    """Options of a sink, where the connector has one."""
    framing: Framing | None = None
    """Of the protocol's messages; None where there is no network between us and the peer."""
    forget: Callable[[], Awaitable[None]] | None = None
    """Let the peer end what it keeps for connections that are gone; None where it keeps nothing that costs it."""
