"""A device that publishes numbers over MQTT at QoS 1 and notes what the broker has confirmed.

Three logs: `offered` holds all that was handed to the client library, `taken` what the broker has acknowledged, and
`again` what was under way when a connection ended: at QoS 1 that may reach the broker twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from examples.broker import Broker, broker_arguments, broker_of
from examples.lifetime import Lifetime
from examples.ownlog import OwnLog, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC: Final = "acceptance"
OFFERED, TAKEN, AGAIN = "offered", "taken", "again"
KEEPALIVE_S: Final = 5
MOST_WAITING: Final = 50_000
LAST_S: Final = 5.0
"""How long the broker may take to confirm the last messages."""

Sent = tuple[str, int, float]
"""Tag, source time in ns, value."""


class Notes:
    """The three logs, written from the library's thread and from ours."""

    def __init__(self, folder: Path) -> None:
        """Opens them. Raises OSError."""
        self._logs = {name: OwnLog(folder / name) for name in (OFFERED, TAKEN, AGAIN)}
        self._lock = threading.Lock()

    def write(self, name: str, readings: Sequence[Sent]) -> None:
        """So that a reader sees it even if we are killed."""
        with self._lock:
            for tag, time, value in readings:
                self._logs[name].write(tag, time, value, 0)
            self._logs[name].flush()

    def close(self) -> None:
        """Close them."""
        for log in self._logs.values():
            log.close()


class Device:
    """Publishes, and sends again what was not confirmed."""

    def __init__(self, broker: Broker, notes: Notes, client_id: str) -> None:
        """Starts to connect at once; the broker may come later."""
        self._notes = notes
        self._under_way: dict[int, Sent] = {}
        self._early: set[int] = set()
        """Confirmed before we were told their number."""
        self._changed = threading.Condition()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        if broker.user is not None:
            self._client.username_pw_set(broker.user, broker.password)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_publish = self._confirmed
        self._client.on_disconnect = self._ended
        self._client.connect_async(broker.host, broker.port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def send(self, readings: Sequence[Sent]) -> None:
        """A message for each; nothing while too many wait."""
        if len(self._under_way) > MOST_WAITING:
            return
        self._notes.write(OFFERED, readings)
        for one in readings:
            tag, time, value = one
            body = json.dumps({"t": time // 1_000_000, "v": value})
            # Without our lock: the library holds its own while it calls us.
            self._sent(self._client.publish(f"{TOPIC}/{tag}", body, qos=1).mid, one)

    def _sent(self, mid: int, one: Sent) -> None:
        with self._changed:
            if mid not in self._early:
                self._under_way[mid] = one
                return
            self._early.remove(mid)
            self._notes.write(TAKEN, [one])

    def _confirmed(self, _client: object, _userdata: object, mid: int, *_: object) -> None:
        with self._changed:
            one = self._under_way.pop(mid, None)
            if one is None:
                self._early.add(mid)
            else:
                self._notes.write(TAKEN, [one])
            self._changed.notify_all()

    def _ended(self, *_: object) -> None:
        with self._changed:
            self._notes.write(AGAIN, list(self._under_way.values()))

    async def close(self) -> None:
        """Let the broker confirm what is under way, then disconnect."""
        await asyncio.to_thread(self._wait)
        self._client.disconnect()
        self._client.loop_stop()
        self._notes.close()

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, LAST_S)


async def run(given: argparse.Namespace) -> None:
    """Each tag gets one more than before, at a steady pace, until the lifetime is over."""
    lifetime = Lifetime()
    device = Device(broker_of(given), Notes(given.log), f"acceptance-{given.mqtt_port}")
    loop = asyncio.get_running_loop()
    due, number = loop.time(), 0.0
    while not await lifetime.pause(due - loop.time()):
        due, number = max(due + 1 / given.hz, loop.time()), number + 1
        now = stamp()
        device.send([(f"d{index}", now, number) for index in range(given.tags)])
    await device.close()


def main() -> None:
    """The command line's entry."""
    parser = argparse.ArgumentParser(prog="python -m examples.acceptance.device", description=__doc__)
    broker_arguments(parser)
    parser.add_argument("--log", type=Path, required=True, help="folder for its logs")
    parser.add_argument("--tags", type=int, default=5, help="how many tags")
    parser.add_argument("--hz", type=float, default=10, help="messages a second and tag")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
