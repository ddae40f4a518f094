"""Every policy in every mode and every way to log in, against servers of two makes; wrong ones are refused."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from connectors import ConnectionConfig, NotConnectedError, RefusedError, TagBinding
from connectors.opcua.own import Own
from connectors.opcua.security import POLICIES
from connectors.opcua.source import OpcUaSource
from tests.connectors import opcua_plant
from tests.connectors.opcua_certificates import Issued, issue
from tests.connectors.opcua_open62541 import Other, open62541
from tests.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAYS = [(policy, mode) for policy in POLICIES for mode in ("Sign", "SignAndEncrypt")]
GOOD = {"username": "operator", "password": opcua_plant.PASSWORD}
needs_o6 = pytest.mark.skipif(importlib.util.find_spec("o6") is None, reason="needs the package o6 (make bench)")


@dataclass(frozen=True)
class Users:
    """A user whom the servers know, and one whom they do not."""

    known: tuple[Path, Path]
    unknown: tuple[Path, Path]
    der: bytes


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Users:
    """Both with certificate and key."""
    folder = tmp_path_factory.mktemp("users")
    known: Issued = issue("engineer")
    return Users(known.files(folder), issue("stranger").files(folder), known.der)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our folder, with a certificate that the servers can be told of before we connect."""
    folder = tmp_path_factory.mktemp("client")
    Own(folder, None, "plant").use()
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict(tmp_path_factory: pytest.TempPathFactory, users: Users) -> AsyncIterator[opcua_plant.Plant]:
    """An asyncua server with every endpoint that lets in one user by password and one by certificate, nobody else."""
    policies = [ua.SecurityPolicyType.NoSecurity]
    policies += [ua.SecurityPolicyType[f"{policy}_{mode}"] for policy, mode in WAYS]
    tokens = (ua.UserNameIdentityToken, ua.X509IdentityToken)
    folder = tmp_path_factory.mktemp("strict")
    async with opcua_plant.opcua_plant(folder, policies, opcua_plant.Users({users.der}), tokens) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other(tmp_path_factory: pytest.TempPathFactory, users: Users, client: Path) -> AsyncIterator[Other]:
    """An open62541 server that trusts us and knows the same users; it lets anonymous ones in too."""
    folder = tmp_path_factory.mktemp("open62541")
    for name, file in (("clients", client / "own" / "certificate.der"), ("users", users.known[0])):
        (folder / name).mkdir()
        shutil.copy(file, folder / name / file.name)
    async with open62541(folder) as running:
        yield running


def source(server: opcua_plant.Plant | Other, folder: Path, address: str = "", **options: Any) -> OpcUaSource:  # noqa: ANN401
    """A source of one tag of this server, which it trusts."""
    given = {"url": server.url, "timeout_s": 5, "trusted_certificates": [server.certificate], **options}
    tags = (TagBinding(1, address or f"nsu={opcua_plant.URI};s=Level"),)
    return OpcUaSource(ConnectionConfig("plant", given, tags, 1, str(folder)))


async def value(wanted: OpcUaSource) -> float:
    """The first value it reads."""
    await wanted.connect()
    try:
        batch = await wanted.read()
        while not len(batch):
            batch = await wanted.read()
        assert batch.status.tolist() == [0]
        return float(batch.values[0])
    finally:
        await wanted.close()


def by_certificate(files: tuple[Path, Path]) -> dict[str, Any]:
    """Options to log in with these."""
    return {"user_certificate_file": files[0], "user_key_file": files[1]}


@pytest.mark.parametrize("login", ["password", "certificate"])
@pytest.mark.parametrize(("policy", "mode"), WAYS)
async def test_asyncua(
    strict: opcua_plant.Plant, users: Users, client: Path, *, policy: str, mode: str, login: str
) -> None:
    """A reading comes through, and the server's end of the channel has the policy and the mode that were asked for."""
    how = GOOD if login == "password" else by_certificate(users.known)
    wanted = source(strict, client, security=policy, mode=mode, resume=False, **how)
    await wanted.connect()
    try:
        (channel,) = (one.security_policy for one in strict.channels() if one.security_policy.peer_certificate)
        assert (channel.URI, channel.Mode.name) == (POLICIES[policy].URI, mode)
        assert channel.peer_certificate == (client / "own" / "certificate.der").read_bytes()
        assert (await wanted.read()).values.tolist() == [1.0]
    finally:
        await wanted.close()


@needs_o6
@pytest.mark.parametrize("login", ["anonymous", "password", "certificate"])
@pytest.mark.parametrize(("policy", "mode"), WAYS)
async def test_open62541(other: Other, users: Users, client: Path, policy: str, mode: str, login: str) -> None:
    """The same against the other make, which checks every signature itself."""
    how: dict[str, Any] = {"anonymous": {}, "password": GOOD, "certificate": by_certificate(users.known)}[login]
    wanted = source(other, client, "ns=1;s=Level", security=policy, mode=mode, resume=False, **how)
    assert await value(wanted) == 1.5


@needs_o6
async def test_open62541_unsecured(other: Other, tmp_path: Path) -> None:
    """Without security only when it is asked for, and then without a certificate of ours."""
    assert await value(source(other, tmp_path, "ns=1;s=Level", security="None", resume=False)) == 1.5
    assert not (tmp_path / "own").exists()


