"""Twice what the box can take, for minutes: that its memory stays bounded, and that every loss is told.

`python -m bench.overload [--for 300] [--peers opcua,mqtt] [--json FILE]`. The worker is held back so that half of what
the peer sends is stored, on a host of any speed; the journal has 16 MiB. Every ten seconds one line says what was sent
and stored and the gateway's resident memory; then the peer ends, the worker is let go, and all is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from app.launcher import servers
from app.launcher.ports import Port
from app.ledger import service as ledger
from app.readings.service import everything
from bench.peers import peer
from bench.small_box import SmallBox, slope, small_box

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from numpy.typing import NDArray

TAGS: Final = 5000
HZ: Final = 10
RATE: Final = 4000
"""Messages a second."""
TOPICS: Final = 10
TEXT: Final = 300
"""Bytes of each message's value: numbers alone would not fill the journal in these minutes."""
BUDGET_MB: Final = 16
BEAT_S: Final = 0.1
TELL_S: Final = 10.0
SETTLE_S: Final = 240.0
MOST_GROWTH_MIB: Final = 200
"""What the gateway may hold beyond what it held at first: what waits in memory by its limits, and an allocator's."""
OVERFLOW: Final = 0x480
"""InfoType DataValue, Overflow (IEC 62541-4, 7.39.1)."""
DROPPED: Final = "$SYS/broker/publish/messages/dropped"
SYS_S: Final = 12.0
"""A broker tells its own figures every ten seconds."""
MICRO: Final = 1000


@dataclass(slots=True)
class Course:
    """How one case goes."""

    box: SmallBox
    connection: str
    a_second: float
    """What the peer sends."""
    rss: list[tuple[float, float]] = field(default_factory=list)
    """Seconds, MiB of the gateway."""

    async def held_back(self, seconds: float) -> None:
        """Let the worker store half of what is sent; tell how it goes."""
        began, told, base = time.monotonic(), 0.0, await asyncio.to_thread(self.box.stored, self.connection)
        try:
            while (spent := time.monotonic() - began) < seconds:
                stored = await asyncio.to_thread(self.box.stored, self.connection) - base
                self._worker(signal.SIGSTOP if stored > spent * self.a_second / 2 else signal.SIGCONT)
                if spent >= told:
                    told += TELL_S
                    self.rss.append((spent, self.box.rss()["gateway"]))
                    print(f"{spent:5.0f} s  sent {spent * self.a_second:12.0f}  stored {stored:12}  "
                          f"gateway {self.rss[-1][1]:7.1f} MiB", flush=True)  # fmt: skip
                await asyncio.sleep(BEAT_S)
        finally:
            self._worker(signal.SIGCONT)

    def _worker(self, number: signal.Signals) -> None:
        pid = self.box.status("worker").pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    async def settled(self) -> bool:
        """Wait until nothing is held and nothing more comes; False when it takes too long."""
        end, last = time.monotonic() + SETTLE_S, -1
        while time.monotonic() < end:
            rest = await self.box.at_rest(SETTLE_S)
            stored = await asyncio.to_thread(self.box.stored, self.connection)
            if rest and stored == last:
                return True
            last = stored
            await asyncio.sleep(2)
        return False

    def figures(self) -> dict[str, Any]:
        """What the box itself says."""
        account = self.box.accounts()[self.connection]
        return {
            "read": account.read,
            "stored": account.stored,
            "refused": account.refused,
            "held": account.held,
            "lost_by_peer": account.lost_by_peer,
            "balanced": account.balanced,
            "gaps": len(self.gaps()),
            "gateway_mib": [round(size, 1) for _, size in self.rss],
            "gateway_growth_mib": round(max(size for _, size in self.rss) - self.rss[0][1], 1),
            "gateway_slope_mib_an_hour": round(slope(self.rss), 1),
        }

    def gaps(self) -> list[tuple[int, int]]:
        """From and to, ns."""
        return [(one.since, one.until) for one in ledger.gaps(self.box.engine, connection=self.connection)]


@dataclass(slots=True)
class Series:
    """All that is stored of a connection, in columns."""

    tags: NDArray[np.int64]
    times: NDArray[np.int64]
    status: NDArray[np.uint32]


def series(box: SmallBox) -> Series:
    """Read it back, by tag and time."""
    parts: list[tuple[Any, Any, Any]] = []
    for one in everything(box.engine):
        tags, times, _, _, status = one.columns
        parts.append((tags.astype(np.int32), times, status))
    tags, times, status = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((times, tags))
    return Series(tags[order], times[order], status[order])


def holes(found: Series, scans: NDArray[np.int64], gaps: list[tuple[int, int]]) -> dict[str, int]:
    """Scans that a tag lacks between two that it has; how many runs of them, and how many of those are told.

    A run is told by the overflow bit of the reading after it (or before it, as the server has it), or by a gap.
    """
    index = np.searchsorted(scans, found.times)
    known = (index < len(scans)) & (scans[np.minimum(index, len(scans) - 1)] == found.times)
    tags, index, status = found.tags[known], index[known], found.status[known]
    same, step = tags[1:] == tags[:-1], np.diff(index)
    hole = same & (step > 1)
    over = (status & OVERFLOW) == OVERFLOW
    told = over[1:] | over[:-1]
    for since, until in gaps:
        told |= (scans[index[:-1]] <= until) & (scans[index[1:]] >= since)
    twice = int((same & (step == 0)).sum())
    return {
        "found": len(index) - twice,
        "twice": twice,
        "lost_between": int((step[hole] - 1).sum()),
        "holes": int(hole.sum()),
        "holes_told": int((hole & told).sum()),
    }


