"""An hour of load through a whole box with an outage every minute: nothing unaccounted, and no process that grows.

`python -m bench.soak [--for 3600] [--every 60] [--json FILE]`. Two makes of OPC UA server, an MQTT device and a
Sparkplug edge node publish; lines are cut, stalled and half-closed, servers and the broker restart, gateway and worker
are killed with SIGKILL, in turn. Each outage prints the seconds until new readings of every connection are stored. At
the end what is stored is held against what each peer has noted itself, and the gaps that were told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from app import times
from app.ledger.service import gaps
from bench.outage_field import CONNECTIONS, MAKES, Outside, outside
from bench.small_box import SmallBox, small_box, until
from tests.journeys.history import arrived, stored
from tests.journeys.outages import invented, unsaid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from app.ledger.service import Gap
    from examples.ownlog import Entry

CUT_S: Final = 3.0
STALLED_S: Final = 8.0
DOWN_S: Final = 2.0
LOOK_S: Final = 10.0
YOUNG_S: Final = 60.0
"""A process that is younger has not come to rest: it does not count for the slope."""
RECOVER_S: Final = 60.0
LIFE_S: Final = 420.0
"""A library ends an open62541 server after ten minutes: one that is older is restarted, whatever else happens."""
SETTLE_S: Final = 60.0
SETTLE_NS: Final = 2 * times.NANOS
"""What was published last may not have been taken when its peer ended."""
MOST_TOLD: Final = 10
"""Unaccounted readings that are printed, of each connection."""
MOST_SLOPE_MIB: Final = 30.0
"""An hour; what a process may gain that has come to rest, and the noise of its measurement in ten minutes."""


@dataclass
class Soak:
    """The box, its field, and what was seen."""

    box: SmallBox
    there: Outside
    began: float = field(default_factory=time.monotonic)
    rss: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    """By process: pid, seconds, MiB."""
    outages: list[dict[str, Any]] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)
    """When an OPC UA server was started."""

    async def line_cut(self, name: str) -> None:
        """The line to a peer is cut."""
        gate = self.there.gates[name]
        await gate.cut()
        await asyncio.sleep(CUT_S)
        await gate.start()

    async def line_stalled(self, name: str) -> None:
        """Nothing passes, nothing is closed."""
        gate = self.there.gates[name]
        gate.freeze()
        await asyncio.sleep(STALLED_S)
        gate.thaw()

    async def half_closed(self, name: str) -> None:
        """The peer's side ends."""
        self.there.gates[name].half_close()

    async def server_restarted(self, name: str) -> None:
        """An OPC UA server loses its power."""
        server = self.there.servers[name]
        await server.kill()
        await asyncio.sleep(DOWN_S)
        await server.start()
        self.started[name] = time.monotonic()

    async def broker_restarted(self, _name: str) -> None:
        """The broker writes down what it keeps, and comes again."""
        await self.there.broker.stop()
        await asyncio.sleep(DOWN_S)
        await self.there.broker.start()

    async def killed(self, name: str) -> None:
        """SIGKILL for one of our own processes."""
        status = self.box.status(name)
        assert status.pid is not None
        os.killpg(status.pid, signal.SIGKILL)
        await until(lambda: self.box.status(name).restarts > status.restarts, RECOVER_S)

    async def recovered(self) -> bool:
        """Wait until new readings of every connection are stored."""
        now = times.now()

        def fresh() -> bool:
            return all(
                any(entry[0] > now and entry[2] == 0 for _, entry in arrived(self.box.engine, name, now))
                for name in CONNECTIONS
            )

        return await until(fresh, RECOVER_S)

    async def outage(self, kind: Callable[[str], Awaitable[None]], name: str) -> None:
        """One, and how long it takes to recover."""
        await kind(name)
        begin = time.monotonic()
        whole = await self.recovered()
        seconds = round(time.monotonic() - begin, 1)
        self.outages.append({"kind": kind.__name__, "of": name, "seconds": seconds, "recovered": whole})
        print(f"{time.monotonic() - self.began:6.0f} s  {kind.__name__:16} {name:8} {seconds:5.1f} s to recover"
              f"{'' if whole else ', NOT RECOVERED'}", flush=True)  # fmt: skip

    def kinds(self) -> Sequence[tuple[Callable[[str], Awaitable[None]], str]]:
        """In turn."""
        return (
            (self.line_cut, "o6"), (self.line_stalled, "asyncua"), (self.half_closed, "device"),
            (self.server_restarted, "o6"), (self.broker_restarted, "device"), (self.killed, "gateway"),
            (self.line_stalled, "device"), (self.server_restarted, "asyncua"), (self.killed, "worker"),
            (self.line_cut, "device"), (self.half_closed, "o6"),
        )  # fmt: skip

    async def tried(self, seconds: float, every_s: float) -> None:
        """An outage each `every_s` seconds."""
        kinds, number = self.kinds(), 0
        self.started = dict.fromkeys(MAKES, time.monotonic())
        while (due := self.began + (number + 1) * every_s) < self.began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.outage(*kinds[number % len(kinds)])
            if time.monotonic() - self.started["o6"] > LIFE_S:
                await self.outage(self.server_restarted, "o6")
            number += 1
        await asyncio.sleep(max(0.0, self.began + seconds - time.monotonic()))

    async def watched(self) -> None:
        """Memory of every process, for ever."""
        while True:
            at = time.monotonic() - self.began
            for one in self.box.supervisor.status():
                if one.pid is not None:
                    self.rss.setdefault(one.name, []).append((one.pid, at, one.rss_bytes / 2**20))
            await asyncio.sleep(LOOK_S)

    async def accounts(self) -> list[dict[str, Any]]:
        """Each connection: sent, stored, gaps, what is not accounted for."""
        engine, ledger = self.box.engine, self.box.accounts()
        rows = []
        for name in CONNECTIONS:
            log, account = self.there.log(name), ledger[name]
            end = max(entry[0] for entries in log.values() for entry in entries) - SETTLE_NS
            spans = gaps(engine, connection=name)
            missing = unsaid(engine, name, self.there.whole(name), end, itemgetter(0))
            missing = unrefused(missing, self.box.refused(name))
            made_up = await invented(engine, name, partial(self.there.perhaps, name)) if name != "cell" else []
            for tag, entry in missing[:MOST_TOLD]:
                print(f"unaccounted: {name} {tag} {entry}, {near(spans, entry[0])}")
            rows.append({
                "connection": name,
                "sent": sum(map(len, log.values())),
                "stored": sum(map(len, stored(engine, name).values())),
                "gaps": len(spans),
                "gap_s": round(sum(one.until - one.since for one in spans) / times.NANOS, 1),
                "lost_by_peer": account.lost_by_peer,
                "refused": account.refused,
                "unaccounted": len(missing),
                "invented": len(made_up),
                "balanced": account.balanced and not account.held,
            })  # fmt: skip
        return rows


