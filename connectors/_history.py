"""The part of the contract about the past: readings that a peer has kept and that we were not there to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors import Batch


@dataclass(frozen=True, slots=True)
class Allowance:
    """What reading the past may cost a peer."""

    reach_ns: int
    """How far back it may be asked, from now."""
    readings_per_s: int
    """More is not asked for, on average."""


class Past(Protocol):
    """Readings of the past, span by span and page by page. A peer is asked for no page before `read` is called."""

    async def begin(self, since: int, until: int) -> None:
        """From now on read what has its source time between these times (ns, ours, both inclusive).

        What is left of another span is let go. Raises as `read` does.
        """

    async def read(self) -> Batch | None:
        """The answer to one request: a few thousand readings at most, in any order of time, or none of this span.

        None after the last one.

        Its `alive_until` is 0: the past is no sign of life. A reading may come more than once. Raises
        NotConnectedError when the connection is lost or the peer does not answer, RefusedError when it does not let
        us.
        """

    @property
    def lacking(self) -> Mapping[int, str]:
        """Tags of which the peer has no past, by id: why, a sentence without its full stop. Whole after the end."""

    async def close(self) -> None:
        """Let the peer forget where we are. Safe to call twice, after an error and when the connection is lost."""


@runtime_checkable
class Historical(Protocol):
    """A source that may ask its peer for the past while it is connected, beside what it reads."""

    @property
    def allowance(self) -> Allowance | None:
        """What it may cost; None where it is not wanted."""

    def history(self) -> Past:
        """The past of all of its tags; nothing is asked yet. Raises NotConnectedError."""
