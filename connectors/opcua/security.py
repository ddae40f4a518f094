"""Application instance certificates (IEC 62541-6, 6.2): ours is made at first use, a peer's is trusted only by file."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from asyncua.crypto import security_policies
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors import RefusedError

POLICIES: Final[dict[str, type[security_policies.SecurityPolicy]]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
"""What we accept; the deprecated Basic128Rsa15 and Basic256 are not among them (IEC 62541-7)."""
LIFETIME: Final = timedelta(days=3650)
"""A new certificate has to be trusted by hand at every peer, so it should outlive the plant's next overhaul."""
KEY_BITS: Final = 2048
LARGEST_FILE: Final = 65_536
SUFFIXES: Final = frozenset({".der", ".pem", ".crt", ".cer"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Our certificate and key as files, and the URI that stands in the certificate."""

    certificate: Path
    key: Path
    application_uri: str


def host_name() -> str:
    """The name of the machine, as it stands in the certificate."""
    return socket.gethostname() or "localhost"


def identity(folder: Path, application_uri: str | None, name: str) -> Identity:
    """Our certificate in this folder, made now if it is missing, expired or of another URI; the key is kept."""
    uri = application_uri or f"urn:{host_name()}:headrace:{name}"
    found = Identity(folder / "own" / "certificate.der", folder / "own" / "key.pem", uri)
    found.key.parent.mkdir(parents=True, exist_ok=True)
    if not _still_good(found):
        write_private(found.certificate, _self_signed(_key(found.key), uri).public_bytes(serialization.Encoding.DER))
    return found


def _still_good(mine: Identity) -> bool:
    if not (mine.certificate.is_file() and mine.key.is_file()):
        return False
    certificate = x509.load_der_x509_certificate(mine.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return mine.application_uri in uris and certificate.not_valid_after_utc > datetime.now(UTC)


def _key(path: Path) -> rsa.RSAPrivateKey:
    if path.is_file():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            message = f"{path} is not an RSA key"
            raise RefusedError(message)
        return key
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, pem)
    return key


def write_private(path: Path, content: bytes) -> None:
    """Write a whole file that only we may read, or none."""
    draft = path.with_suffix(".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _self_signed(key: rsa.RSAPrivateKey, uri: str) -> x509.Certificate:
    host, now = host_name(), datetime.now(UTC)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"Headrace@{host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Headrace"),
        ]
    )
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName(host), x509.DNSName("localhost")]
    names += [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + LIFETIME)
    extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True).add_extension(extended, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        elif path.is_file():
            yield path
        else:
            message = f"there is no certificate {path}"
            raise RefusedError(message)


def load_trusted(paths: Sequence[Path], folder: Path) -> tuple[x509.Certificate, ...]:
    """All certificates in these files and folders and in `folder/trusted`. RefusedError names a file that is none."""
    own = folder / "trusted"
    own.mkdir(parents=True, exist_ok=True)
    found: list[x509.Certificate] = []
    for path in _files([*paths, own]):
        content = path.read_bytes()[:LARGEST_FILE]
        try:
            if content.lstrip().startswith(b"-----BEGIN"):
                found += x509.load_pem_x509_certificates(content)
            else:
                found.append(x509.load_der_x509_certificate(content))
        except ValueError as error:
            message = f"{path} is not a certificate: {error}"
            raise RefusedError(message) from error
    return tuple(found)


def first_of_chain(der: bytes) -> bytes:
    """A peer may send its certificate followed by its CA's: the first DER sequence alone."""
    return der[: int.from_bytes(der[2:4], "big") + 4]


def check_peer(der: bytes | None, trusted: Sequence[x509.Certificate], folder: Path) -> x509.Certificate:
    """The peer's certificate, if it is valid today and trusted; else RefusedError, and it lies in `folder/rejected`."""
    if not der:
        message = "the peer shows no certificate, but the connection is configured to be secured"
        raise RefusedError(message)
    try:
        certificate = x509.load_der_x509_certificate(first_of_chain(der))
    except ValueError as error:
        message = f"the peer's certificate cannot be read: {error}"
        raise RefusedError(message) from error
    if not any(_vouches(anchor, certificate) for anchor in trusted):
        rejected = _keep_rejected(certificate, folder)
        message = (
            f"the peer's certificate is not trusted. If it is the right one, copy {rejected} into {folder / 'trusted'}"
        )
        raise RefusedError(message)
    if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        span = f"{certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}"
        message = f"the peer's certificate is valid from {span} only"
        raise RefusedError(message)
    return certificate


def _vouches(anchor: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether this trusted certificate is the peer's own, or a CA that issued it."""
    if anchor == certificate:
        return True
    with suppress(ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        certificate.verify_directly_issued_by(anchor)
        return bool(anchor.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    return False


def _keep_rejected(certificate: x509.Certificate, folder: Path) -> Path:
    path = folder / "rejected" / f"{certificate.fingerprint(hashes.SHA256()).hex()[:32]}.der"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return path
