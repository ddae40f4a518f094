"""What a QoS 1 JSON message costs the client of a broker: our connector beside a bare paho loop that only counts.

`python -m bench.mqtt_ingest [--rate 4000] [--seconds 10] [--rounds 5]` lets a bare paho loop, our connector, and ours
with the journal behind it take the same stream in turn, and prints the CPU per message and what that is in messages/s
of one core. Counts and sums are compared with what was published.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from app.launcher import servers
from bench.peers import peer

if TYPE_CHECKING:
    from app.launcher.servers import Broker

WHO: Final = {"bare paho": ("paho", ()), "ours": ("ours", ()), "ours with journal": ("ours", ("--journal",))}
TOPICS: Final = 10
SETTLE_S: Final = 20.0
"""What was published may take so long to arrive."""


class Run(NamedTuple):
    """One client, one stream."""

    sent: int
    arrived: int
    right: bool
    """The values add up; a loop that only counts has none."""
    us: float
    """CPU per message."""


async def run(who: str, rate: float, seconds: float, folder: Path) -> Run:
    """A broker, a device and a client of its own."""
    program, more = WHO[who]
    async with servers.broker(folder) as broker:
        login = _login(broker, folder)
        device_arguments = (*login, "--topics", TOPICS, "--rate", rate, "--for", seconds)
        async with (
            peer("bench.mqtt_publisher", *device_arguments) as device,
            peer("bench.mqtt_consumer", "--who", program, *login, "--topics", TOPICS, *more,
                 *([folder / "journal"] if more else [])) as client,
        ):  # fmt: skip
            client.tell("now")
            before = float((await client.line()).split()[0])
            device.tell("go")
            wrote = json.loads(await device.line())
            end = time.monotonic() + SETTLE_S
            while True:
                client.tell("now")
                cpu, count, total = (await client.line()).split()
                if int(count) >= wrote["sent"] or time.monotonic() > end:
                    break
                await asyncio.sleep(0.2)
    right = program == "paho" or int(total) == wrote["total"]
    return Run(wrote["sent"], int(count), right, 1e6 * (float(cpu) - before) / max(1, int(count)))


def _login(broker: Broker, folder: Path) -> tuple[object, ...]:
    secret = folder / "password"
    secret.write_text(broker.password or "")
    return ("--host", broker.host, "--port", broker.port, "--user", broker.user, "--password-file", secret)


async def main() -> int:
    """Print the table; 1 when a message was lost or came wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=4000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{given.rate:g} messages/s for {given.seconds:g} s, CPU us per message (missing)")
    print("  ".join(f"{name:>20}" for name in ("round", *WHO)))
    costs: dict[str, list[float]] = {who: [] for who in WHO}
    good = True
    for number in range(1, given.rounds + 1):
        line = [f"{number:>20}"]
        for who in WHO:
            with tempfile.TemporaryDirectory(prefix="headrace-mqtt-") as name:
                done = await run(who, given.rate, given.seconds, Path(name))
            costs[who].append(done.us)
            good = good and done.right and done.arrived == done.sent
            line.append(f"{done.us:.1f} ({done.sent - done.arrived}){'' if done.right else ' WRONG'}".rjust(20))
        print("  ".join(line), flush=True)
    middle = {who: statistics.median(found) for who, found in costs.items()}
    print("  ".join([f"{'messages/s a core':>20}", *(f"{1e6 / middle[who]:20,.0f}" for who in WHO)]))
    for who in ("ours", "ours with journal"):
        print(f"{who}: {middle['bare paho'] / middle[who]:.2f} of bare paho")
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
