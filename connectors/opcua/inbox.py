"""The trust inbox of a connection: certificates that peers showed, and what a person said (IEC 62541-4, 6.1.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connectors import PeerCertificate, RefusedError, TrustState
from connectors._durable import make_folder, remove, sync_folder, write
from connectors.opcua import certificates

STATES: Final[tuple[TrustState, ...]] = ("pending", "trusted", "rejected")
"""Each is a folder."""
MOST_PENDING: Final = 32
"""Whoever reaches our port can show certificates: more than these are refused and not kept."""
MOST_FILES: Final = 1000
SUFFIXES: Final = frozenset({".der", ".pem", ".crt", ".cer"})
FILE_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class _Held:
    """One certificate in one file."""

    certificate: x509.Certificate
    state: TrustState
    path: Path
    alone: bool
    """Whether the file holds no other."""

    @property
    def fingerprint(self) -> str:
        return certificates.fingerprint(self.certificate)


class UnknownPeerError(RefusedError):
    """Nobody has trusted the peer's certificate yet. Its `fingerprint` is what a person compares."""

    def __init__(self, message: str, fingerprint: str) -> None:
        """`fingerprint`: SHA-256, hex."""
        super().__init__(message)
        self.fingerprint = fingerprint


class Inbox:
    """`pending/`, `trusted/` and `rejected/` in a connection's folder. What is rejected stays so, whoever vouches."""

    def __init__(self, folder: Path, configured: Sequence[Path]) -> None:
        """`configured`: files and folders of trusted certificates elsewhere; we read them and leave them alone."""
        self._folder = folder
        self._configured = tuple(configured)

    def check(self, der: bytes | None, host: str = "", uri: str = "") -> x509.Certificate:
        """The peer's certificate, if it is trusted, strong enough and valid today; else RefusedError, and it is kept.

        `host` and `uri` as in `certificates.mismatch`: an authority vouches for the peer it names, and for no other.
        A certificate that a person has trusted itself is that peer's, whatever names stand in it.
        """
        certificate = certificates.shown_by_peer(der)
        shown = certificates.fingerprint(certificate)
        if any(one.fingerprint == shown for one in self._held("rejected")):
            message = f"the peer's certificate was rejected here; to take that back: headrace trust accept {shown}"
            raise RefusedError(message)
        self._trusted(certificate, certificates.chain_of(der or b""), host, uri)
        weak = certificates.weak(certificate)
        if weak:
            message = f"the peer's certificate has {weak}: its policy wants RSA with 2048 to 4096 bits"
            raise RefusedError(message)
        span = certificates.out_of_date(certificate)
        if span:
            message = f"the peer's certificate is valid from {span} only"
            raise RefusedError(message)
        return certificate

    def _trusted(self, certificate: x509.Certificate, between: Sequence[x509.Certificate], host: str, uri: str) -> None:
        anchors = self.anchors()
        if certificate in anchors:
            return
        vouched = certificates.vouched(certificate, anchors, between)
        why = certificates.mismatch(certificate, host, uri) if vouched else "it is not known here"
        if why:
            raise UnknownPeerError(self._put(certificate, why), certificates.fingerprint(certificate))

    def anchors(self) -> tuple[x509.Certificate, ...]:
        """Every trusted certificate: a peer's own, or an authority's. RefusedError names a file that is none."""
        make_folder(self._folder / "trusted")
        return tuple(one.certificate for one in self._held("trusted"))

    def _put(self, certificate: x509.Certificate, why: str) -> str:
        """Keep an unknown certificate where the operator finds it; what to tell the operator."""
        shown = certificates.described(certificate)
        said = f"the peer's certificate is not trusted, {why}: {shown.subject} {shown.application_uri}".rstrip()
        folder = self._folder / "pending"
        make_folder(folder)
        path = folder / f"{shown.fingerprint}.der"
        if not path.exists() and sum(1 for _ in folder.iterdir()) >= MOST_PENDING:
            return (
                f"{said}. SHA-256 {shown.fingerprint}. It was not kept: {MOST_PENDING} others are pending; "
                "see `headrace trust`, and remove what nobody needs"
            )
        if not path.exists():
            write(path, certificate.public_bytes(Encoding.DER), FILE_MODE)
        return f"{said}. If it is the right one: headrace trust accept {shown.fingerprint}"

    def pending(self) -> int:
        """How many certificates wait for a person."""
        return len(_files(self._folder / "pending"))

    def marks(self) -> Iterator[Path]:
        """The files on which trust depends."""
        for state in ("trusted", "rejected"):
            yield from _files(self._folder / state)
        for path in self._configured:
            yield from _files(path)

    def _held(self, state: TrustState) -> Iterator[_Held]:
        paths = [(path, False) for path in _files(self._folder / state)]
        if state == "trusted":
            paths += [(path, True) for one in self._configured for path in _existing(one)]
        for path, configured in paths:
            try:
                found = certificates.of_file(path)
            except RefusedError:
                # The operator may have moved it since we looked.
                if not configured and not path.exists():
                    continue
                raise
            for certificate in found:
                yield _Held(certificate, state, path, len(found) == 1)

    def peers(self) -> tuple[PeerCertificate, ...]:
        """See `connectors.Trust`."""
        return tuple(
            PeerCertificate(
                certificates.described(one.certificate), one.state, one.path.stat().st_mtime_ns, str(one.path)
            )
            for state in STATES
            for one in self._held(state)
        )

    def decide(self, fingerprint: str, state: TrustState) -> None:
        """See `connectors.Trust`. At no moment does a certificate that was rejected count as trusted."""
        found = self._find(fingerprint)
        for one in (one for one in found if one.state == "rejected" != state and not one.alone):
            message = f"{one.path} holds other certificates too: take this one out by hand"
            raise RefusedError(message)
        if not any(one.state == state for one in found):
            self._move(found[0], state)
            found = found[1:]
        for one in found:
            if one.state != state and self._ours(one):
                remove(one.path)

    def _move(self, held: _Held, state: TrustState) -> None:
        target = self._folder / state / f"{held.fingerprint}{held.path.suffix if held.alone else '.der'}"
        make_folder(target.parent)
        if self._ours(held):
            # It keeps its owner and its time, so that a command of another account leaves it readable.
            held.path.rename(target)
            # A decision outlives a power cut: what was rejected is not trusted again.
            sync_folder(held.path.parent)
            sync_folder(target.parent)
        else:
            write(target, held.certificate.public_bytes(Encoding.DER), FILE_MODE)

    def forget(self, fingerprint: str) -> None:
        """See `connectors.Trust`."""
        for one in self._find(fingerprint):
            if not self._ours(one):
                message = f"it stands in {one.path}, which is not changed by us: take it out there"
                raise RefusedError(message)
            remove(one.path)

    def _ours(self, held: _Held) -> bool:
        return held.alone and held.path.parent == self._folder / held.state

    def _find(self, fingerprint: str) -> list[_Held]:
        found = [one for state in STATES for one in self._held(state) if one.fingerprint == fingerprint]
        if not found:
            raise KeyError(fingerprint)
        return found


def _files(folder: Path) -> list[Path]:
    """The certificate files in a folder, or the file itself; none where there is neither."""
    if folder.is_file():
        return [folder]
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())[:MOST_FILES]
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"{folder} cannot be read: {error.strerror or error}"
        raise RefusedError(message) from error


def _existing(path: Path) -> list[Path]:
    if not path.exists():
        message = f"there is no certificate {path}"
        raise RefusedError(message)
    return _files(path)
