"""A Sparkplug edge node with N metrics that is born again and again, so that a host need not ask it.

`python -m bench.sparkplug_node --host H --port P --user U --password-file F --metrics N` prints `ready` and serves
until its standard input ends. Its group is `bench`, its id `edge`, its metrics are `T0` and so on.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import Final

from app.launcher.servers import Broker
from tests.connectors.sparkplug_edge import DOUBLE, Edge

BEAT_S: Final = 0.02


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("host", "user", "password-file"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "metrics"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    broker = Broker(given.host, given.port, given.user, Path(given.password_file).read_text())
    edge = Edge(broker, "bench", metrics={f"T{number}": (DOUBLE, float(number)) for number in range(given.metrics)})
    edge.connect()
    print("ready", flush=True)
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    while not ended.wait(BEAT_S):
        edge.births()
    edge.die()


if __name__ == "__main__":
    main()
