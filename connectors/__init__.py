"""The contract of a field connector: readings come in as columns, with the call that says they are safe with us.

Every public module or package in this folder is one connector, found by its file name (`names`, `load`).
A connector never sleeps, retries, logs an outage, starts a thread of its own or reads the environment: the
runner in the gateway owns waiting, back-off, outage logging and acknowledgement.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np

from connectors._browse import Branch, Browser, Learned, Node, Proposal
from connectors._events import ConditionState, PlantEvent
from connectors._history import Allowance, Historical, Past
from connectors._rebind import Rebindable
from connectors._trust import (
    Application,
    Certificate,
    Endpoint,
    Offer,
    OwnCertificate,
    PeerCertificate,
    Tended,
    Trust,
    TrustState,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import BaseModel

Value = object
"""What `Batch.others` may hold: str, bytes, int beyond 2**53, numpy array, or a structure of dict and list."""

NO_TIME: Final = np.iinfo(np.int64).min
"""The sentinel in `Batch.source_time`: the origin gave no time, or one that int64 nanoseconds cannot hold."""


class Status:
    """OPC UA StatusCodes (IEC 62541-4, 7.39) that this product itself sets, and how to read the severity of any."""

    GOOD: Final = 0x00000000
    GOOD_CLAMPED: Final = 0x00300000
    UNCERTAIN: Final = 0x40000000
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE: Final = 0x408F0000
    UNCERTAIN_LAST_USABLE: Final = 0x40900000
    UNCERTAIN_SUBSTITUTE: Final = 0x40910000
    UNCERTAIN_SUB_NORMAL: Final = 0x40950000
    UNCERTAIN_CONFIGURATION_ERROR: Final = 0x420F0000
    BAD: Final = 0x80000000
    BAD_COMMUNICATION_ERROR: Final = 0x80050000
    BAD_NO_COMMUNICATION: Final = 0x80310000
    BAD_WAITING_FOR_INITIAL_DATA: Final = 0x80320000
    BAD_NODE_ID_UNKNOWN: Final = 0x80340000
    BAD_OUT_OF_RANGE: Final = 0x803C0000
    BAD_TYPE_MISMATCH: Final = 0x80740000
    BAD_CONFIGURATION_ERROR: Final = 0x80890000
    BAD_NOT_CONNECTED: Final = 0x808A0000
    BAD_DATA_UNAVAILABLE: Final = 0x809E0000

    @staticmethod
    def severity(code: int) -> int:
        """0 Good, 1 Uncertain, 2 Bad (3 is reserved and reads as Bad): the top two bits."""
        return min(code >> 30, 2)


class ConnectorError(Exception):
    """Something between a peer and us; each subclass says whose move it is."""


class NotConnectedError(ConnectorError):
    """The connection is not there or was lost. Wait and connect again."""


class RefusedError(ConnectorError):
    """The peer refused credentials, certificate or policy. Stop, tell the operator; never connect less securely."""


class EndOfInput(ConnectorError):  # noqa: N818 - the end of a recording is not an error
    """There is nothing more to read. Stop without complaint."""


class NotInstalledError(ConnectorError):
    """A library this connector needs is absent. The message names the extra to install."""


async def no_ack() -> None:
    """Acknowledge nothing: for sources that cannot send again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something a peer sent that could not become a reading: counted in the ledger, kept as a dead letter."""

    address: str
    """Where it came from in the peer's own words: a topic, a NodeId."""
    reason: str
    """A stable snake_case word, e.g. `broken_json`, `wrong_type`, `too_large`: the ledger counts by it."""
    detail: str
    """What is wrong and what to do, for the operator."""
    excerpt: bytes = b""
    """The first bytes of the payload, at most 256."""
    readings: int = 1
    """How many readings were lost with it; 1 where that cannot be known."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings that arrived together, in columns of length n, and the call that says they are safe with us."""

    tags: NDArray[np.int64]
    """Permanent tag ids: allocated once, never reused, kept across renaming and re-addressing. Shape (n,)."""
    source_time: NDArray[np.int64]
    """ns since 1970 UTC, as the origin stamped it; `NO_TIME` where absent or out of range. Shape (n,)."""
    values: NDArray[np.float64]
    """Numbers and booleans; NaN where `others` holds the value. Shape (n,)."""
    others: Mapping[int, Value]
    """Row -> str, bytes, array, structure, or an integer that float64 cannot hold exactly."""
    status: NDArray[np.uint32]
    """OPC UA StatusCode, kept whole. Shape (n,)."""
    received_time: int
    """ns since 1970 UTC, when the gateway took the batch."""
    alive_until: int
    """ns; every subscribed tag without a row is unchanged up to here. A heartbeat is an empty batch."""
    revision: int
    """Of the connection's configuration under which it was read."""
    refused: tuple[Refusal, ...] = ()
    """What arrived with these readings and could not be taken."""
    lost: int = 0
    """Readings the peer itself says it dropped (overflow bit, missing sequence number) since the last batch."""
    continues: bool = True
    """False for the first batch of a connection that could not take up where the last one ended: what changed in
    between may be missing. OPC UA: a new subscription; MQTT: a session that the broker no longer had."""
    ack: Callable[[], Awaitable[None]] = field(default=no_ack, compare=False)
    events: tuple[PlantEvent, ...] = ()
    """What the peer reported beside its readings; safe with us, like them, before `ack`."""

    def __len__(self) -> int:
        """The number of readings."""
        return len(self.tags)


