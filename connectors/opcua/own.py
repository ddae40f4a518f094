"""Our application certificate (IEC 62541-6, 6.2) and its life: made once, warned of in time, switched by a person.

A peer trusts one certificate. Were a new one used before the peers know it, they would all refuse us: so a new one is
prepared beside the current one, and only `switch` puts it to use.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors import OwnCertificate, RefusedError
from connectors._durable import make_folder, sync_folder, write
from connectors.opcua import certificates

LIFETIME: Final = timedelta(days=3650)
"""A new certificate has to be trusted by hand at every peer, so it should outlive the plant's next overhaul."""
WARN: Final = timedelta(days=60)
"""So long before its end the operator is told, and the next one is prepared."""
BACKDATED: Final = timedelta(minutes=5)
"""A peer's clock may be behind ours."""
KEY_BITS: Final = 2048
CERTIFICATE: Final = "certificate.der"
KEY: Final = "key.pem"


@dataclass(frozen=True, slots=True)
class Identity:
    """Our certificate and key as files, and the URI that stands in the certificate."""

    certificate: Path
    key: Path
    application_uri: str


def host_name() -> str:
    """The name of the machine, as it stands in the certificate."""
    return socket.gethostname() or "localhost"


def make(
    folder: Path, uri: str, *, key: rsa.RSAPrivateKey | None = None, since: datetime | None = None,
    lifetime: timedelta = LIFETIME,
) -> None:  # fmt: skip
    """Put a new certificate and its key into `folder`, both or neither; the folder must not be there, or be empty."""
    key = key or rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate = _self_signed(key, uri, since or datetime.now(UTC) - BACKDATED, lifetime)
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft, 0o700)
    write(draft / KEY, pem)
    write(draft / CERTIFICATE, certificate.public_bytes(serialization.Encoding.DER))
    # Peers are told to trust it: the one that they trust must outlive a power cut.
    draft.replace(folder)
    sync_folder(folder.parent)


