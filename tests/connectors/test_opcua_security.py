"""Security for real: the configured policy or none at all, trust by file only, passwords never in the clear."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from pydantic import ValidationError

from connectors import ConnectionConfig, NotConnectedError, RefusedError, TagBinding
from connectors.opcua.border import LogInRefusedError
from connectors.opcua.endpoints import LOOK_AGAIN_S, Refused
from connectors.opcua.options import Options, SinkOptions
from connectors.opcua.own import make
from connectors.opcua.security import trust
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
    """A server nobody has trusted is refused; its certificate is pending, and let in when a person has accepted it."""
    first = source(plant.url, data_dir)
    with pytest.raises(RefusedError, match="not trusted"):
        await first.connect()
    keys = trust(ConnectionConfig("plant", {}, (), 1, data_dir))
    (pending,) = keys.peers()
    assert Path(pending.file).read_bytes() == plant.certificate.read_bytes()
    assert not first.mended()
    keys.decide(pending.certificate.fingerprint, "trusted")
    assert first.mended()
    await first.connect()
    assert len(await first.read()) == 1
    assert first.tend() == ()
    keys.decide(pending.certificate.fingerprint, "rejected")
    with pytest.raises(RefusedError, match="was rejected here"):
        first.tend()
    await first.close()
    with pytest.raises(RefusedError, match="was rejected here"):
        await first.connect()


async def test_switched_certificate(plant: Plant, data_dir: str) -> None:
    """A connection that runs when our certificate is switched asks to be made anew, and is made with the new one."""
    running = source(plant.url, data_dir, trusted_certificates=[plant.certificate])
    await running.connect()
    moved = source(plant.url, data_dir, trusted_certificates=[plant.certificate], application_uri="urn:moved")
    await moved.connect()
    assert "urn:moved is configured" in moved.tend()[0]
    await moved.close()
    used = trust(ConnectionConfig("plant", {}, (), 1, data_dir)).switch()
    with pytest.raises(NotConnectedError, match="switched"):
        running.tend()
    await running.connect()
    assert used.certificate.fingerprint in {
        hashlib.sha256(one.security_policy.peer_certificate or b"").hexdigest() for one in plant.channels()
    }
    await running.close()


async def test_expired_certificate_of_ours(plant: Plant, data_dir: str) -> None:
    """An expired one is refused before the server is asked, names the command, and is looked at again when switched."""
    make(Path(data_dir) / "own", "urn:ours", since=datetime.now(UTC) - timedelta(2), lifetime=timedelta(1))
    mine = source(plant.url, data_dir, trusted_certificates=[plant.certificate], application_uri="urn:ours")
    with pytest.raises(RefusedError, match="headrace trust switch --connection 'plant'"):
        await mine.connect()
    assert not mine.mended()
    trust(ConnectionConfig("plant", {}, (), 1, data_dir)).switch()
    assert mine.mended()
    await mine.connect()
    await mine.close()


async def test_when_another_try_is_worth_while() -> None:
    """A refused user waits for a change here; a peer that refused for another reason is looked at again by and by."""
    before, after = (("trusted/a.der", 1, 1),), (("trusted/a.der", 2, 1),)
    user, peer = (Refused(kind("no"), before, 100.0) for kind in (LogInRefusedError, RefusedError))
    assert [one.worth_a_try(before, 100.0 + LOOK_AGAIN_S - 1) for one in (user, peer)] == [False, False]
    assert [one.worth_a_try(before, 100.0 + LOOK_AGAIN_S) for one in (user, peer)] == [False, True]
    assert [one.worth_a_try(after, 100.0) for one in (user, peer)] == [True, True]


async def test_password_for_an_unknown_server(plant: Plant, data_dir: str) -> None:
    """On an unsecured channel a password is encrypted only for a server that is trusted."""
    half = source(plant.url, data_dir, security="None", username="operator", password=PASSWORD)
    with pytest.raises(RefusedError, match="not trusted"):
        await half.connect()


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
    half = source(
        plant.url,
        data_dir,
        security="None",
        username="operator",
        password=PASSWORD,
        trusted_certificates=[plant.certificate],
    )
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "opc.tcp://user:secret@host:4840"},
        {"url": "http://host:4840"},
        {"url": "opc.tcp://host"},
        {"username": "u"},
        {"password": "p"},
        {"user_certificate_file": "user.der"},
        {"user_key_file": "user.pem"},
        {"user_certificate_file": "u.der", "user_key_file": "u.pem", "username": "u", "password": "p"},
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
