"""The contract's part about finding: a walk through a foreign plant, and what listening to one proposes as tags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from connectors import Found


@dataclass(frozen=True, slots=True)
class Node:
    """One thing in a peer's address space: a folder, a variable, a level of a topic."""

    address: str
    """Where it is, as a tag's address and as the start of a further browse."""
    name: str
    kind: str
    """The peer's own word for what it is: `Object`, `Variable`, `Method`; `Level`, `Topic`, `Value` on a broker."""
    datatype: str = ""
    """The datatype of a tag that holds its value; empty where there is no value to read."""
    peer_type: str = ""
    """The peer's own name of the type, `[]` behind it for an array."""
    unit: str = ""
    readable: bool = False
    writable: bool = False
    description: str = ""
    has_children: bool = False
    by_path: str = ""
    """The same place as an address by browse path, where the peer knows one and it can be told from here."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What a tag on it needs beyond its address."""
    of_peer: bool = False
    """Whether it is about the peer itself (its diagnostics, its types): a walk goes into it only when asked to."""


@dataclass(frozen=True, slots=True)
class Branch:
    """The children of one address, and what is wrong with the answer; `notes` is empty for a whole one."""

    nodes: tuple[Node, ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Browser(Protocol):
    """A read-only walk through a peer's address space, level by level as it is asked for; nothing is kept."""

    async def connect(self) -> None:
        """Open. Raises NotConnectedError, RefusedError."""

    async def children(self, addresses: Sequence[str]) -> list[Branch]:
        """One level below each address, one Branch each; an empty address is where a walk begins.

        An address that is wrong or not there is a Branch with a note, and costs the others nothing.
        Raises NotConnectedError when the connection is lost.
        """

    async def read(self, addresses: Sequence[str]) -> list[Found]:
        """The value each address has now, in order, with the peer's own name of its type as `datatype`.

        An address that is wrong or not there is Bad. Raises NotConnectedError when the connection is lost.
        """

    async def close(self) -> None:
        """Let go of the peer. Safe to call twice, and after a failed connect."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A tag that a listener proposes for something it heard."""

    address: str
    name: str
    layout: str
    """How the payload was recognised to be laid out; `binary` where nobody but its maker can tell."""
    datatype: str
    options: Mapping[str, object]
    """What the tag needs beyond its address."""
    unit: str
    samples: tuple[str, ...]
    """Some of the values heard, oldest first, shortened."""
    per_second: float
    """Values heard per second of listening."""
    usable: bool
    """Whether the connector reads what was heard with this address, datatype and these options: it was tried."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Learned:
    """What listening to a peer taught."""

    peer: str
    proposals: tuple[Proposal, ...]
    seconds: float
    messages: int
    notes: tuple[str, ...] = ()
