"""A consumer of predictions over MQTT that notes the id of each one it is sent, a line each, in the file `heard`."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from examples.broker import broker_arguments, broker_of
from examples.lifetime import Lifetime

if TYPE_CHECKING:
    from typing import TextIO

FILE_NAME: Final = "heard"
KEEPALIVE_S: Final = 5
LOOK_S: Final = 3600.0


def listen(given: argparse.Namespace, file: TextIO) -> mqtt.Client:
    """A client with a session of its own that is told what was published while it was away."""
    broker = broker_of(given)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"consumer-{broker.port}", clean_session=False)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    client.reconnect_delay_set(min_delay=1, max_delay=1)

    def heard(_client: object, _userdata: object, message: mqtt.MQTTMessage) -> None:
        if "/prediction/" in message.topic:
            file.write(f"{json.loads(message.payload)['id']}\n")
            file.flush()

    def connected(*_: object) -> None:
        client.subscribe(given.topic, qos=1)

    client.on_connect = connected
    client.on_message = heard
    client.connect_async(broker.host, broker.port, keepalive=KEEPALIVE_S)
    client.loop_start()
    return client


async def run(given: argparse.Namespace) -> None:
    """Listen until the lifetime is over."""
    lifetime = Lifetime()
    given.log.mkdir(parents=True, exist_ok=True)
    with (given.log / FILE_NAME).open("a", encoding="utf-8") as file:
        client = listen(given, file)
        while not await lifetime.pause(LOOK_S):
            pass
        client.disconnect()
        client.loop_stop()


def main() -> None:
    """The command line's entry."""
    parser = argparse.ArgumentParser(prog="python -m examples.acceptance.listener", description=__doc__)
    broker_arguments(parser)
    parser.add_argument("--topic", default="headrace/#", help="what to listen to")
    parser.add_argument("--log", type=Path, required=True, help="folder for the file")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
