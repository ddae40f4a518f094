"""What a value costs the client of an OPC UA plant: our connector beside asyncua's own subscription handler.

`python -m bench.opcua_ingest [--tags 2000] [--hz 10] [--seconds 10] [--rounds 5] [--ladder 5,10,…]` lets both, and
ours with the journal behind it, take the same plant in turn, and prints the CPU per delivered value of each round,
then the highest rate that each takes without loss. Every value is compared with what the plant wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.launcher.ports import Port
from bench.peers import peer

if TYPE_CHECKING:
    from collections.abc import Sequence

WHO: Final = {"ours": (), "ours with journal": ("--journal",), "asyncua": ()}
SETTLE_S: Final = 2.0
"""What was written may take so long to arrive."""
LADDER_TAGS: Final = 5000
MICROS: Final = 1000
"""ns in the unit of the plant's source times."""


@dataclass(frozen=True, slots=True)
class Run:
    """One client at one plant."""

    written: int
    delivered: int
    wrong: int
    """Scans of which all values came, but not as they were written."""
    late: int
    """Scans that the plant itself could not make in time."""
    seconds: float
    cpu_s: float

    @property
    def lost(self) -> int:
        """Values that did not come."""
        return self.written - self.delivered

    @property
    def us(self) -> float:
        """CPU per value that came."""
        return 1e6 * self.cpu_s / max(1, self.delivered)


async def run(who: str, tags: int, hz: float, seconds: float) -> Run:
    """A plant of its own, a client of its own."""
    with Port() as port, tempfile.TemporaryDirectory(prefix="headrace-ingest-") as folder:
        plant_arguments = ("--port", port.number, "--tags", tags, "--hz", hz, "--for", seconds)
        async with peer("bench.opcua_plant", *plant_arguments) as plant:
            options = [*WHO[who], folder] if WHO[who] else []
            arguments = ("--who", who.split(maxsplit=1)[0], "--port", port.number, "--tags", tags, *options)
            async with peer("bench.opcua_consumer", *arguments) as client:
                client.tell("now")
                before = (await client.line()).split()
                plant.tell("go")
                wrote = json.loads(await plant.line())
                # The values of the last scans are on their way; waiting costs a client nothing but its heartbeats.
                await asyncio.sleep(SETTLE_S)
                client.tell("now")
                after = (await client.line()).split()
                client.close()
                came = json.loads(await client.line())
    prints = dict(zip([str(at * MICROS) for at in wrote["times_us"]], wrote["fingerprints"], strict=True))
    found = {at: came.get(at, (0, 0)) for at in prints}
    return Run(
        written=wrote["written"],
        delivered=sum(count for count, _ in found.values()),
        wrong=sum(count == tags and mark != prints[at] for at, (count, mark) in found.items()),
        late=wrote["late_scans"],
        seconds=wrote["seconds"],
        cpu_s=float(after[0]) - float(before[0]),
    )


async def rounds(tags: int, hz: float, seconds: float, count: int) -> bool:
    """All of them in turn; False when a value came wrong."""
    print(f"{tags} tags at {hz:g} Hz for {seconds:g} s, CPU us per delivered value (lost, wrong scans)")
    print("  ".join(f"{who:>24}" for who in ("round", *WHO)))
    costs: dict[str, list[float]] = {who: [] for who in WHO}
    right = True
    for number in range(1, count + 1):
        line = [f"{number:>24}"]
        for who in WHO:
            done = await run(who, tags, hz, seconds)
            costs[who].append(done.us)
            right = right and not done.wrong
            line.append(f"{done.us:8.2f} ({done.lost}, {done.wrong})".rjust(24))
        print("  ".join(line), flush=True)
    middle = {who: statistics.median(found) for who, found in costs.items()}
    print("  ".join([f"{'median':>24}", *(f"{middle[who]:24.2f}" for who in WHO)]))
    for who in ("ours", "ours with journal"):
        print(f"{who}: 1/{middle['asyncua'] / middle[who]:.1f} of asyncua's")
    return right


async def ladder(rates: Sequence[float], seconds: float) -> None:
    """The highest rate that each takes without loss, as far as the plant itself keeps up."""
    print(f"\nHighest rate without loss, {LADDER_TAGS} tags, {seconds:g} s each")
    for who in WHO:
        best, why = 0.0, "the ladder's end"
        for hz in rates:
            done = await run(who, LADDER_TAGS, hz, seconds)
            if done.lost or done.wrong:
                why = f"{done.lost} lost at {LADDER_TAGS * hz:,.0f}/s"
                break
            if done.late:
                why = f"the plant makes no more than {done.written / done.seconds:,.0f}/s"
                break
            best = LADDER_TAGS * hz
        print(f"{who:>18}: {best:10,.0f} values/s ({why})", flush=True)


async def main() -> int:
    """Print both tables; 1 when a value came wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tags", type=int, default=2000)
    parser.add_argument("--hz", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ladder", default="4,6,8,10,12,16,20,24,28,32")
    given = parser.parse_args()
    right = await rounds(given.tags, given.hz, given.seconds, given.rounds)
    if given.ladder:
        await ladder([float(one) for one in given.ladder.split(",")], given.seconds)
    return int(not right)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