def _self_signed(key: rsa.RSAPrivateKey, uri: str, since: datetime, lifetime: timedelta) -> x509.Certificate:
    host = host_name()
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
    builder = builder.not_valid_before(since).not_valid_after(since + lifetime)
    extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True).add_extension(extended, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


class Own:
    """`own/` in a connection's folder, and in it `next/`, the one that waits to be switched to."""

    def __init__(self, folder: Path, application_uri: str | None, name: str) -> None:
        """`name`: of the connection. Nothing is read or written yet."""
        self._folder = folder
        self._current = folder / "own"
        self._next = folder / "own" / "next"
        self._switching = folder / "own.switching"
        self._previous = folder / "own.previous"
        self.uri = application_uri or f"urn:{host_name()}:headrace:{name}"
        """What the certificate should name."""
        self._switch = f"headrace trust switch --connection '{name}'"

    @property
    def marks(self) -> tuple[Path, ...]:
        """The files of the current certificate."""
        return (self._current / CERTIFICATE, self._current / KEY)

    def use(self) -> Identity:
        """The current certificate, made now if there never was one. RefusedError when it cannot be used."""
        with self._locked():
            self._recover()
            if not (self._current / CERTIFICATE).exists() and not self._next.exists():
                self._first()
            problem = self._problem(self._current)
            if problem:
                self._prepare()
                message = f"our own certificate {problem}. {self._advice()}"
                raise RefusedError(message)
            # A peer holds the URI we say against the one in the certificate: they must agree, whatever is configured.
            uris, _ = certificates.alternative_names(self._read(self._current))
        return Identity(self._current / CERTIFICATE, self._current / KEY, uris[0] if uris else self.uri)

    def tend(self) -> tuple[str, ...]:
        """What the operator should know of the current certificate; the next one is prepared when it is time."""
        with self._locked():
            self._recover()
            reasons = self._reasons()
            if reasons:
                self._prepare()
        return tuple(f"our own certificate {reason}. {self._advice()}" for reason in reasons)

    def shown(self) -> tuple[OwnCertificate, ...]:
        """See `connectors.Trust.own`."""
        if not self._folder.exists():
            return ()
        with self._locked():
            self._recover()
            found = [(self._current, "current"), (self._next, "next")]
            return tuple(
                OwnCertificate(
                    certificates.described(self._read(folder)),
                    "current" if use == "current" else "next",
                    str(folder / CERTIFICATE),
                )
                for folder, use in found
                if (folder / CERTIFICATE).is_file()
            )

    def switch(self) -> OwnCertificate:
        """See `connectors.Trust`. The files are moved, never copied: they keep their owner, and no key lies about."""
        with self._locked():
            self._recover()
            problem = self._problem(self._next) if self._next.exists() else "is not prepared"
            if problem:
                message = f"the next certificate {problem}: there is nothing to switch to"
                raise RefusedError(message)
            shutil.rmtree(self._previous, ignore_errors=True)
            # Each is on the disk before the next: what is found after a power cut is one of them (`_recover`).
            for source, target in (
                (self._next, self._switching), (self._current, self._previous), (self._switching, self._current),
            ):  # fmt: skip
                source.rename(target)
                sync_folder(source.parent)
                sync_folder(target.parent)
            certificate = certificates.described(self._read(self._current))
        return OwnCertificate(certificate, "current", str(self._current / CERTIFICATE))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """A command and the gateway must not move the same files at once."""
        make_folder(self._folder)
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _recover(self) -> None:
        """A switch that was cut off goes on if the old certificate was already away, else it is undone."""
        if not self._switching.exists():
            return
        if self._current.exists():
            shutil.rmtree(self._next, ignore_errors=True)
            self._switching.rename(self._next)
            sync_folder(self._current)
        else:
            self._switching.rename(self._current)
        sync_folder(self._folder)

    def _first(self) -> None:
        key = self._current / KEY
        if key.exists():
            # Interrupted before the certificate was made: nobody has seen it, so nobody has trusted it.
            key.unlink()
        make(self._current, self.uri)

    def _problem(self, folder: Path) -> str:
        """Why this certificate cannot be used, or empty."""
        try:
            certificate = self._read(folder)
            key = serialization.load_pem_private_key((folder / KEY).read_bytes(), password=None)
        except RefusedError as error:
            return f"cannot be used: {error}"
        except (OSError, ValueError, TypeError) as error:
            return f"cannot be used, because its key cannot be read: {error}"
        if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
            return f"cannot be used, because {folder / KEY} is not its key"
        span = certificates.out_of_date(certificate)
        return f"is valid from {span} only" if span else ""

    def _reasons(self) -> list[str]:
        """Why another certificate will be needed."""
        certificate, found = self._read(self._current), []
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        if left < WARN:
            found.append(f"ends on {certificate.not_valid_after_utc:%Y-%m-%d}, in {max(left.days, 0)} days")
        uris, hosts = certificates.alternative_names(certificate)
        if self.uri not in uris:
            found.append(f"names {uris[0] if uris else 'no application URI'}, and {self.uri} is configured")
        if host_name() not in hosts:
            found.append(f"names the host {hosts[0] if hosts else '-'}, and this machine is called {host_name()}")
        return found

    def _prepare(self) -> None:
        """Have a next certificate that will do; one that still does stays, because peers may trust it already."""
        if self._next.exists():
            if not self._problem(self._next) and self._fits(self._read(self._next)):
                return
            shutil.rmtree(self._next)
        make_folder(self._current, 0o700)
        make(self._next, self.uri)

    def _fits(self, certificate: x509.Certificate) -> bool:
        uris, hosts = certificates.alternative_names(certificate)
        lasts = certificate.not_valid_after_utc - datetime.now(UTC) >= WARN
        return lasts and self.uri in uris and host_name() in hosts

    def _advice(self) -> str:
        return f"The next one is {self._next / CERTIFICATE}: let the peers trust it, then {self._switch}"

    def _read(self, folder: Path) -> x509.Certificate:
        return certificates.of_file(folder / CERTIFICATE)[0]
