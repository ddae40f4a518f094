"""The Tennessee Eastman plant as a process of its own: OPC UA for the process, MQTT for the analysers, one log."""

from __future__ import annotations

import argparse
import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from examples.broker import Broker, broker_arguments, broker_of
from examples.lifetime import Lifetime
from examples.ownlog import OwnLog, stamp
from examples.tep.analysers import AnalyserPublisher
from examples.tep.process import CONTROL_INTERVAL_H, Process
from examples.tep.server import BAD, GOOD, SPEED_MAX, SPEED_MIN, UNCERTAIN, PlantServer
from examples.tep.tags import ANALYSERS, COLUMNS, IDV, N_FAST

if TYPE_CHECKING:
    from collections.abc import Sequence

CATCH_UP_S: Final = 2.0
"""A plant that was held up for longer than this does not make up for the rest."""
TRIPPED_S: Final = 1.0
"""How long a tripped plant stands before it starts again from the steady state."""
GLITCH_UPDATES: Final = 3
"""A measurement is not Good for one to this many updates."""
BAD_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Settings:
    """How the plant is to run."""

    host: str
    port: int
    broker: Broker
    speed: float
    period_s: float
    seed: int
    glitches_per_minute: float


class Transmitters:
    """The status of each measurement: Good, but now and then Uncertain or Bad for a moment, as real ones are."""

    def __init__(self, seed: int, per_update: float) -> None:
        """`per_update` is how many measurements falter per update, on average."""
        self._random = np.random.default_rng(seed)
        self._per_update = per_update
        self._status = np.zeros(len(COLUMNS), dtype=np.int64)
        self._left = np.zeros(len(COLUMNS), dtype=np.int64)

    def update(self) -> None:
        """Let one update pass: some recover, now and then one falters."""
        self._left = np.maximum(self._left - 1, 0)
        self._status[self._left == 0] = GOOD
        for _ in range(self._random.poisson(self._per_update)):
            column = self._random.integers(len(COLUMNS))
            self._status[column] = BAD if self._random.random() < BAD_SHARE else UNCERTAIN
            self._left[column] = self._random.integers(1, GLITCH_UPDATES + 1)

    def status(self, column: int) -> int:
        """The StatusCode of this column of `COLUMNS`."""
        return int(self._status[column])


class Plant:
    """The process, its two servers, and the clock that drives them."""

    def __init__(self, settings: Settings, log: OwnLog) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._log = log
        self._speed = settings.speed
        self._process = Process(settings.seed)
        self._transmitters = Transmitters(settings.seed, settings.glitches_per_minute * settings.period_s / 60.0)
        self._server = PlantServer(settings.host, settings.port, log, self._switch)
        self._analysed: dict[str, tuple[float, ...]] = {}
        self._owed = 0.0
        self._tripped_for_s = 0.0
        self._trips = 0

    async def run(self, lifetime: Lifetime) -> None:
        """Serve until the lifetime is over. Raises OSError if the OPC UA port is taken."""
        await self._server.start(self._speed)
        analysers = AnalyserPublisher(self._settings.broker, str(self._settings.port), self._log)
        print(f"ready {self._server.url}", flush=True)  # noqa: T201 - who started us waits for this line
        loop = asyncio.get_running_loop()
        before = due = loop.time()
        try:
            while not await lifetime.pause(due - loop.time()):
                now = loop.time()
                self._advance(now - before)
                await self._publish(analysers)
                before = now
                due = max(due + self._settings.period_s, now)
        finally:
            await analysers.close()
            await self._server.stop()

    def _switch(self, name: str, value: bool | float) -> None:  # noqa: FBT001 - a value, not an option
        """Take over what a client has written: a fault switch or the speed."""
        if name == "Speed":
            self._speed = float(value)
        else:
            self._process.faults[IDV.index(name)] = float(value)

    def _advance(self, elapsed_s: float) -> None:
        """Let so much wall time pass in the plant, or in the pause after a trip."""
        if self._process.trip is not None:
            self._tripped_for_s += elapsed_s
            if self._tripped_for_s >= TRIPPED_S:
                self._tripped_for_s = 0.0
                self._process.restart()
            return
        self._owed += min(elapsed_s, CATCH_UP_S) * self._speed / 3600.0 / CONTROL_INTERVAL_H
        steps = int(self._owed)
        self._owed -= steps
        for _ in range(steps):
            self._process.step()
        if self._process.trip is not None:
            self._trips += 1

    async def _publish(self, analysers: AnalyserPublisher) -> None:
        """Write what has changed to the OPC UA server, send new analyses, and log both."""
        now = stamp()
        process, write = self._process, self._server.write
        self._transmitters.update()
        values = process.values.tolist()
        for column in range(N_FAST):
            await write(COLUMNS[column].name, values[column], self._transmitters.status(column), now)
        await write("SimTime", process.time_h, GOOD, now)
        await write("PlantState", "RUNNING" if process.trip is None else "TRIPPED", GOOD, now)
        await write("Trips", self._trips, GOOD, now)
        if process.trip is not None:
            await write("TripMessage", process.trip, GOOD, now)
        self._analyse(analysers, values, now)
        self._log.flush()

    def _analyse(self, analysers: AnalyserPublisher, values: Sequence[float], now: int) -> None:
        """Publish the analyses that are new; an analyser's status holds for all its components."""
        for analyser in ANALYSERS:
            first = N_FAST + analyser.first - ANALYSERS[0].first
            analysis = tuple(values[first : first + len(analyser.components)])
            if self._analysed.get(analyser.name) != analysis:
                self._analysed[analyser.name] = analysis
                analysers.publish(analyser, analysis, self._transmitters.status(first), now)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The command line as settings. Raises OSError if the password file cannot be read."""
    return Settings(
        host=arguments.opcua_host,
        port=arguments.opcua_port,
        broker=broker_of(arguments),
        speed=arguments.speed,
        period_s=arguments.period_ms / 1000.0,
        seed=arguments.seed,
        glitches_per_minute=arguments.glitches_per_minute,
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m examples.tep.plant", description=__doc__)
    made.add_argument("--opcua-host", default="127.0.0.1", help="address to listen on")
    made.add_argument("--opcua-port", type=int, required=True, help="port to listen on")
    broker_arguments(made)
    made.add_argument("--speed", type=_speed, default=360.0, help="plant seconds per wall second, 1 to 1000")
    made.add_argument("--period-ms", type=_period, default=200, help="wall time between updates, 20 to 10000 ms")
    made.add_argument("--seed", type=int, default=1, help="of measurement noise and random disturbances")
    made.add_argument("--glitches-per-minute", type=float, default=4.0, help="moments of Uncertain or Bad status")
    made.add_argument("--log", type=Path, help="folder for the plant's own log of everything it published")
    return made


def _speed(text: str) -> float:
    """A speed within the limits. Raises ValueError."""
    if not SPEED_MIN <= float(text) <= SPEED_MAX:
        raise ValueError(text)
    return float(text)


def _period(text: str) -> int:
    """A period within the limits, in ms. Raises ValueError."""
    if not 20 <= int(text) <= 10_000:  # noqa: PLR2004 - the help text gives the limits
        raise ValueError(text)
    return int(text)


async def _run(arguments: argparse.Namespace) -> None:
    """Run the plant with its log."""
    with OwnLog(arguments.log) as log:
        await Plant(settings_of(arguments), log).run(Lifetime())


def main() -> None:
    """The command line's entry."""
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(_run(parser().parse_args()))


if __name__ == "__main__":
    main()
