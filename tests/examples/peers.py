"""Peers for the example plants: a real broker, a listener on it, and the plants as processes of their own."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(examples.__file__).parents[1]
START_S = 60
STOP_S = 20


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


class Broker:
    """A mosquitto of our own that keeps its sessions on disk, so that it can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        """Writes the configuration; `start` starts it."""
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        lines = (
            f"listener {self.port} 127.0.0.1", "allow_anonymous true", "user root", "log_dest stderr",
            "persistence true", f"persistence_location {folder}/", "max_queued_messages 0",
        )
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it runs."""
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program is not None, "mosquitto is not installed"
        self._process = subprocess.Popen([program, "-c", str(self._config)], stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        wait_for_line(self._process.stderr.fileno(), b"running", START_S)

    def stop(self) -> None:
        """Stop, and return when it is gone."""
        if self._process is not None:
            assert self._process.stderr is not None
            self._process.terminate()
            self._process.wait(STOP_S)
            self._process.stderr.close()
            self._process = None


class Listener:
    """An MQTT client with a session of its own that keeps every message it is sent."""

    def __init__(self, port: int, topic: str) -> None:
        """Connects, subscribes at QoS 1, and returns when the broker has agreed."""
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._subscribed = threading.Event()
        self._topic = topic
        name = f"listener-{os.getpid()}"
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._arrived
        self._client.connect_async("127.0.0.1", port)
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
