"""A Mosquitto that takes TLS connections only, with certificates made for one test."""

from __future__ import annotations

import asyncio
import getpass
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.launcher.ports import Port
from tests.waiting import wait_for


@dataclass(frozen=True)
class TlsBroker:
    """Where it listens, whom to trust, and what a client shows."""

    port: int
    ca: Path
    certificate: Path
    key: Path


@asynccontextmanager
async def tls_broker(program: str, folder: Path) -> AsyncIterator[TlsBroker]:
    """A broker that asks clients for a certificate of the same authority, for as long as this context."""
    authority = _write(folder, "ca", None)
    _write(folder, "server", authority)
    _write(folder, "client", authority)
    with Port() as held:
        lines = (
            f"listener {held.number} 127.0.0.1",
            f"cafile {folder}/ca.pem",
            f"certfile {folder}/server.pem",
            f"keyfile {folder}/server.key",
            "require_certificate true",
            "allow_anonymous true",
            f"user {getpass.getuser()}",
            "log_dest none",
        )
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        process = await asyncio.create_subprocess_exec(program, "-c", str(folder / "mosquitto.conf"))
        try:
            await wait_for(lambda: _listens(held.number), what="the TLS broker listens")
            yield TlsBroker(held.number, folder / "ca.pem", folder / "client.pem", folder / "client.key")
        finally:
            process.terminate()
            await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def _write(
    folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer[0].subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(alternative, critical=False).sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key
