"""The plant's analysers on MQTT: one JSON message per analysis, QoS 1, kept and sent again until the broker has it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as mqtt

from examples.ownlog import OwnLog
from examples.tep.tags import Analyser

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC: Final = "plant/tep/analyser"
MAX_QUEUED: Final = 100_000
"""Messages kept while the broker is away: more than a day of analyses at the usual speed."""
WORDS: Final = ("Good", "Uncertain", "Bad")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the MQTT broker is, and who we are to it."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None


def publisher(broker: Broker, client_id: str) -> mqtt.Client:
    """A client with a session of its own that connects, and connects again, from its own thread.

    What is published while the broker is away is queued, at most `MAX_QUEUED` messages.
    """
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    client.max_queued_messages_set(MAX_QUEUED)
    client.reconnect_delay_set(min_delay=1, max_delay=4)
    client.connect_async(broker.host, broker.port, keepalive=15)
    client.loop_start()
    return client


async def close(client: mqtt.Client, last: mqtt.MQTTMessageInfo | None, wait_s: float = 2.0) -> None:
    """Give the broker a moment to take what is still on its way, then disconnect."""
    if last is not None and client.is_connected():
        await asyncio.to_thread(last.wait_for_publish, wait_s)
    client.disconnect()
    client.loop_stop()


class AnalyserPublisher:
    """Publishes analyses under `plant/tep/analyser/NAME`."""

    def __init__(self, broker: Broker, log: OwnLog) -> None:
        """Starts to connect at once; the broker may come later."""
        self._client = publisher(broker, "tep-analysers")
        self._log = log
        self._sequence: dict[str, int] = {}
        self._last: mqtt.MQTTMessageInfo | None = None

    def publish(self, analyser: Analyser, values: Sequence[float], status: int, time_ns: int) -> None:
        """Publish one analysis, in mol %; a Bad one carries null for every component."""
        bad = status >> 30 == len(WORDS) - 1
        shown = {tag.name: None if bad else float(v) for tag, v in zip(analyser.tags, values, strict=True)}
        number = self._sequence[analyser.name] = self._sequence.get(analyser.name, 0) + 1
        message = {
            "t": time_ns // 1_000_000,
            "analyser": analyser.name,
            "seq": number,
            "unit": "mol %",
            "quality": WORDS[status >> 30],
            "status": status,
            "values": shown,
        }
        self._last = self._client.publish(f"{TOPIC}/{analyser.name}", json.dumps(message), qos=1)
        for name, value in shown.items():
            self._log.write(name, time_ns, value, status)

    async def close(self) -> None:
        """Hand over what is on its way, then disconnect."""
        await close(self._client, self._last)
