"""Security for real: the configured policy or none at all, trust by file only, passwords never in the clear."""

from __future__ import annotations

import shutil
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from connectors import ConnectionConfig, RefusedError, TagBinding
from connectors.opcua import security
from connectors.opcua.options import Options, SinkOptions
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import PASSWORD, URI, Plant, opcua_plant

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def open_plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """A server that offers no security at all."""
    async with opcua_plant(tmp_path_factory.mktemp("open"), [ua.SecurityPolicyType.NoSecurity]) as running:
        yield running


def source(url: str, data_dir: str, **options: object) -> OpcUaSource:
    """A source of one tag, secured with the defaults unless told otherwise."""
    tags = (TagBinding(1, f"nsu={URI};s=Level"),)
    return OpcUaSource(ConnectionConfig("plant", {"url": url, "timeout_s": 3, **options}, tags, 1, data_dir))


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_secured(plant: Plant, data_dir: str, mode: str) -> None:
    """With the server's certificate trusted, readings flow signed, or signed and encrypted, with user and password."""
    secured = source(
        plant.url,
        data_dir,
        mode=mode,
        username="operator",
        password=PASSWORD,
        trusted_certificates=[plant.certificate],
    )
    await secured.connect()
    assert len(await secured.read()) == 1
    await secured.close()


async def test_wrong_password_secured(plant: Plant, data_dir: str) -> None:
    """A wrong password on a secured channel is refused as well."""
    secured = source(
        plant.url, data_dir, username="operator", password="wro" + "ng", trusted_certificates=[plant.certificate]
    )
    with pytest.raises(RefusedError, match="UserAccessDenied"):
        await secured.connect()


async def test_untrusted_server(plant: Plant, data_dir: str) -> None:
    """A server nobody has trusted is refused; its certificate lies where the operator can copy it from."""
    first = source(plant.url, data_dir)
    with pytest.raises(RefusedError, match="not trusted"):
        await first.connect()
    (rejected,) = (Path(data_dir) / "rejected").iterdir()
    assert rejected.read_bytes() == plant.certificate.read_bytes()
    shutil.copy(rejected, Path(data_dir) / "trusted")
    await first.connect()
    assert len(await first.read()) == 1
    await first.close()


async def test_server_without_security(open_plant: Plant, data_dir: str) -> None:
    """A server that offers no security is refused, not connected to with less than configured."""
    secured = source(open_plant.url, data_dir, trusted_certificates=[open_plant.certificate])
    with pytest.raises(RefusedError, match="does not offer Basic256Sha256/SignAndEncrypt, only None"):
        await secured.connect()
    assert not open_plant.subscriptions()


async def test_other_policy(plant: Plant, data_dir: str) -> None:
    """A policy the server does not offer is not replaced by one that it does."""
    with pytest.raises(RefusedError, match="does not offer Aes256Sha256RsaPss"):
        await source(
            plant.url, data_dir, security="Aes256Sha256RsaPss", trusted_certificates=[plant.certificate]
        ).connect()


async def test_password_in_the_clear(open_plant: Plant, data_dir: str) -> None:
    """A server that would take the password unencrypted does not get it."""
    naked = source(open_plant.url, data_dir, security="None", username="operator", password=PASSWORD)
    with pytest.raises(RefusedError, match="unencrypted"):
        await naked.connect()


async def test_password_encrypted_by_its_own_policy(plant: Plant, data_dir: str) -> None:
    """On an unsecured channel the password goes encrypted where the server has a policy for that."""
    half = source(plant.url, data_dir, security="None", username="operator", password=PASSWORD)
    await half.connect()
    assert len(await half.read()) == 1
    await half.close()


