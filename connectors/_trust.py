"""The contract's part about trust: certificates and what a person decides about them, and what a peer offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

TrustState = Literal["pending", "trusted", "rejected"]
"""Of a peer's certificate. Only a person makes it trusted or rejected."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a person compares before deciding about an X.509 certificate."""

    fingerprint: str
    """SHA-256 over its DER bytes, 64 lower-case hex digits."""
    subject: str
    """RFC 4514."""
    application_uri: str
    """Empty where it names none."""
    hosts: tuple[str, ...]
    """DNS names and IP addresses."""
    valid_from: int
    """ns since 1970 UTC."""
    valid_to: int
    """ns since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A certificate that a peer has shown, or that a person has put there."""

    certificate: Certificate
    state: TrustState
    first_seen: int
    """ns since 1970 UTC."""
    file: str


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A certificate of ours: the one in use, or the one that waits to be switched to."""

    certificate: Certificate
    use: Literal["current", "next"]
    file: str
    """What the peers are given."""


class Trust(Protocol):
    """The certificates of one connection or subscription, in its data folder. Every call blocks."""

    def peers(self) -> tuple[PeerCertificate, ...]:
        """Every certificate of a peer that is known, pending ones first. RefusedError names a file that is none."""

    def decide(self, fingerprint: str, state: TrustState) -> None:
        """Trust or reject a certificate that is known. KeyError when none has this fingerprint; RefusedError."""

    def forget(self, fingerprint: str) -> None:
        """Remove a certificate: shown again, it is pending again. KeyError when there is none; RefusedError."""

    def own(self) -> tuple[OwnCertificate, ...]:
        """Ours: none before first use, then the current one, and the next where one is prepared. RefusedError."""

    def switch(self) -> OwnCertificate:
        """Use the next certificate from now on; a running gateway connects anew. RefusedError when none is prepared."""


@runtime_checkable
class Tended(Protocol):
    """A source or sink that depends on what an operator tends on this machine. Both calls block: they read files."""

    def tend(self) -> tuple[str, ...]:
        """What the operator should know though it works, a sentence each; asked every few seconds while connected.

        Prepares what will be needed, such as the next certificate. Raises RefusedError when the peer is no longer
        trusted, NotConnectedError when the connection should be made anew.
        """

    def mended(self) -> bool:
        """Whether another try is worth while after a RefusedError: what the refusal hung on may have changed."""


@dataclass(frozen=True, slots=True)
class Application:
    """A server that a peer knows of, itself included."""

    name: str
    uri: str
    product_uri: str
    kind: str
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way in that a peer offers."""

    url: str
    policy: str
    mode: str
    level: int
    """The peer's own opinion: the higher, the more secure."""
    tokens: tuple[str, ...]
    """How a user may prove who they are: `anonymous`, `username`, `certificate`, `issued`."""
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a peer says of itself to anyone who asks, before any log-in. Nothing of it is proven."""

    applications: tuple[Application, ...]
    endpoints: tuple[Endpoint, ...]
    notes: tuple[str, ...] = ()
