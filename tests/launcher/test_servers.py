"""The servers that a box starts for itself."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import psycopg
import pytest
import redis
from paho.mqtt.enums import CallbackAPIVersion
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.launcher import servers
from app.launcher.probes import mqtt_answers, redis_answers
from app.launcher.programs import Places
from app.launcher.supervisor import Supervisor
from tests.waiting import wait_for, wait_until

ON_PATH = Places(wheels=False)
FROM_WHEELS = Places(path="/nonexistent", system=(), root=Path("/nonexistent"))
BOTH = pytest.mark.parametrize("places", [ON_PATH, FROM_WHEELS], ids=["path", "wheel"])


def needs(places: Places, *names: str) -> None:
    """A machine where the system's package was never installed can only try the wheel's server."""
    system = [*os.environ["PATH"].split(":"), *ON_PATH.system, *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    if places is ON_PATH and not any((Path(folder) / name).exists() for folder in system for name in names):
        pytest.skip(f"no {' or '.join(names)} is installed here")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that others may enter, as PostgreSQL's account must when we are root."""
    with tempfile.TemporaryDirectory(prefix="headrace-launcher-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _client(address: servers.Broker, client_id: str, password: str | None) -> tuple[mqtt.Client, list[str]]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
    answers: list[str] = []
    client.on_connect = lambda _c, _u, _f, reason, _p: answers.append(str(reason))
    client.on_disconnect = lambda _c, _u, _f, reason, _p: answers.append(f"gone: {reason}")
    client.username_pw_set(address.user, password)
    client.connect(address.host, address.port)
    client.loop_start()
    return client, answers


@BOTH
async def test_redis_takes_only_who_knows_the_password(places: Places, data_dir: Path) -> None:
    """Redis from PATH and Valkey from the wheel serve with the password and refuse without it."""
    needs(places, "redis-server", "valkey-server")
    async with servers.redis(data_dir, places=places) as url:
        with redis.Redis.from_url(url) as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        port = redis.Redis.from_url(url).connection_pool.connection_kwargs["port"]
        assert not await redis_answers(port, "wrong")()
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


@BOTH
async def test_the_broker_takes_only_who_knows_the_password(places: Places, data_dir: Path) -> None:
    """Mosquitto from PATH and the broker of the wheel accept the user, and nobody with another password or none."""
    needs(places, "mosquitto")
    async with servers.broker(data_dir, places=places) as address:
        assert await mqtt_answers(address.port, address.user, address.password)()
        for user, password in ((address.user, "wrong"), (None, None)):
            try:
                accepted = await mqtt_answers(address.port, user, password)()
            except (OSError, EOFError):
                accepted = False
            assert not accepted


@BOTH
async def test_a_large_message_passes(places: Places, data_dir: Path) -> None:
    """A message of 900 kB reaches its subscriber, also through the broker whose own limit is 20 kB."""
    needs(places, "mosquitto")
    async with servers.broker(data_dir, places=places) as address:
        client, answers = _client(address, "large", address.password)
        got: list[int] = []
        client.on_message = lambda _c, _u, message: got.append(len(message.payload))
        await wait_for(lambda: answers == ["Success"])
        client.subscribe("large", qos=1)
        client.publish("large", bytes(900_000), qos=1)
        await wait_for(lambda: got == [900_000])
        client.disconnect()
        client.loop_stop()


@BOTH
async def test_an_open_broker_is_open_only_when_asked(places: Places, data_dir: Path) -> None:
    """`anonymous=True` lets in whoever comes, and says so by having neither user nor password."""
    needs(places, "mosquitto")
    async with servers.broker(data_dir, places=places, anonymous=True) as address:
        assert (address.user, address.password) == (None, None)
        assert await mqtt_answers(address.port, None, None)()


@BOTH
async def test_postgres_keeps_what_it_was_given(places: Places, data_dir: Path) -> None:
    """A table written in one run is there in the next, under the same address."""
    needs(places, "postgres")
    async with servers.postgres(data_dir, places=places) as first:
        with psycopg.connect(first) as connection:
            connection.execute("CREATE TABLE t AS SELECT 42 AS answer")
    async with servers.postgres(data_dir, places=places) as second:
        with psycopg.connect(second) as connection:
            assert connection.execute("SELECT answer FROM t").fetchone() == (42,)
    assert first == second


async def test_a_configured_address_is_taken_as_it_is(data_dir: Path) -> None:
    """With an address nothing is started."""
    given = servers.Broker("plant.example", 8883)
    async with (
        servers.redis(data_dir, url="redis://a") as one,
        servers.postgres(data_dir, url="postgresql://b") as two,
        servers.broker(data_dir, given=given) as three,
    ):
        assert (one, two, three) == ("redis://a", "postgresql://b", given)
    assert list(data_dir.iterdir()) == []


async def test_a_killed_redis_comes_back_where_it_was(data_dir: Path) -> None:
    """After kill -9 the same address and password answer again within seconds."""
    server = servers.redis_server(data_dir)
    with server.port:
        async with Supervisor((server.process,), data_dir / "log") as supervisor:
            (before,) = supervisor.status()
            assert before.pid is not None
            os.kill(before.pid, signal.SIGKILL)
            await wait_for(lambda: supervisor.status()[0].restarts == 1 and supervisor.status()[0].state == "ready")
            with redis.Redis.from_url(server.address) as client:
                assert client.ping()


async def test_a_broker_is_found_again_after_a_restart(data_dir: Path) -> None:
    """Port, user and password of a data folder stay the same, so that a plant's devices need no new configuration."""
    async with servers.broker(data_dir) as first:
        pass
    async with servers.broker(data_dir) as second:
        assert second == first
        assert second.password == first.password


async def test_secrets_are_readable_by_their_owner_alone(data_dir: Path) -> None:
    """No file of a server is open to others, and no password stands in a command line."""
    async with servers.redis(data_dir) as url, servers.broker(data_dir) as address:
        for path in (p for folder in ("redis", "broker") for p in (data_dir / folder).rglob("*")):
            assert path.name == "port" or path.stat().st_mode & 0o077 == 0, path
        lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.parent.exists()]
        password = url.split("@")[0].rpartition(":")[2]
        assert not [line for line in lines if password.encode() in line or str(address.password).encode() in line]


async def test_many_start_at_once_without_a_clash(data_dir: Path) -> None:
    """Eight servers started together get eight ports."""

    async def port(number: int) -> int:
        async with servers.redis(data_dir / str(number)) as url:
            return int(url.rpartition(":")[2].split("/")[0])

    ports = await asyncio.gather(*(port(n) for n in range(8)))
    assert len(set(ports)) == len(ports)


def test_waiting_ends() -> None:
    """What never comes is a TimeoutError that says what was waited for."""
    with pytest.raises(TimeoutError, match="the sun"):
        wait_until(lambda: False, 0.05, "the sun at night")