async def test_missing_trust_file(plant: Plant, data_dir: str, tmp_path: Path) -> None:
    """A trusted certificate that is not there, or is none, is named."""
    with pytest.raises(RefusedError, match=r"no certificate .*absent\.der"):
        await source(plant.url, data_dir, trusted_certificates=[tmp_path / "absent.der"]).connect()
    (tmp_path / "noise.der").write_bytes(b"noise")
    with pytest.raises(RefusedError, match=r"noise\.der is not a certificate"):
        await source(plant.url, data_dir, trusted_certificates=[tmp_path / "noise.der"]).connect()


async def test_own_certificate(tmp_path: Path) -> None:
    """Our certificate carries URI and host names, is made once, and its key is nobody else's to read."""
    first = security.identity(tmp_path, None, "line 1")
    certificate = x509.load_der_x509_certificate(first.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"urn:{security.host_name()}:headrace:line 1"]
    assert security.host_name() in names.get_values_for_type(x509.DNSName)
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    before = first.certificate.read_bytes()
    assert security.identity(tmp_path, None, "line 1").certificate.read_bytes() == before
    key = first.key.read_bytes()
    other = security.identity(tmp_path, "urn:other", "line 1")
    assert other.certificate.read_bytes() != before
    assert other.key.read_bytes() == key


def _issue(
    name: str, issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None, *, ca: bool, days: tuple[int, int] = (-1, 30)
) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer[0].subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(days=days[0])).not_valid_after(now + timedelta(days=days[1]))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


async def test_trust_through_an_authority(tmp_path: Path) -> None:
    """A trusted CA vouches for what it issued; a trusted certificate that is no CA vouches for itself alone."""
    authority = _issue("CA", None, ca=True)
    issued, _ = _issue("server", authority, ca=False)
    der = issued.public_bytes(Encoding.DER)
    assert security.check_peer(der, [authority[0]], tmp_path) == issued
    chain = der + authority[0].public_bytes(Encoding.DER)
    assert security.check_peer(chain, [issued], tmp_path) == issued
    leaf = _issue("leaf", None, ca=False)
    forged, _ = _issue("forged", leaf, ca=False)
    with pytest.raises(RefusedError, match="not trusted"):
        security.check_peer(forged.public_bytes(Encoding.DER), [leaf[0]], tmp_path)


@pytest.mark.parametrize("days", [(-30, -1), (1, 30)])
async def test_validity(tmp_path: Path, days: tuple[int, int]) -> None:
    """An expired certificate is refused even if it is trusted, and one that is not yet valid too."""
    old, _ = _issue("old", None, ca=False, days=days)
    with pytest.raises(RefusedError, match="is valid from"):
        security.check_peer(old.public_bytes(Encoding.DER), [old], tmp_path)


@pytest.mark.parametrize("der", [None, b"", b"noise"])
async def test_no_certificate(tmp_path: Path, der: bytes | None) -> None:
    """A peer without a readable certificate is refused."""
    with pytest.raises(RefusedError):
        security.check_peer(der, [], tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "opc.tcp://user:secret@host:4840"},
        {"url": "http://host:4840"},
        {"url": "opc.tcp://host"},
        {"username": "u"},
        {"password": "p"},
        {"security": "Basic128Rsa15"},
        {"mode": "None"},
        {"publishes_in_flight": 0},
    ],
)
async def test_options(wrong: dict[str, object]) -> None:
    """Credentials in an address, half of a login, deprecated policies and odd limits are refused when configured."""
    with pytest.raises(ValidationError):
        Options.model_validate({"url": "opc.tcp://host:4840", **wrong})


async def test_password_is_not_shown() -> None:
    """No representation of the options shows the password."""
    options = Options.model_validate({"url": "opc.tcp://host:4840", "username": "u", "password": "very-secret"})
    assert "very-secret" not in repr(options) + str(options.model_dump())


@pytest.mark.parametrize("wrong", [{}, {"anonymous": False, "username": "u"}, {"anonymous": True, "security": []}])
async def test_sink_options(wrong: dict[str, object]) -> None:
    """A server of ours that nobody may read, or without a policy, is refused."""
    with pytest.raises(ValidationError):
        SinkOptions.model_validate(wrong)
