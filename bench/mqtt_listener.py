"""A consumer of predictions: subscribes at QoS 1 and notes when each one arrived.

`python -m bench.mqtt_listener --host H --port P --user U --password-file F --topic T --out FILE` prints `ready` once it
is subscribed, and `N` (messages so far) for every line on standard input; at the end of input it writes FILE, msgpack:
a list of (arrival ns, topic, body).
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def listen(given: argparse.Namespace) -> list[tuple[int, str, bytes]]:
    """What arrived until standard input ended."""
    arrived: list[tuple[int, str, bytes]] = []
    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-listener")
    client.username_pw_set(given.user, Path(given.password_file).read_text().strip())
    client.on_connect = lambda client, *_: client.subscribe(given.topic, qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _user, message: arrived.append(
        (time.time_ns(), message.topic, bytes(message.payload))
    )
    client.connect(given.host, given.port)
    client.loop_start()
    if not subscribed.wait(10):
        message = "the broker did not take the subscription"
        raise TimeoutError(message)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(len(arrived), flush=True)
    client.disconnect()
    client.loop_stop()
    return arrived


def main() -> None:
    """Listen, then write down what came."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "user", "password-file", "topic"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.write_bytes(msgspec.msgpack.encode(listen(given)))


if __name__ == "__main__":
    main()
