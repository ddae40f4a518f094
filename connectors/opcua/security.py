"""What an OPC UA connection proves itself with and whom it believes: policies, certificates, the trust inbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asyncua.crypto import security_policies
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors import RefusedError
from connectors.opcua import certificates
from connectors.opcua.inbox import Inbox
from connectors.opcua.own import WARN, Own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors import ConnectionConfig, OwnCertificate, PeerCertificate, TrustState
    from connectors.opcua.options import Credentials

POLICIES: Final[dict[str, type[security_policies.SecurityPolicy]]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
"""What we accept; the deprecated Basic128Rsa15 and Basic256 are not among them (IEC 62541-7)."""
WEAK: Final = frozenset(
    {"", security_policies.SecurityPolicyNone.URI, security_policies.SecurityPolicyBasic128Rsa15.URI}
)
"""Policies under which a password is not encrypted, or a user certificate proves nothing."""

Mark = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class UserCertificate:
    """How a user proves who they are (X509IdentityToken, IEC 62541-4, 7.41)."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


class Keys:
    """The certificates of one connection or subscription; what a person does with them is `connectors.Trust`."""

    def __init__(
        self,
        folder: Path,
        name: str,
        application_uri: str | None = None,
        trusted: tuple[Path, ...] = (),
        user: tuple[Path, Path] | None = None,
    ) -> None:
        """`trusted`: files and folders beside the inbox; `user`: certificate and key. Nothing is read yet."""
        self.mine = Own(folder, application_uri, name)
        self.inbox = Inbox(folder, trusted)
        self._user = user

    def user(self) -> UserCertificate | None:
        """The user's certificate, None where there is none to be. RefusedError when it cannot be used."""
        if self._user is None:
            return None
        certificate = certificates.of_file(self._user[0])[0]
        try:
            key = serialization.load_pem_private_key(self._user[1].read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            message = f"the user's key {self._user[1]} cannot be read: {_why(error)}"
            raise RefusedError(message) from error
        if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
            message = f"{self._user[1]} is not the key of the user's certificate {self._user[0]}"
            raise RefusedError(message)
        span = certificates.out_of_date(certificate)
        if span:
            message = f"the user's certificate {self._user[0]} is valid from {span} only"
            raise RefusedError(message)
        return UserCertificate(certificate, key)

    def notes(self) -> tuple[str, ...]:
        """What the operator should know of the user's certificate."""
        if self._user is None:
            return ()
        ends = certificates.of_file(self._user[0])[0].not_valid_after_utc
        if ends - datetime.now(UTC) >= WARN:
            return ()
        return (f"the user's certificate {self._user[0]} ends on {ends:%Y-%m-%d}",)

    def mark(self) -> Mark:
        """Changes when a file changes on which it depends whether we and the peer accept each other."""
        return tuple(sorted(_marked(self.inbox.marks()))) + self.own_mark() + tuple(_marked(iter(self._user or ())))

    def own_mark(self) -> Mark:
        """The same of our own certificate alone."""
        return tuple(_marked(iter(self.mine.marks)))

    def peers(self) -> tuple[PeerCertificate, ...]:
        """See `connectors.Trust`."""
        return self.inbox.peers()

    def decide(self, fingerprint: str, state: TrustState) -> None:
        """See `connectors.Trust`."""
        self.inbox.decide(fingerprint, state)

    def forget(self, fingerprint: str) -> None:
        """See `connectors.Trust`."""
        self.inbox.forget(fingerprint)

    def own(self) -> tuple[OwnCertificate, ...]:
        """See `connectors.Trust`."""
        return self.mine.shown()

    def switch(self) -> OwnCertificate:
        """See `connectors.Trust`."""
        return self.mine.switch()


def keys_of(credentials: Credentials, name: str, folder: Path) -> Keys:
    """Those of a connection as client."""
    user = None
    if credentials.user_certificate_file is not None and credentials.user_key_file is not None:
        user = (credentials.user_certificate_file, credentials.user_key_file)
    return Keys(folder, name, credentials.application_uri, credentials.trusted_certificates, user)


def trust(config: ConnectionConfig) -> Keys:
    """The certificates of a connection or of a subscription, whichever it is: see `connectors.Trust`."""
    uri, trusted = config.options.get("application_uri"), config.options.get("trusted_certificates")
    paths = tuple(Path(str(one)) for one in trusted) if isinstance(trusted, list | tuple) else ()
    return Keys(Path(config.data_dir), config.name, str(uri) if uri else None, paths)


def _why(error: Exception) -> str:
    if isinstance(error, TypeError):
        return "it is encrypted"
    return error.strerror or "" if isinstance(error, OSError) else "it is no PEM key"


def _marked(paths: Iterator[Path]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            yield str(path), 0, 0
        else:
            yield str(path), found.st_mtime_ns, found.st_ino
