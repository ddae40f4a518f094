"""X.509 certificates of applications (IEC 62541-6, 6.2): read within limits, described for people, compared."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from connectors import Certificate, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE: Final = 65_536
"""Bytes of a file of certificates."""
LARGEST: Final = 16_384
"""Bytes of one certificate that a peer shows."""
KEY_BITS: Final = range(2048, 4097)
"""RSA keys that the policies we accept allow (IEC 62541-7)."""
STRONG: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
"""What an authority may have signed with; an older hash can be forged."""
LONGEST_NAME: Final = 500
MOST_HOSTS: Final = 32
MOST_AUTHORITIES: Final = 4
"""Between a peer's certificate and one that is trusted."""


def first_of_chain(der: bytes) -> bytes:
    """A peer may send its certificate followed by its CA's: the first DER sequence alone."""
    return der[: int.from_bytes(der[2:4], "big") + 4]


def parsed(content: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates of a DER or PEM file. ValueError when it holds none."""
    if content.lstrip().startswith(b"-----BEGIN"):
        return tuple(x509.load_pem_x509_certificates(content))
    return (x509.load_der_x509_certificate(content),)


def of_file(path: Path) -> tuple[x509.Certificate, ...]:
    """All certificates of this file. RefusedError names a file that cannot be read or holds none."""
    try:
        with path.open("rb") as file:
            return parsed(file.read(LARGEST_FILE))
    except ValueError as error:
        message = f"{path} is not a certificate: {error}"
        raise RefusedError(message) from error
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}"
        raise RefusedError(message) from error


def chain_of(der: bytes) -> tuple[x509.Certificate, ...]:
    """The authorities' certificates that a peer sends behind its own: none of them is trusted for that."""
    found: list[x509.Certificate] = []
    rest = der[len(first_of_chain(der)) :]
    with suppress(ValueError):
        while rest and len(found) < MOST_AUTHORITIES and len(first_of_chain(rest)) <= LARGEST:
            found.append(x509.load_der_x509_certificate(first_of_chain(rest)))
            rest = rest[len(first_of_chain(rest)) :]
    return tuple(found)


def shown_by_peer(der: bytes | None) -> x509.Certificate:
    """The certificate a peer shows. RefusedError when there is none or it cannot be read."""
    if not der:
        message = "the peer shows no certificate, but the connection is configured to be secured"
        raise RefusedError(message)
    first = first_of_chain(der)
    if len(first) > LARGEST:
        message = f"the peer's certificate has {len(first)} bytes: more than {LARGEST} are not read"
        raise RefusedError(message)
    try:
        return x509.load_der_x509_certificate(first)
    except ValueError as error:
        message = f"the peer's certificate cannot be read: {error}"
        raise RefusedError(message) from error


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the DER bytes, 64 hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def described(certificate: x509.Certificate) -> Certificate:
    """What a person compares; names that are too long are cut."""
    uris, hosts = alternative_names(certificate)
    return Certificate(
        fingerprint(certificate),
        _subject(certificate),
        uris[0][:LONGEST_NAME] if uris else "",
        tuple(host[:LONGEST_NAME] for host in hosts[:MOST_HOSTS]),
        _ns(certificate.not_valid_before_utc),
        _ns(certificate.not_valid_after_utc),
    )


def _subject(certificate: x509.Certificate) -> str:
    try:
        text = certificate.subject.rfc4514_string()
    except ValueError:
        return ""
    # A peer chooses this text: nothing in it may move the operator's cursor.
    return "".join(one if one.isprintable() else "?" for one in text[:LONGEST_NAME])


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """The URIs in it, and the host names with the IP addresses; both empty where it has none that can be read."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return [], []
    addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    return found.get_values_for_type(x509.UniformResourceIdentifier), [
        *found.get_values_for_type(x509.DNSName),
        *addresses,
    ]


def vouches(anchor: x509.Certificate, certificate: x509.Certificate, below: int = 0) -> bool:
    """Whether this certificate is that of an authority that issued the other one, and is valid today.

    `below`: authorities between that one and the peer's own certificate.
    """
    if not isinstance(certificate.signature_hash_algorithm, STRONG) or out_of_date(anchor):
        return False
    with suppress(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        certificate.verify_directly_issued_by(anchor)
        return _may_issue(anchor, below)
    return False


def _may_issue(anchor: x509.Certificate, below: int) -> bool:
    """Raises x509.ExtensionNotFound when it does not even say that it is an authority."""
    limits = anchor.extensions.get_extension_for_class(x509.BasicConstraints).value
    with suppress(x509.ExtensionNotFound):
        if not anchor.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return False
    return limits.ca and (limits.path_length is None or limits.path_length >= below)


def vouched(
    certificate: x509.Certificate, anchors: Sequence[x509.Certificate], between: Sequence[x509.Certificate]
) -> bool:
    """Whether a trusted authority issued it, or issued an authority that did, and so on through `between`."""
    reached, frontier = [certificate], [certificate]
    for below in range(MOST_AUTHORITIES + 1):
        if any(vouches(anchor, one, below) for anchor in anchors for one in frontier):
            return True
        frontier = [a for a in between if a not in reached and any(vouches(a, one, below) for one in frontier)]
        reached += frontier
    return False


def out_of_date(certificate: x509.Certificate) -> str:
    """When it is valid, if that is not today; else empty."""
    if certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        return ""
    return f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def weak(certificate: x509.Certificate) -> str:
    """What of its key no policy of ours allows, or empty."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "a key that cannot be read"
    if not isinstance(key, rsa.RSAPublicKey):
        return "no RSA key"
    return "" if key.key_size in KEY_BITS else f"an RSA key of {key.key_size} bits"


def mismatch(certificate: x509.Certificate, host: str, uri: str) -> str:
    """Why an authority's word for this certificate does not make it this peer's, or empty (IEC 62541-4, 6.1.3).

    `host`: of the address we connect to, empty for a client of ours; `uri`: the peer's application URI as it says.
    """
    uris, hosts = alternative_names(certificate)
    if uri not in uris:
        return f"an authority vouches for {uris[0] if uris else 'no URI'}, and the peer calls itself {uri or '-'}"
    if host and not any(_same_host(host, one) for one in hosts):
        return f"an authority vouches for {', '.join(hosts[:MOST_HOSTS]) or 'no host'}, and the address says {host}"
    with suppress(x509.ExtensionNotFound, ValueError):
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        wanted = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        return "" if wanted in usage else "its authority did not issue it for this use"
    return ""


def _same_host(wanted: str, named: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(wanted) == ipaddress.ip_address(named)
    return wanted.rstrip(".").lower() == named.rstrip(".").lower()
