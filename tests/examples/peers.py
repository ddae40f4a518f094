"""Peers for the example plants: a listener on their broker, and the plants as processes of their own."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.launcher.servers import Broker

ROOT = Path(examples.__file__).parents[1]
START_S = 60
STOP_S = 20
RETRY_S = 0.1


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_line(stream: int, wanted: bytes, seconds: float) -> str:
    """Read from a pipe until a line holds the wanted words; AssertionError after so many seconds or at its end."""
    seen = b""
    while not any(wanted in line for line in seen.split(b"\n")[:-1]):
        ready, _, _ = select.select([stream], [], [], seconds)
        chunk = os.read(stream, 65536) if ready else b""
        assert chunk, f"no {wanted!r} in {seen!r}"
        seen += chunk
    return next(line for line in seen.split(b"\n") if wanted in line).decode()


class Listener:
    """An MQTT client with a session of its own that keeps every message it is sent."""

    def __init__(self, broker: Broker, topic: str) -> None:
        """Connects, subscribes at QoS 1, and returns when the broker has agreed."""
        # It is back at once after an outage, before any plant, so that it misses nothing.
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._subscribed = threading.Event()
        self._topic = topic
        name = f"listener-{uuid.uuid4().hex}"
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._arrived
        if broker.user is not None:
            self._client.username_pw_set(broker.user, broker.password)
        # paho waits any number of seconds, whatever its annotation says.
        self._client.reconnect_delay_set(RETRY_S, RETRY_S)  # type: ignore[arg-type]
        self._client.connect_async(broker.host, broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(START_S)

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(self._topic, qos=1)

    def _arrived(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.messages.put((message.topic, bytes(message.payload)))

    def next(self) -> tuple[str, bytes]:
        """The next message: topic and payload; queue.Empty when none comes for a while."""
        return self.messages.get(timeout=START_S)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(frozen=True)
class Running:
    """An example plant as a process."""

    process: subprocess.Popen[bytes]
    ready: str
    """What it said when it was ready, without the word itself."""
    log: Path

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_S)


@contextlib.contextmanager
def running(module: str, log: Path, *options: str) -> Iterator[Running]:
    """A plant that runs within the block."""
    command = [sys.executable, "-m", module, "--log", str(log), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            line = wait_for_line(process.stdout.fileno(), b"ready", START_S)
            yield Running(process, line.removeprefix("ready "), log)
        finally:
            process.kill()


def broker_options(broker: Broker, folder: Path) -> tuple[str, ...]:
    """The options that lead an example plant to this broker; its password goes into a file of the folder."""
    options = ("--mqtt-host", broker.host, "--mqtt-port", str(broker.port))
    if broker.user is None or broker.password is None:
        return options
    file = folder / "mqtt-password"
    file.write_text(broker.password, encoding="utf-8")
    return (*options, "--mqtt-user", broker.user, "--mqtt-password-file", str(file))