@needs_o6
async def test_a_server_that_does_not_trust_us(other: Other, tmp_path: Path) -> None:
    """The engineer is told where to accept what; it is not an outage, and it is looked at again by and by."""
    wanted = source(other, tmp_path, "ns=1;s=Level")
    with pytest.raises(RefusedError, match="does not trust our certificate: accept it there, `headrace trust own`"):
        await wanted.connect()
    assert not wanted.mended()


@needs_o6
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_open62541_refuses(other: Other, users: Users, client: Path, mode: str) -> None:
    """A wrong password, an unknown user, a certificate nobody knows: each is refused with what to do."""
    wrong = (
        ({"username": "operator", "password": "wrong"}, "UserAccessDenied"),
        ({"username": "nobody", "password": opcua_plant.PASSWORD}, "UserAccessDenied"),
        (by_certificate(users.unknown), "UserAccessDenied|IdentityToken"),
    )
    for how, said in wrong:
        wanted = source(other, client, "ns=1;s=Level", mode=mode, **how)
        with pytest.raises(RefusedError, match=said):
            await wanted.connect()
        assert not wanted.mended()


async def test_asyncua_refuses(strict: opcua_plant.Plant, users: Users, client: Path) -> None:
    """The same of the first make; and whoever comes without a user is told which ones it takes."""
    for how in ({**GOOD, "password": "wrong"}, by_certificate(users.unknown)):
        with pytest.raises(RefusedError, match="UserAccessDenied: it does not let this user in"):
            await source(strict, client, **how).connect()
    with pytest.raises(RefusedError, match="nobody log in as anonymous, only as certificate, username"):
        await source(strict, client).connect()


async def test_a_way_to_log_in_that_is_not_offered(plant: opcua_plant.Plant, users: Users, client: Path) -> None:
    """A user certificate for a server that wants passwords is a sentence, not a code."""
    with pytest.raises(RefusedError, match="nobody log in as certificate, only as anonymous, username"):
        await source(plant, client, **by_certificate(users.known)).connect()


async def test_a_user_certificate_proves_something_without_security_too(
    strict: opcua_plant.Plant, users: Users, tmp_path: Path
) -> None:
    """On an unsecured channel it is signed with a policy of its own, for a server that is trusted."""
    wanted = source(strict, tmp_path, security="None", resume=False, **by_certificate(users.known))
    assert await value(wanted) == 1.0
    wary = source(strict, tmp_path, security="None", trusted_certificates=[], **by_certificate(users.known))
    with pytest.raises(RefusedError, match="not trusted"):
        await wary.connect()


async def test_a_user_certificate_that_cannot_be_used(strict: opcua_plant.Plant, users: Users, tmp_path: Path) -> None:
    """Another's key, an expired certificate, no file, no key: said before the server is asked."""
    (tmp_path / "noise.pem").write_bytes(b"noise")
    expired = issue("retired", days=(-30, -1)).files(tmp_path)
    for files, said in (
        ((users.known[0], users.unknown[1]), "is not the key of the user's certificate"),
        (expired, "user's certificate .* is valid from"),
        ((tmp_path / "absent.der", users.known[1]), "absent.der cannot be read: No such file"),
        ((users.known[0], tmp_path / "absent.pem"), "absent.pem cannot be read: No such file"),
        ((users.known[0], tmp_path / "noise.pem"), "noise.pem cannot be read: it is no PEM key"),
    ):
        with pytest.raises(RefusedError, match=said):
            await source(strict, tmp_path / "own", **by_certificate(files)).connect()


async def test_a_user_certificate_that_ends_soon_is_told(strict: opcua_plant.Plant, users: Users, client: Path) -> None:
    """The peer's and the user's certificates are looked at while the connection runs."""
    wanted = source(strict, client, resume=False, **by_certificate(users.known))
    await wanted.connect()
    notes = wanted.tend()
    await wanted.close()
    assert any("engineer.der ends on" in note for note in notes)


async def test_no_less_security_after_a_refusal(plant: opcua_plant.Plant, client: Path) -> None:
    """A server that drops the policy we were configured with gets no session, whatever else it offers."""
    for policy in ("Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"):
        with pytest.raises(RefusedError, match=f"does not offer {policy}/SignAndEncrypt, only Basic256Sha256/Sign"):
            await source(plant, client, security=policy).connect()
    await wait_for(lambda: not plant.channels())


async def test_the_log_holds_no_secret(
    strict: opcua_plant.Plant, client: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that is logged of failing log-ins at DEBUG, by us, the library and the server: no password, no key."""
    secret = "Sesame-4711"  # noqa: S105 - a wrong one
    key = (client / "own" / "key.pem").read_text().splitlines()[5]
    with caplog.at_level(logging.DEBUG):
        for how in ({"mode": "Sign"}, {"mode": "SignAndEncrypt"}, {"security": "None"}):
            wanted = source(strict, client, username="operator", password=secret, **how)
            with pytest.raises(RefusedError) as refused:
                await wanted.connect()
            shown = f"{refused.value!r} {refused.value.__cause__!r} {vars(wanted)!r}"
            assert secret not in shown
            assert key not in shown
    logged = "\n".join(f"{one.getMessage()} {vars(one)!r}" for one in caplog.records)
    assert "BadUserAccessDenied" in logged
    assert secret not in logged
    assert key not in logged


async def test_a_lost_server_is_no_refusal(client: Path, strict: opcua_plant.Plant) -> None:
    """Nobody there is an outage: the runner tries again."""
    with pytest.raises(NotConnectedError):
        await source(strict, client, url="opc.tcp://127.0.0.1:1").connect()
