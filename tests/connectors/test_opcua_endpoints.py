"""Several servers with the same nodes: tried in order, each once; what one refuses hides no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.crypto.permission_rules import User

from app.selftest.gate import Gate
from connectors import ConnectionConfig, NotConnectedError, RefusedError
from connectors.opcua.options import Options
from connectors.opcua.resume import FILE
from connectors.opcua.security import trust
from connectors.opcua.source import OpcUaSource
from tests.connectors.opcua_plant import PASSWORD, Plant, Users, opcua_plant
from tests.connectors.test_opcua_source import gather, tag, values

pytestmark = pytest.mark.asyncio(loop_scope="session")
SECURED = [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
IN_THE_CLEAR = [ua.SecurityPolicyType.NoSecurity]
NOBODY = "opc.tcp://127.0.0.1:1/tests"


@dataclass
class Counting(Users):
    """Remembers who asked to be let in."""

    names: list[str] = field(default_factory=list)

    def get_user(
        self, server: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        """See `Users`."""
        self.names += [username] if username is not None else []
        return super().get_user(server, username, password, certificate)


COUNTING = Counting()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def first(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """A server, secured or not as the client wants it."""
    async with opcua_plant(tmp_path_factory.mktemp("first"), [*IN_THE_CLEAR, *SECURED], COUNTING) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def second(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """Another one, with the same nodes."""
    async with opcua_plant(tmp_path_factory.mktemp("second"), [*IN_THE_CLEAR, *SECURED]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lax(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """One that knows no security."""
    async with opcua_plant(tmp_path_factory.mktemp("lax"), IN_THE_CLEAR) as running:
        yield running


def source(data_dir: str, url: str, *more: str, **options: object) -> OpcUaSource:
    """A source with these endpoints."""
    common = {"security": "None", "publishing_interval_ms": 20, "timeout_s": 2}
    given = {"url": url, "more_urls": more, **common, **options}
    return OpcUaSource(ConnectionConfig("plant", given, (tag(1, "Level"),), 1, data_dir))


async def lost(one: OpcUaSource) -> None:
    """Read until the connection is lost."""
    with pytest.raises(NotConnectedError):
        await gather(one, lambda _: False)


async def test_the_second_takes_over_and_the_first_returns(first: Plant, second: Plant, data_dir: str) -> None:
    """A server that is lost costs a gap that is told; the list begins from the top, and nobody goes back unasked."""
    gates = [Gate(plant.host, plant.port) for plant in (first, second)]
    for gate in gates:
        await gate.start()
    urls = [f"opc.tcp://127.0.0.1:{gate.port}/tests" for gate in gates]
    await first.write("Level", 1.0)
    await second.write("Level", 2.0)
    one = source(data_dir, *urls)
    await one.connect()
    assert values(await gather(one, lambda b: bool(values(b, 1))), 1) == [1.0]
    assert one.tend() == ()
    await gates[0].cut()
    await lost(one)
    await one.connect()
    batches = await gather(one, lambda b: bool(values(b, 1)))
    assert values(batches, 1) == [2.0]
    assert not batches[0].continues
    (note,) = one.tend()
    assert note.startswith(f"connected to {urls[1]}, since not to {urls[0]}: ")
    await gates[0].start()
    await second.write("Level", 3.0)
    assert values(await gather(one, lambda b: bool(values(b, 1))), 1) == [3.0]
    await gates[1].cut()
    await lost(one)
    await first.write("Level", 4.0)
    await one.connect()
    batches = await gather(one, lambda b: 4.0 in values(b, 1))
    assert not batches[0].continues, "the first has another subscription than the second"
    assert one.tend() == ()
    await one.close()
    await gates[0].cut()


async def test_what_is_kept_belongs_to_one_server(first: Plant, second: Plant, data_dir: str) -> None:
    """A session that was left at one server is taken up there, and nobody shows its token to another."""
    kept = source(data_dir, second.url, first.url)
    await kept.connect()
    await gather(kept, lambda b: bool(values(b, 1)))
    await kept.close()
    held = set(second.subscriptions())
    token = json.loads((Path(data_dir) / FILE).read_text())["token"]
    other = source(data_dir, first.url, second.url)
    await other.connect()
    first_of_it = await other.read()
    assert not first_of_it.continues
    await first_of_it.ack()
    assert json.loads((Path(data_dir) / FILE).read_text())["token"] != token or set(first.subscriptions())
    await other.close()
    again = source(data_dir, first.url)
    await again.connect()
    await first.write("Level", 21.0)
    assert all(b.continues for b in await gather(again, lambda b: 21.0 in values(b, 1)))
    assert set(second.subscriptions()) == held
    await again.close()


async def test_a_refusal_hides_no_other(first: Plant, second: Plant, lax: Plant, data_dir: str) -> None:
    """One that offers too little security is passed over, never taken with less; its reason stands in the status."""
    secured = {
        "security": "Basic256Sha256",
        "username": "operator",
        "password": PASSWORD,
        "trusted_certificates": [first.certificate],
    }
    one = source(data_dir, lax.url, second.url, first.url, **secured)
    await one.connect()
    await gather(one, lambda b: bool(values(b, 1)))
    notes = " ".join(one.tend())
    assert f"connected to {first.url}" in notes
    assert f"{lax.url}: the server does not offer Basic256Sha256/SignAndEncrypt" in notes
    assert "headrace trust accept" in notes, "the second's certificate waits for a person"
    assert PASSWORD not in notes
    (pending,) = [p for p in trust(ConnectionConfig("plant", {}, (), 1, data_dir)).peers() if p.state == "pending"]
    await one.close()
    trust(ConnectionConfig("plant", {}, (), 1, data_dir)).decide(pending.certificate.fingerprint, "trusted")
    await one.connect()
    assert f"connected to {second.url}" in " ".join(one.tend())
    await one.close()


async def test_all_refuse(lax: Plant, first: Plant, data_dir: str) -> None:
    """Then it is a refusal with the reason of each, which one of them may mend; beside one that is away, an outage."""
    both = source(data_dir, lax.url, first.url, security="Basic256Sha256")
    with pytest.raises(RefusedError) as refused:
        await both.connect()
    assert all(url in str(refused.value) for url in (lax.url, first.url))
    assert not both.mended()
    (pending,) = trust(ConnectionConfig("plant", {}, (), 1, data_dir)).peers()
    trust(ConnectionConfig("plant", {}, (), 1, data_dir)).decide(pending.certificate.fingerprint, "trusted")
    assert both.mended()
    await both.connect()
    await both.close()
    half = source(data_dir, lax.url, NOBODY, security="Basic256Sha256")
    with pytest.raises(NotConnectedError, match="does not offer"):
        await half.connect()


async def test_a_user_who_was_refused_is_not_tried_again_and_again(first: Plant, data_dir: str) -> None:
    """While another endpoint is away, tries follow each other; a wrong password is tried at one server once."""
    COUNTING.names.clear()
    wrong = {"username": "operator", "password": "wrong", "trusted_certificates": [first.certificate]}
    one = source(data_dir, first.url, NOBODY, security="Basic256Sha256", **wrong)
    for _ in range(3):
        with pytest.raises(NotConnectedError, match="does not let this user in"):
            await one.connect()
    assert COUNTING.names == ["operator"]


async def test_each_is_tried_once(data_dir: str) -> None:
    """One `connect` asks every endpoint once, in order, and waits for none: the runner does that."""
    seen: list[int] = []

    async def shut(number: int, writer: asyncio.StreamWriter) -> None:
        seen.append(number)
        writer.close()

    servers = [
        await asyncio.start_server(lambda _, writer, n=n: shut(n, writer), "127.0.0.1", 0)  # type: ignore[misc]
        for n in range(3)
    ]
    urls = [f"opc.tcp://127.0.0.1:{one.sockets[0].getsockname()[1]}/x" for one in servers]
    one = source(data_dir, *urls)
    with pytest.raises(NotConnectedError) as error:
        await one.connect()
    assert seen == [0, 1, 2]
    assert all(url in str(error.value) for url in urls)
    for server in servers:
        server.close()


async def test_wrong_lists() -> None:
    """An endpoint stands in the list once, and is an OPC UA address."""
    for more in (["opc.tcp://a:1"], ["opc.tcp://b:1", "opc.tcp://b:1"], ["http://b:1"]):
        with pytest.raises(ValueError, match="more_urls"):
            Options.model_validate({"url": "opc.tcp://a:1", "more_urls": more})
