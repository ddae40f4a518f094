"""A device that publishes JSON at QoS 1 at a fixed rate.

`python -m bench.mqtt_publisher --host H --port P --user U --password-file F --topics N --rate R --for S` prints
`ready`, waits for a line on standard input, publishes, and prints one JSON line when the broker has taken everything:
how many, and the sum of their values. With `--text` each message has a text of so many bytes, another in each.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

BEAT_S: Final = 0.01
IN_FLIGHT: Final = 1000
MOST_UNTAKEN: Final = 20_000
"""More are not begun while the broker has not taken these: the library has room for no more than 65,535."""


class Client(mqtt.Client):
    """Counts what the broker has taken."""

    taken = 0


def publish(client: Client, topics: int, rate: float, seconds: float, text: int = 0) -> tuple[int, int]:
    """So many a second on topics in turn; returns how many, and the sum of their values."""
    start, sent, total = time.monotonic(), 0, 0
    last = None
    while (now := time.monotonic() - start) < seconds:
        due = min(int(now * rate), client.taken + MOST_UNTAKEN)
        for number in range(sent, due):
            said = f',"s":"{number:0{text}}"' if text else ""
            body = f'{{"t":{time.time_ns()},"v":{number % 1000},"unit":"mm","ok":true{said}}}'
            last = client.publish(f"bench/m{number % topics}", body, qos=1)
            total += number % 1000
        sent = max(sent, due)
        time.sleep(BEAT_S)
    if last is not None:
        last.wait_for_publish(30)
    return sent, total


def main() -> None:
    """Connect, wait, publish, report, wait for the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "user", "password-file"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "topics"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--for", type=float, required=True, dest="seconds")
    parser.add_argument("--text", type=int, default=0)
    given = parser.parse_args()
    connected = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, client_id="bench-publisher")
    client.username_pw_set(given.user, Path(given.password_file).read_text().strip())
    client.max_inflight_messages_set(IN_FLIGHT)
    client.on_connect = lambda *_: connected.set()

    def published(*_: object) -> None:
        client.taken += 1

    client.on_publish = published
    client.connect(given.host, given.port)
    client.loop_start()
    if not connected.wait(10):
        message = "the broker does not answer"
        raise TimeoutError(message)
    print("ready", flush=True)
    sys.stdin.readline()
    sent, total = publish(client, given.topics, given.rate, given.seconds, given.text)
    print(json.dumps({"sent": sent, "total": total}), flush=True)
    sys.stdin.read()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
