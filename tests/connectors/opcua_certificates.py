"""Certificates of strangers and authorities for the tests, as a plant's own tools would make them."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        """As a peer shows it."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """SHA-256."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def files(self, folder: Path) -> tuple[Path, Path]:
        """Certificate and key in this folder."""
        name = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        shown, key = folder / f"{name!s}.der", folder / f"{name!s}.pem"
        shown.write_bytes(self.der)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return shown, key


def issue(  # noqa: PLR0913 - what a certificate may say
    name: str,
    issuer: Issued | None = None,
    *,
    ca: bool = False,
    days: tuple[int, int] = (-1, 30),
    uri: str = "",
    host: str = "",
    bits: int = 2048,
    below: int | None = None,
    more: Sequence[x509.ExtensionType] = (),
    digest: hashes.HashAlgorithm | None = None,
) -> Issued:
    """A certificate of this name, self-signed without an issuer; valid from and to so many days from now.

    `below`: how many authorities it allows below itself; `more`: extensions; `digest`: SHA-256 by default.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject)
    builder = builder.issuer_name(issuer.certificate.subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(days=days[0])).not_valid_after(now + timedelta(days=days[1]))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=below), critical=True)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
    if host:
        names.append(x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=True)
    signed = builder.sign(issuer.key if issuer else key, digest or hashes.SHA256())  # type: ignore[arg-type]
    return Issued(signed, key)


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate as a peer shows it."""
    return hashlib.sha256(der).hexdigest()
