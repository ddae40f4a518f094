"""What it takes to resume a session after an outage or a restart (IEC 62541-4, 6.7), in a file only we may read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from asyncua import ua
from asyncua.ua.uaerrors import UaError
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from connectors._durable import remove, write
from connectors.opcua.revised import Revised

if TYPE_CHECKING:
    from connectors import ConnectionConfig
    from connectors.opcua.options import Options

FILE: Final = "opcua-session.json"
LARGEST_FILE: Final = 4 * 1024 * 1024
NOT_THE_SERVERS: Final = {
    "password", "timeout_s", "use_received_time", "requests_per_s",
    "backfill", "backfill_hours", "backfill_readings_per_s",
}  # fmt: skip
"""Options that change nothing about a subscription."""
MOST_TRIES: Final = 3
"""A session that could not be taken up so often is given up: something about it may be what breaks the connection."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str
    token: str
    nonce: str
    subscription: int
    silence_s: float
    handles: list[int]
    next_handle: int
    items: dict[int, int]
    missing: dict[int, int]
    revised: Revised
    sequence: int | None = None
    tries: int = 0

    @model_validator(mode="after")
    def _each_handle_once(self) -> Self:
        if len(set(self.handles)) < len(self.handles) or max(self.handles, default=-1) >= self.next_handle:
            message = "a client handle stands for two tags"
            raise ValueError(message)
        return self


@dataclass(frozen=True, slots=True)
class Handles:
    """Which client handles of a subscription stand for what."""

    of_tags: tuple[int, ...]
    """One per tag, in the order of the configuration."""
    next: int
    """The first that was never given: what is still on its way may name any before it."""
    items: Mapping[int, int]
    """Handle -> MonitoredItemId of those the server monitors."""
    missing: Mapping[int, int]
    """Handle of a tag that cannot be monitored -> StatusCode."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A session and its subscription, as a server may still have them."""

    token: ua.NodeId = field(repr=False)
    """The authentication token: whoever has it and our certificate is us."""
    nonce: bytes = field(repr=False)
    """The server's last nonce, which the next activation signs."""
    subscription: int
    silence_s: float
    """How long the server may be silent before that is an outage."""
    handles: Handles
    revised: Revised
    """What the server had made of what we asked for."""
    sequence: int | None = None
    """The last notification that is safe with us; None where that is not known."""
    tries: int = 0
    """How often it was tried to resume it, and the connection was lost over it."""


def fingerprint(config: ConnectionConfig, options: Options) -> str:
    """What must be unchanged for a subscription to be resumed: the server, who we are, and the tags in their order."""
    tags = [(tag.id, tag.address, tag.datatype, sorted(tag.options.items())) for tag in config.tags]
    shown = options.model_dump(mode="json", exclude=NOT_THE_SERVERS)
    return hashlib.sha256(json.dumps([shown, tags], sort_keys=True, default=str).encode()).hexdigest()


def kept(folder: Path, wanted: str, tags: int) -> Kept | None:
    """What was kept for this fingerprint, if anything; it stays until something newer is kept, or has `failed`.

    `tags`: how many there are.
    """
    try:
        found = _File.model_validate_json((folder / FILE).read_bytes()[:LARGEST_FILE])
        if found.fingerprint == wanted and len(found.handles) == tags:
            token, nonce = ua.NodeId.from_string(found.token), bytes.fromhex(found.nonce)
            handles = Handles(tuple(found.handles), found.next_handle, found.items, found.missing)
            subscription = (found.subscription, found.silence_s, handles, found.revised, found.sequence)
            return Kept(token, nonce, *subscription, found.tries)
    except (OSError, ValidationError, ValueError, UaError):
        return None
    return None


def keep(folder: Path, wanted: str, kept: Kept) -> None:
    """Write it, so that neither an outage nor a restart of ours loses what the server still has."""
    file = _File(
        fingerprint=wanted,
        token=kept.token.to_string(),
        nonce=kept.nonce.hex(),
        subscription=kept.subscription,
        silence_s=kept.silence_s,
        handles=list(kept.handles.of_tags),
        next_handle=kept.handles.next,
        items=dict(kept.handles.items),
        missing=dict(kept.handles.missing),
        revised=kept.revised,
        sequence=kept.sequence,
        tries=kept.tries,
    )
    write(folder / FILE, file.model_dump_json().encode())


def failed(folder: Path, wanted: str, kept: Kept) -> None:
    """The connection was lost while the session was being taken up: after so many times it is forgotten."""
    if kept.tries + 1 < MOST_TRIES:
        keep(folder, wanted, replace(kept, tries=kept.tries + 1))
    else:
        forget(folder)


def forget(folder: Path) -> None:
    """Nothing is to be resumed any more."""
    remove(folder / FILE)