async def opcua(folder: Path, seconds: float) -> dict[str, Any]:
    """An open62541 server with more changes than are taken."""
    with Port() as port:
        options = {"url": f"opc.tcp://127.0.0.1:{port.number}", "security": "None", "publishing_interval_ms": 50}
        document = {
            "connections": [{"name": "plant", "connector": "opcua", "options": options}],
            "tags": [{"names": [f"T[0-{TAGS - 1}]"], "connection": "plant", "address": "ns=1;s={name}"}],
        }
        arguments = ("--port", port.number, "--tags", TAGS, "--hz", HZ, "--for", seconds)
        async with peer("bench.opcua_plant", *arguments) as plant, limited(folder, document) as box:
            course = Course(box, "plant", TAGS * HZ)
            await first_values(box, "plant", TAGS)
            plant.tell("go")
            wrote = json.loads((await asyncio.gather(plant.line(), course.held_back(seconds)))[0])
            settled = await course.settled()
            scans = np.array(wrote["times_us"], dtype=np.int64) * MICRO
            found = await asyncio.to_thread(lambda: holes(series(box), scans, course.gaps()))
            lost = wrote["written"] - found["found"]
            return {
                "peer": "opcua", "sent": wrote["written"], **course.figures(), **found, "lost": lost,
                "settled": settled, "told": found["holes"] == found["holes_told"] and found["twice"] == 0,
            }  # fmt: skip


async def mqtt(folder: Path, seconds: float) -> dict[str, Any]:
    """A device with more messages than are taken: the broker's queue for us fills up, and it drops the rest."""
    async with servers.broker(folder / "field") as broker:
        secret = folder / "secret"
        secret.write_text(broker.password or "")
        options = {
            "url": f"mqtt://{broker.host}:{broker.port}", "username": broker.user, "password": {"file": str(secret)},
        }  # fmt: skip
        tag = {"connection": "device", "options": {"time": "/t", "time_format": "ns"}}
        document = {
            "connections": [{"name": "device", "connector": "mqtt", "options": options}],
            "tags": [
                {"name": f"m{n}", "address": f"bench/m{n}#/s", "datatype": "string", **tag} for n in range(TOPICS)
            ],
        }
        login = ("--host", broker.host, "--port", broker.port, "--user", broker.user, "--password-file", secret)
        arguments = (*login, "--topics", TOPICS, "--rate", RATE, "--for", seconds, "--text", TEXT)
        with dropping(broker) as dropped:
            async with peer("bench.mqtt_publisher", *arguments) as device, limited(folder, document, 32) as box:
                course = Course(box, "device", RATE)
                await connected(box)
                device.tell("go")
                line, _ = await asyncio.gather(device.line(), course.held_back(seconds))
                settled = await course.settled()
                await asyncio.sleep(SYS_S)
                return said_of(json.loads(line)["sent"], dropped, course) | {"settled": settled}


def said_of(sent: int, dropped: list[int], course: Course) -> dict[str, Any]:
    """The sum over everybody's own figures."""
    figures = course.figures()
    by_broker = (dropped[-1] - dropped[0]) if dropped else 0
    rest = sent - figures["stored"] - figures["refused"] - figures["held"] - by_broker
    return {
        "peer": "mqtt", "sent": sent, **figures, "dropped_by_broker": by_broker, "lost": sent - figures["stored"],
        "unaccounted": rest, "told": rest == 0,
    }  # fmt: skip


@contextlib.contextmanager
def dropping(broker: servers.Broker) -> Iterator[list[int]]:
    """The broker's own count of messages that it has dropped, as it tells it."""
    told: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(broker.user, broker.password)

    def connected(*_: object) -> None:
        client.subscribe(DROPPED)

    client.on_connect = connected
    client.on_message = lambda _client, _data, message: told.append(int(message.payload))
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        yield told
    finally:
        client.disconnect()
        client.loop_stop()


@asynccontextmanager
async def limited(folder: Path, document: dict[str, Any], in_flight: int = 4) -> AsyncIterator[SmallBox]:
    """A box whose journal is small and whose worker is given `in_flight` batches at a time."""
    chosen = {"journal_budget_mb": BUDGET_MB, "in_flight_batches": in_flight, "reconnect_cap_s": 2}
    async with small_box(folder, document, **chosen) as box:
        yield box


async def first_values(box: SmallBox, connection: str, wanted: int) -> None:
    """The gateway has every tag's first value."""
    while await asyncio.to_thread(box.stored, connection) < wanted:  # noqa: ASYNC110 - a database tells no event
        await asyncio.sleep(BEAT_S)


async def connected(box: SmallBox) -> None:
    """The gateway says that its connection is up."""
    log = box.data / "log" / "gateway.log"
    while "connection_up" not in await asyncio.to_thread(log.read_text):  # noqa: ASYNC110 - nor does a log
        await asyncio.sleep(BEAT_S)


PEERS: Final = {"opcua": opcua, "mqtt": mqtt}


def main() -> int:
    """Run the cases; 1 when memory grew, or a loss was not told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", type=float, default=300, dest="seconds")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.peers.split(","):
        with tempfile.TemporaryDirectory(prefix="headrace-overload-") as folder:
            rows.append(asyncio.run(PEERS[name](Path(folder), given.seconds)))
        print("\n".join(f"{key:26} {value}" for key, value in rows[-1].items()), flush=True)
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    good = all(
        row["told"] and row["balanced"] and row["settled"] and row["gateway_growth_mib"] < MOST_GROWTH_MIB
        for row in rows
    )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
