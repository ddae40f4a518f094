"""The contract's part about change: other tags on a connection that stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from connectors import ConnectionConfig


@runtime_checkable
class Rebindable(Protocol):
    """A source that takes other tags without connecting anew."""

    async def rebind(self, config: ConnectionConfig) -> bool:
        """Read these tags from now on; nothing but `tags` and `revision` differs from what it was opened with.

        Called between two reads, while connected. What had arrived before is still read under the revision before;
        nothing is lost or comes twice for a tag that stays as it is; a new tag gets its first value, a changed one may;
        what still comes for one that is gone is not a reading.
        False, with nothing touched, when this change needs a new connection. NotConnectedError or RefusedError when it
        failed half-way, ValueError for a tag that cannot be: the source is then to be closed, and not used again.
        """
