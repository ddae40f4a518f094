"""A client that takes what an MQTT device publishes: our connector, or a bare paho loop that only counts.

`python -m bench.mqtt_consumer --who ours|paho --host H --port P --user U --password-file F --topics N
[--journal FOLDER]` prints `ready` once subscribed at QoS 1 with a session that the broker keeps. A line on standard
input is answered with `CPU-SECONDS MESSAGES SUM` so far; the sum of the values is 0 for a loop that only counts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

import connectors
from app.journal import Journal
from app.records import to_record
from connectors import ConnectionConfig, TagBinding

COMMIT_S: Final = 0.005


async def ours(given: argparse.Namespace, password: str, folder: str) -> None:
    """The connector as the gateway runs it; with the journal behind it if a folder is given."""
    options = {
        "url": f"mqtt://{given.host}:{given.port}", "username": given.user, "password": password,
        "client_id": "bench-consumer",
    }  # fmt: skip
    of_tag = {"time": "/t", "time_format": "ns"}
    tags = tuple(TagBinding(n, f"bench/m{n}#/v", "float", of_tag) for n in range(given.topics))
    source = connectors.load("mqtt").source(ConnectionConfig("bench", options, tags, 1, folder))
    journal = None if given.journal is None else Journal(given.journal, "b", commit_interval_s=COMMIT_S, budget=2**34)
    counts = [0, 0.0]
    await source.connect()

    async def read() -> None:
        while True:
            batch = await source.read()
            if journal is not None:
                await journal.append(to_record(1, batch))
            await batch.ack()
            counts[0] += len(batch)
            counts[1] += float(batch.values.sum())

    reading = asyncio.create_task(read())
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), int(counts[0]), round(counts[1]), flush=True)
    reading.cancel()
    await asyncio.wait([reading])
    await source.close()
    if journal is not None:
        await asyncio.to_thread(journal.close)


def bare(given: argparse.Namespace, password: str) -> None:
    """The loop of paho itself, in its thread; it acknowledges by itself."""
    count = 0

    def taken(*_: object) -> None:
        nonlocal count
        count += 1

    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-consumer", clean_session=False)
    client.username_pw_set(given.user, password)
    client.on_connect = lambda client, *_: client.subscribe("bench/#", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = taken
    client.connect(given.host, given.port)
    client.loop_start()
    if not subscribed.wait(10):
        message = "the broker did not take the subscription"
        raise TimeoutError(message)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(time.process_time(), count, 0, flush=True)
    client.disconnect()
    client.loop_stop()


def main() -> None:
    """Take until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--who", choices=("ours", "paho"), required=True)
    for name in ("host", "user", "password-file"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "topics"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--journal", type=Path)
    given = parser.parse_args()
    password = Path(given.password_file).read_text().strip()
    if given.who == "paho":
        bare(given, password)
        return
    with tempfile.TemporaryDirectory(prefix="headrace-consumer-") as folder:
        asyncio.run(ours(given, password, folder))


if __name__ == "__main__":
    main()
