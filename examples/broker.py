"""Publishing from an example plant: JSON on MQTT, QoS 1, kept and sent again until the broker has it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt

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
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        if broker.user is not None:
            self._client.username_pw_set(broker.user, broker.password)
        self._client.max_queued_messages_set(MAX_QUEUED)
        self._client.reconnect_delay_set(min_delay=1, max_delay=4)
        self._client.connect_async(broker.host, broker.port, keepalive=KEEPALIVE_S)
        self._client.loop_start()
        self._last: mqtt.MQTTMessageInfo | None = None

    def send(self, topic: str, message: Mapping[str, object], *, retain: bool = False) -> None:
        """Publish a JSON object. Returns at once."""
        self._last = self._client.publish(topic, json.dumps(message), qos=1, retain=retain)

    async def close(self, wait_s: float = 2.0) -> None:
        """Give the broker a moment to take what is still on its way, then disconnect."""
        if self._last is not None and self._client.is_connected():
            await asyncio.to_thread(self._last.wait_for_publish, wait_s)
        self._client.disconnect()
        self._client.loop_stop()


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