@dataclass(frozen=True, slots=True)
class TagBinding:
    """One tag as a connector needs it: the permanent id and where the value lives in the peer."""

    id: int
    address: str
    """The peer's own address: a NodeId or browse path with a namespace URI; a topic and a JSON path."""
    datatype: str = "float"
    """What the tag is configured to hold: `float`, `integer`, `boolean`, `string`, `array`, `any`."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What only this connector knows: validated by its `TagOptions`."""


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """One connection as a connector is opened with it."""

    name: str
    options: Mapping[str, object] = field(repr=False)
    """Already validated by the connector's `Options`; secrets stand in it in the clear, so it is never shown."""
    tags: tuple[TagBinding, ...]
    revision: int
    data_dir: str
    """A folder of this connection's own, for certificates and session state."""


@runtime_checkable
class Source(Protocol):
    """Connect, then read again and again, then close."""

    async def connect(self) -> None:
        """Open and subscribe. Raises NotConnectedError, RefusedError, NotInstalledError."""

    async def read(self) -> Batch:
        """Wait for the next batch. Returns an empty one as a heartbeat while the peer is alive and silent.

        Takes all that has arrived up to a few thousand readings, so that a busy peer costs few batches. Raises
        NotConnectedError when the connection is lost, EndOfInput when a recording ends. Cancelling is safe.
        """

    async def close(self) -> None:
        """Let go of the peer. Safe to call twice, and after a failed connect."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One thing that goes north: a prediction's outputs or an event, with the id that stays the same on a repeat."""

    id: str
    key: str
    """Order is kept per key."""
    topic: str
    """Path along the plant's hierarchy, `/` between levels, no wildcard."""
    body: bytes
    """What an MQTT peer is sent."""
    content_type: str
    nodes: tuple[NodeValue, ...] = ()
    """What an OPC UA server shows."""
    retain: bool = False


@dataclass(frozen=True, slots=True)
class NodeValue:
    """A value for one node of our own OPC UA server."""

    path: str
    """Browse path below Objects, `/` between levels: the NodeId's string identifier too."""
    value: float | int | bool | str
    status: int
    source_time: int
    unit: str = ""
    description: str = ""


@runtime_checkable
class Sink(Protocol):
    """Connect, then publish again and again, then close."""

    async def connect(self) -> None:
        """Open. Raises NotConnectedError, RefusedError, NotInstalledError."""

    async def publish(self, items: Sequence[Publication]) -> None:
        """Return when the peer has taken every item (MQTT: all PUBACKs). NotConnectedError when it is lost."""

    async def close(self) -> None:
        """Let go of the peer. Safe to call twice, and after a failed connect."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing a browse or a listen found in a foreign plant."""

    address: str
    name: str
    datatype: str
    value: str
    status: int
    source_time: int
    unit: str = ""
    changes: int = 0
    """How many values arrived while looking."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a read-only look at a foreign peer found, and what it cost the peer."""

    peer: str
    """What the peer calls itself: product, version, security."""
    found: tuple[Found, ...]
    clock_offset_ns: int | None
    """The peer's clock minus ours; None where the protocol does not tell."""
    seconds: float
    requests: int
    bytes_received: int
    notes: tuple[str, ...] = ()
    """What the engineer should know: truncated browse, weak security, wrong clock."""


@runtime_checkable
class Connector(Protocol):
    """What a connector module offers; the module itself satisfies this protocol.

    Optional capabilities are functions of their own, absent where the protocol has none:

    * `sink(config) -> Sink`
    * `trust(config) -> Trust`: the certificates of peers, and our own
    * `offer(url, timeout_s) -> Offer`: what a server says of itself before any log-in
    * `look(url, seconds, **credentials) -> Look`: what is there, how often it changes, what looking cost
    * `browse(url, seconds, **credentials) -> Browser`: nothing is opened yet. `seconds` is how long to listen where a
      peer tells only when it speaks
    * `learn(url, wanted, seconds, **credentials) -> Learned`: listens to a filter and proposes tags

    and later `write`, `call`. A source or sink may be `Tended`, a source `Historical` and `Rebindable`. `credentials`
    are those of `Options`; ValueError where it refuses them.
    """

    SCHEMES: tuple[str, ...]
    """URL schemes that name this connector, e.g. `("opc.tcp",)`."""
    Options: type[BaseModel]
    """What a connection of this kind is configured with; unknown keys are refused."""
    TagOptions: type[BaseModel]
    """What a tag of this kind is configured with beyond its address; unknown keys are refused."""

    def check_address(self, address: str) -> str | None:
        """What is wrong with a tag's address and how to write it, or None."""

    def source(self, config: ConnectionConfig) -> Source:
        """A source for this connection; nothing is opened yet."""


def names() -> tuple[str, ...]:
    """Every connector's name, sorted: the public modules of this folder."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def load(name: str) -> Connector:
    """The connector of this name. KeyError names those that exist; NotInstalledError says which extra is missing."""
    if name not in names():
        message = f"there is no connector {name!r}; there are: {', '.join(names())}"
        raise KeyError(message)
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith(__name__):
            raise
        message = f"connector {name!r} needs the package {error.name!r}: install headrace[{name}]"
        raise NotInstalledError(message) from error
    return module  # what a module offers, the conformance suite holds it to


__all__ = [
    "NO_TIME", "Allowance", "Application", "Batch", "Branch", "Browser", "Certificate", "ConditionState",
    "ConnectionConfig", "Connector", "ConnectorError", "EndOfInput", "Endpoint", "Found", "Historical", "Learned",
    "Look", "Node", "NodeValue", "NotConnectedError", "NotInstalledError", "Offer", "OwnCertificate", "Past",
    "PeerCertificate", "PlantEvent", "Proposal", "Publication", "Rebindable", "Refusal", "RefusedError", "Sink",
    "Source", "Status", "TagBinding", "Tended", "Trust", "TrustState", "Value", "load", "names", "no_ack",
]
