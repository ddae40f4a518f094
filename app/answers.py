"""What one worker has computed of a block, as it travels to the next: all of `Scored` that the block does not say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from app.carrying import Carried
from app.inferring import Dead, Scored, unanswered
from app.sessions import Passport

if TYPE_CHECKING:
    from app.pipelines.service import Version
    from app.records import WindowBlock
    from app.sessions import Sessions


class Answers(msgspec.Struct, array_like=True, frozen=True):
    """Columns of length n, the number of the block's windows, and what is the same for all of them."""

    status: list[int]
    reason: list[str]
    outputs: list[dict[str, Any]]
    latency_ns: int
    passport: Passport
    blanks: dict[str, Any]
    dead: Dead | None
    carried: Carried | None = None


_decoder = msgspec.msgpack.Decoder(Answers)


def packed(scored: Scored) -> bytes:
    """As they travel."""
    made = Answers(
        scored.status, scored.reason, scored.outputs, scored.latency_ns, scored.passport, dict(scored.blanks),
        scored.dead, scored.carried,
    )  # fmt: skip
    return msgspec.msgpack.encode(made)


def unpacked(sessions: Sessions, version: Version, block: WindowBlock, body: bytes) -> Scored:
    """The windows of a block with these answers. Raises msgspec.MsgspecError; ValueError for those of other windows."""
    found, bare = _decoder.decode(body), unanswered(sessions, version, block, "")
    count = len(bare)
    dead = () if found.dead is None else found.dead.windows
    if {len(found.status), len(found.reason), len(found.outputs)} != {count} or not {*dead} <= {*range(count)}:
        message = f"the answers of version {version.id} are not those of its {count} windows"
        raise ValueError(message)
    return replace(bare, **{name: getattr(found, name) for name in Answers.__struct_fields__})
