"""Publishing from an example plant: JSON on MQTT, QoS 1, kept and sent again until the broker has it."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

MAX_QUEUED: Final = 100_000
"""Messages kept while the broker is away."""
KEEPALIVE_S: Final = 15


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the MQTT broker is, and who we are to it."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)


class Publisher:
    """A client with a session of its own that connects, and connects again, from its own thread.

    What is sent while the broker is away waits, at most `MAX_QUEUED` messages; QoS 1 may bring a message twice.
    """

    def __init__(self, broker: Broker, client_id: str) -> None:
        """Starts to connect at once; the broker may come later."""
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        if broker.user is not None:
            self._client.username_pw_set(broker.user, broker.password)
        self._client.max_queued_messages_set(MAX_QUEUED)
        self._client.reconnect_delay_set(min_delay=1, max_delay=4)
        self._client.on_publish = self._taken
        self._waiting = 0
        self._all_taken = threading.Condition()
        self._client.connect_async(broker.host, broker.port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def send(self, topic: str, message: Mapping[str, object], *, retain: bool = False) -> bool:
        """Publish a JSON object. Returns at once: False if so many wait already that this one was not taken."""
        with self._all_taken:
            self._waiting += 1
        info = self._client.publish(topic, json.dumps(message), qos=1, retain=retain)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self._taken()
            return False
        return True

    def _taken(self, *_: object) -> None:
        """The broker has acknowledged one message."""
        with self._all_taken:
            self._waiting -= 1
            self._all_taken.notify_all()

    async def close(self, wait_s: float = 2.0) -> None:
        """Give the broker a moment to take what is still on its way, then disconnect."""
        if self._client.is_connected():
            await asyncio.to_thread(self._wait, wait_s)
        self._client.disconnect()
        self._client.loop_stop()

    def _wait(self, seconds: float) -> None:
        """Return when the broker has acknowledged everything, or after so many seconds."""
        with self._all_taken:
            self._all_taken.wait_for(lambda: self._waiting <= 0, seconds)


def broker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the broker is."""
    parser.add_argument("--mqtt-host", default="127.0.0.1", help="the broker's address")
    parser.add_argument("--mqtt-port", type=int, required=True, help="the broker's port")
    parser.add_argument("--mqtt-user", help="user name at the broker")
    parser.add_argument("--mqtt-password-file", type=Path, help="file that holds the password at the broker")


def broker_of(arguments: argparse.Namespace) -> Broker:
    """The broker these options name. Raises OSError if the password file cannot be read."""
    file = arguments.mqtt_password_file
    password = None if file is None else file.read_text(encoding="utf-8").strip()
    return Broker(arguments.mqtt_host, arguments.mqtt_port, arguments.mqtt_user, password)
