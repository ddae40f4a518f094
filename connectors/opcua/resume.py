"""What it takes to resume a session after an outage or a restart (IEC 62541-4, 6.7), in a file only we may read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.uaerrors import UaError
from pydantic import BaseModel, ConfigDict, ValidationError

from connectors.opcua.own import write_private

if TYPE_CHECKING:
    from connectors import ConnectionConfig
    from connectors.opcua.options import Options

FILE: Final = "opcua-session.json"
LARGEST_FILE: Final = 4 * 1024 * 1024
MOST_TRIES: Final = 3
"""A session that could not be taken up so often is given up: something about it may be what breaks the connection."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str
    token: str
    nonce: str
    subscription: int
    silence_s: float
    missing: dict[int, int]
    sequence: int | None = None
    tries: int = 0


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
    missing: Mapping[int, int]
    """Index of a tag that could not be monitored -> StatusCode."""
    sequence: int | None = None
    """The last notification that is safe with us; None where that is not known."""
    tries: int = 0
    """How often it was tried to resume it, and the connection was lost over it."""


def fingerprint(config: ConnectionConfig, options: Options) -> str:
    """What must be unchanged for a subscription to be resumed: the server, who we are, and the tags in their order."""
    tags = [(tag.id, tag.address, tag.datatype, sorted(tag.options.items())) for tag in config.tags]
    shown = options.model_dump(mode="json", exclude={"password", "timeout_s", "use_received_time"})
    return hashlib.sha256(json.dumps([shown, tags], sort_keys=True, default=str).encode()).hexdigest()


def kept(folder: Path, wanted: str) -> Kept | None:
    """What was kept for this fingerprint, if anything; it stays until something newer is kept, or has `failed`."""
    try:
        found = _File.model_validate_json((folder / FILE).read_bytes()[:LARGEST_FILE])
        if found.fingerprint == wanted:
            token, nonce = ua.NodeId.from_string(found.token), bytes.fromhex(found.nonce)
            return Kept(
                token, nonce, found.subscription, found.silence_s, found.missing, found.sequence, found.tries
            )
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
        missing=dict(kept.missing),
        sequence=kept.sequence,
        tries=kept.tries,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / FILE, file.model_dump_json().encode())


def failed(folder: Path, wanted: str, kept: Kept) -> None:
    """The connection was lost while the session was being taken up: after so many times it is forgotten."""
    if kept.tries + 1 < MOST_TRIES:
        keep(folder, wanted, replace(kept, tries=kept.tries + 1))
    else:
        (folder / FILE).unlink(missing_ok=True)
