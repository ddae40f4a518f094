"""The servers a box needs: Redis, an MQTT broker, PostgreSQL; found, configured, started, and ready when they answer.

`redis`, `broker` and `postgres` each run one server by itself; `redis_server`, `broker_server` and `postgres_server`
describe one for a supervisor that runs it beside other processes.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.launcher import files
from app.launcher.postgres import postgres_server
from app.launcher.probes import mqtt_answers, redis_answers
from app.launcher.process import Process
from app.launcher.programs import Places, broker_program, redis_program
from app.launcher.server import Server, running

HERE: Final = Places()
REDIS_MEMORY_MB: Final = 512
"""The gateway keeps at most its batches in flight there; when it is full Redis refuses, and the journal holds."""
MQTT_MAX_PACKET: Final = 1 << 20
MQTT_MAX_QUEUED: Final = 200_000
"""Messages kept for a client that is away, such as a gateway being restarted."""
MQTT_MAX_INFLIGHT: Final = 2000
"""The usual 20 to 100 make each acknowledgement a round trip: 1,000 messages/s instead of 6,000."""
MQTT_USER: Final = "headrace"
PASSWORD_ROUNDS: Final = 10_000
READY_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where an MQTT 3.1.1 broker listens and who may use it."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def redis_server(data_dir: Path, places: Places = HERE) -> Server[str]:
    """A private Redis or Valkey; its address is `redis://:PASSWORD@127.0.0.1:PORT/0`.

    It keeps nothing on disk. What is in it can be lost without loss: the gateway's journal sends again what is not
    known to be applied, and asks for the server's run id to notice. Writing it down would cost flash and start-up
    time, and bring back messages that are out of date.
    """
    program = redis_program(places)
    folder = files.private_folder(data_dir, "redis")
    password, port = secrets.token_hex(24), files.kept_port(folder, 0)
    lines = (
        "bind 127.0.0.1",
        f"port {port.number}",
        "protected-mode yes",
        f"requirepass {password}",
        "daemonize no",
        "dir ./",
        'save ""',
        "appendonly no",
        f"maxmemory {REDIS_MEMORY_MB}mb",
        "maxmemory-policy noeviction",
        "loglevel warning",
    )
    files.write_private(folder / "redis.conf", "\n".join(lines) + "\n")
    process = Process(
        "redis",
        (*program.command, "redis.conf"),
        ready=redis_answers(port.number, password),
        directory=folder,
        ready_within_s=READY_WITHIN_S,
    )
    return Server(process, f"redis://:{password}@127.0.0.1:{port.number}/0", port)


def broker_server(data_dir: Path, places: Places = HERE, *, anonymous: bool = False, port: int = 0) -> Server[Broker]:
    """A private MQTT broker on 127.0.0.1 with one user, whose random password stays the same in this folder.

    Mosquitto keeps sessions, queued and retained messages on disk; the broker of the wheel keeps them in memory.
    """
    program = broker_program(places)
    folder = files.private_folder(data_dir, "broker")
    held = files.kept_port(folder, port)
    password = files.kept_secret(folder / "password")
    address = Broker("127.0.0.1", held.number) if anonymous else Broker("127.0.0.1", held.number, MQTT_USER, password)
    configuration = BROKER_CONFIGURATIONS[program.kind](folder, address)
    process = Process(
        "broker",
        (*program.command, *configuration),
        ready=mqtt_answers(held.number, address.user, address.password),
        directory=folder,
        ready_within_s=READY_WITHIN_S,
    )
    return Server(process, address, held)


@asynccontextmanager
async def redis(data_dir: Path, *, url: str | None = None, places: Places = HERE) -> AsyncIterator[str]:
    """The address of a Redis: `url` if it is given, else one that runs as long as this context."""
    if url is not None:
        yield url
        return
    async with running(redis_server(data_dir, places), data_dir) as address:
        yield address


@asynccontextmanager
async def postgres(data_dir: Path, *, url: str | None = None, places: Places = HERE) -> AsyncIterator[str]:
    """The address of a PostgreSQL: `url` if it is given, else one that runs as long as this context."""
    if url is not None:
        yield url
        return
    async with running(await postgres_server(data_dir, places), data_dir) as address:
        yield address


@asynccontextmanager
async def broker(
    data_dir: Path, *, given: Broker | None = None, places: Places = HERE, anonymous: bool = False
) -> AsyncIterator[Broker]:
    """An MQTT broker: `given` if there is one, else one that runs as long as this context."""
    if given is not None:
        yield given
        return
    async with running(broker_server(data_dir, places, anonymous=anonymous), data_dir) as address:
        yield address


def _mosquitto(folder: Path, address: Broker) -> tuple[str, ...]:
    lines = [
        f"listener {address.port} {address.host}",
        f"allow_anonymous {'true' if address.user is None else 'false'}",
        # Started by root it would change to a user that cannot enter our folder.
        f"user {getpass.getuser()}",
        "persistence true",
        "persistence_location ./",
        "autosave_interval 30",
        "persistent_client_expiration 7d",
        f"max_queued_messages {MQTT_MAX_QUEUED}",
        f"max_inflight_messages {MQTT_MAX_INFLIGHT}",
        f"max_packet_size {MQTT_MAX_PACKET}",
        "set_tcp_nodelay true",
        "connection_messages false",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
    ]
    if address.user is not None and address.password is not None:
        files.write_private(folder / "users", _mosquitto_user(address.user, address.password))
        lines.append("password_file users")
    files.write_private(folder / "mosquitto.conf", "\n".join(lines) + "\n")
    return ("-c", "mosquitto.conf")


def _mosquitto_user(user: str, password: str) -> str:
    """One line of Mosquitto's password file, kind 7: PBKDF2 with HMAC-SHA-512 (mosquitto_passwd(1))."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PASSWORD_ROUNDS)
    return f"{user}:$7${PASSWORD_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def _rumqttd(folder: Path, address: Broker) -> tuple[str, ...]:
    """Its own defaults drop a client that publishes more than 20 KB; segments bound the memory a topic may take."""
    lines = [
        "id = 0",
        "[router]",
        "id = 0",
        "max_connections = 1000",
        f"max_outgoing_packet_count = {MQTT_MAX_INFLIGHT}",
        "max_segment_size = 8388608",
        "max_segment_count = 8",
        "[v4.1]",
        'name = "v4-1"',
        f'listen = "{address.host}:{address.port}"',
        "next_connection_delay_ms = 1",
        "[v4.1.connections]",
        "connection_timeout_ms = 60000",
        f"max_payload_size = {MQTT_MAX_PACKET}",
        f"max_inflight_count = {MQTT_MAX_INFLIGHT}",
        "dynamic_filters = true",
    ]
    if address.user is not None:
        lines += ["[v4.1.connections.auth]", f'{address.user} = "{address.password}"']
    files.write_private(folder / "broker.toml", "\n".join(lines) + "\n")
    return ("broker.toml",)


BROKER_CONFIGURATIONS: Final[dict[str, Callable[[Path, Broker], tuple[str, ...]]]] = {
    "mosquitto": _mosquitto,
    "rumqttd": _rumqttd,
}