def unrefused(missing: list[tuple[str, Entry]], letters: list[int]) -> list[tuple[str, Entry]]:
    """Without those of which a refusal tells: data of an edge node that comes before the births we have asked for.

    Each refusal (when, ns) is of one reading.
    """
    left, found = list(letters), []
    for one in missing:
        told = min(left, key=lambda at: abs(at - one[1][0]), default=0)
        if abs(told - one[1][0]) < times.NANOS:
            left.remove(told)
        else:
            found.append(one)
    return found


def near(spans: Sequence[Gap], at: int) -> str:
    """Where the nearest gap lies from there."""
    if not spans:
        return "there is no gap"
    one = min(spans, key=lambda gap: max(gap.since - at, at - gap.until))
    return f"the nearest gap from {(one.since - at) / times.NANOS:+.3f} to {(one.until - at) / times.NANOS:+.3f} s"


def slope(samples: Sequence[tuple[int, float, float]]) -> float | None:
    """MiB an hour over all lives of a process together, each without its first minute; None: too little."""
    around: list[tuple[float, float]] = []
    for pid in {pid for pid, _, _ in samples}:
        life = np.array([(at, size) for of, at, size in samples if of == pid])
        rest = life[life[:, 0] - life[0, 0] > YOUNG_S]
        if len(rest) > 1:
            around += (rest - rest.mean(axis=0)).tolist()
    at, size = np.array(around or [(0.0, 0.0)]).T
    return round(float((at * size).sum() / (at * at).sum() * 3600), 2) if at.any() else None


async def run(folder: Path, seconds: float, every_s: float) -> dict[str, Any]:
    """The whole soak."""
    async with outside(folder) as there, small_box(folder, there.document(), reconnect_cap_s=2) as box:
        soak = Soak(box, there)
        assert await soak.recovered(), "the field is not read"
        soak.began = time.monotonic()
        watching = asyncio.create_task(soak.watched())
        await soak.tried(seconds, every_s)
        watching.cancel()
        for make in MAKES:
            await there.servers[make].stop()
        there.device.on = there.cell.on = False
        rest = await box.at_rest(SETTLE_S)
        rows = await soak.accounts()
    return {
        "seconds": round(time.monotonic() - soak.began, 1),
        "at_rest": rest,
        "outages": soak.outages,
        "connections": rows,
        "rss_mib": {name: [round(size, 1) for _, _, size in samples] for name, samples in soak.rss.items()},
        "rss_slope_mib_an_hour": {name: slope(samples) for name, samples in soak.rss.items()},
    }


def table(found: dict[str, Any]) -> None:
    """Print it."""
    names = list(found["connections"][0])
    print("\n" + "  ".join(f"{name:>12}" for name in names))
    for row in found["connections"]:
        print("  ".join(f"{row[name]!s:>12}" for name in names))
    print("\nprocess        MiB first   middle     last   most   MiB an hour")
    for name, sizes in found["rss_mib"].items():
        shown = (sizes[0], sizes[len(sizes) // 2], sizes[-1], max(sizes))
        print(f"{name:12}" + "".join(f"{size:10.1f}" for size in shown), found["rss_slope_mib_an_hour"][name])


def good(found: dict[str, Any]) -> bool:
    """Whether nothing is unaccounted and nothing grows."""
    slopes = [one for one in found["rss_slope_mib_an_hour"].values() if one is not None]
    return (
        found["at_rest"]
        and all(one["recovered"] for one in found["outages"])
        and all(row["balanced"] and not row["unaccounted"] and not row["invented"] for row in found["connections"])
        and all(one < MOST_SLOPE_MIB for one in slopes)
    )


def main() -> int:
    """Run it; 1 when something is unaccounted, has not recovered, or grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", type=float, default=3600, dest="seconds")
    parser.add_argument("--every", type=float, default=60)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        found = asyncio.run(run(Path(folder), given.seconds, given.every))
    table(found)
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return int(not good(found))


if __name__ == "__main__":
    sys.exit(main())
