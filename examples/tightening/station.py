"""A tightening station over MQTT: one unit after another with serial number, recipe changes, stops and missed parts."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from examples.broker import Broker, Publisher, broker_arguments, broker_of
from examples.lifetime import Lifetime
from examples.ownlog import OwnLog, Scalar, stamp
from examples.tightening.curves import RECIPES, SAMPLE_S, SAMPLES, Recipe, window_check
from examples.tightening.record import RECORDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

TOPIC: Final = "station/st10"
PACKET: Final = 10
"""Samples per message."""
FIRST_COUNTER: Final = 1001
UNITS_PER_RECIPE: Final = 8
MISSED: Final = (9, 4)
"""Of every 9 units the curve of the fifth is missed."""
STOP_AFTER: Final = (12, 9)
"""Of every 12 units the tenth is followed by a stop."""
STOP_INTERVALS: Final = 2
GOOD: Final = 0
SAMPLE_MS: Final = round(SAMPLE_S * 1000)


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit that comes to the station."""

    counter: int
    recipe: Recipe
    order: str
    curve: NDArray[np.float32] | None
    """Shape (128, 2), torque in Nm and angle in degrees; None where the curve was missed."""

    @property
    def result(self) -> str:
        """The station's own word: OK where peak torque and final angle are within their windows."""
        return "OK" if self.curve is not None and window_check(self.curve, self.recipe) else "NOK"

    @property
    def stops_after(self) -> bool:
        """Whether the line stands still when this unit is done."""
        return _turn(self.counter, STOP_AFTER)


def _turn(counter: int, rule: tuple[int, int]) -> bool:
    """Whether it is this unit's turn, by a rule of (every so many, which of them)."""
    every, which = rule
    return (counter - FIRST_COUNTER) % every == which


def units(seed: int) -> Iterator[Unit]:
    """Units without end: curves of the recording in its order from a place the seed decides, recipe by recipe."""
    with np.load(RECORDING) as recording:
        curves, recipes = recording["curves"], recording["recipe"]
    of_recipe = [curves[recipes == i] for i in range(len(RECIPES))]
    used = [seed % len(some) for some in of_recipe]
    counter = FIRST_COUNTER
    while True:
        lot = (counter - FIRST_COUNTER) // UNITS_PER_RECIPE
        which = lot % len(RECIPES)
        missed = _turn(counter, MISSED)
        curve = None if missed else of_recipe[which][used[which] % len(of_recipe[which])]
        used[which] += not missed
        yield Unit(counter, RECIPES[which], f"PO-{2041 + lot}", curve)
        counter += 1


class Station:
    """Runs cycles at a steady pace and tells the broker what happened."""

    def __init__(self, publisher: Publisher, topic: str, interval_s: float, log: OwnLog) -> None:
        """One unit every `interval_s` seconds, at least the length of a cycle."""
        self._publisher = publisher
        self._topic = topic
        self._interval_s = interval_s
        self._log = log

    async def run(self, seed: int, lifetime: Lifetime) -> None:
        """Process units until the lifetime is over."""
        self._state("EXECUTE")
        loop = asyncio.get_running_loop()
        due = loop.time()
        for unit in units(seed):
            if await lifetime.pause(due - loop.time()):
                break
            due = max(due, loop.time() - self._interval_s) + self._interval_s
            if await self._cycle(unit, lifetime):
                break
            if unit.stops_after:
                self._state("STOPPED")
                if await lifetime.pause(STOP_INTERVALS * self._interval_s):
                    break
                due = loop.time()
                self._state("EXECUTE")
        self._state("STOPPED")

    def _state(self, state: str) -> None:
        """Tell a change of the station's state, in the words of PackML."""
        now = stamp()
        if self._publisher.send(f"{self._topic}/state", {"t": now // 1_000_000, "state": state}, retain=True):
            self._note(now, state=state)

    async def _cycle(self, unit: Unit, lifetime: Lifetime) -> bool:
        """Tighten one unit: samples while they happen, then the cycle's data. Returns whether it is time to stop."""
        start = stamp()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for first in range(0, SAMPLES, PACKET):
            last = min(first + PACKET, SAMPLES)
            if await lifetime.pause(began + last * SAMPLE_S - loop.time()):
                return True
            if unit.curve is not None:
                self._samples(unit.counter, unit.curve[first:last], start // 1_000_000 + first * SAMPLE_MS)
        end = start // 1_000_000 + (SAMPLES - 1) * SAMPLE_MS
        about: dict[str, Scalar] = {
            "counter": unit.counter,
            "unit_id": f"SN{unit.counter:07d}",
            "recipe": unit.recipe.name,
            "recipe_revision": unit.recipe.revision,
            "order": unit.order,
            "result": unit.result,
        }
        if self._publisher.send(f"{self._topic}/cycle", {"t": end, "start": start // 1_000_000, **about}):
            self._note(end * 1_000_000, **about)
        return lifetime.over

    def _samples(self, counter: int, part: NDArray[np.float32], first_ms: int) -> None:
        """Send one packet of samples that have just been taken."""
        rows = [
            {"t": first_ms + i * SAMPLE_MS, "torque": round(float(torque), 2), "angle": round(float(angle), 1)}
            for i, (torque, angle) in enumerate(part)
        ]
        if not self._publisher.send(f"{self._topic}/curve", {"counter": counter, "samples": rows}):
            return
        for row in rows:
            self._note(int(row["t"]) * 1_000_000, torque=row["torque"], angle=row["angle"])

    def _note(self, time_ns: int, **values: Scalar) -> None:
        """Log what was published."""
        for tag, value in values.items():
            self._log.write(tag, time_ns, value, GOOD)
        self._log.flush()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m examples.tightening.station", description=__doc__)
    broker_arguments(made)
    made.add_argument("--interval", type=_interval, default=3.0, help="seconds from unit to unit, 1.4 to 3600")
    made.add_argument("--topic", default=TOPIC, help="where the station's topics begin")
    made.add_argument("--seed", type=int, default=1, help="where the replay of the recording begins")
    made.add_argument("--log", type=Path, help="folder for the station's own log of everything it published")
    return made


def _interval(text: str) -> float:
    """A pace that the cycle's own length allows. Raises ValueError."""
    if not 1.4 <= float(text) <= 3600.0:  # noqa: PLR2004 - the help text gives the limits
        raise ValueError(text)
    return float(text)


async def _run(arguments: argparse.Namespace, broker: Broker) -> None:
    """Run the station with its log."""
    lifetime = Lifetime()
    with OwnLog(arguments.log) as log:
        publisher = Publisher(broker, f"tightening-{arguments.topic}")
        print(f"ready {arguments.topic}", flush=True)  # noqa: T201 - who started us waits for this line
        await Station(publisher, arguments.topic, arguments.interval, log).run(arguments.seed, lifetime)
        await publisher.close()


def main() -> None:
    """The command line's entry."""
    arguments = parser().parse_args()
    asyncio.run(_run(arguments, broker_of(arguments)))


if __name__ == "__main__":
    main()
