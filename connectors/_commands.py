"""The contract's part about changing a plant: capabilities that connectors offer and the product does not use.

Headrace reads. Until a write is guarded (range, rate, interlock, two persons, read-back), nothing in the service may
ask for one of these; a rule of the house holds it to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from connectors import Value


@runtime_checkable
class Writing(Protocol):
    """Connect, then write again and again, then close. A connector module offers it as `plant_writer(config)`."""

    async def connect(self) -> None:
        """Open. Raises NotConnectedError, RefusedError, NotInstalledError."""

    async def write(self, address: str, value: Value) -> None:
        """Return when the peer has taken the value, in the type the peer itself has for it.

        ValueError for a value that this type does not hold exactly: nothing is rounded, cut or converted in silence.
        RefusedError when the peer does not take it; NotConnectedError when it is lost, and then nobody knows whether
        it was taken.
        """

    async def close(self) -> None:
        """Let go of the peer. Safe to call twice, and after a failed connect."""


@runtime_checkable
class Calling(Protocol):
    """Connect, then call again and again, then close. A connector module offers it as `plant_caller(config)`."""

    async def connect(self) -> None:
        """Open. Raises NotConnectedError, RefusedError, NotInstalledError."""

    async def call(self, of: str, method: str, arguments: Sequence[Value]) -> tuple[Value, ...]:
        """Call a method of an object, both by address, with arguments in the types that the peer declares.

        Returns what the method returns. The same errors as `Writing.write`.
        """

    async def close(self) -> None:
        """Let go of the peer. Safe to call twice, and after a failed connect."""
