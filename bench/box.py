"""One run of the whole box under load: its stack, the plant and the listener as real processes, and what they used."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr
from sqlalchemy import func, select

from app import settings, times
from app.commands.box import prepared
from app.commands.up import broker_variables
from app.db import reading
from app.launcher.ports import Port
from app.launcher.postgres import postgres_server
from app.launcher.servers import HERE
from app.launcher.stack import Stack, prepare
from app.launcher.supervisor import Supervisor
from app.northbound.tables import OutboxRow
from app.readings.service import counts
from app.settings import Settings
from bench import figures, plant_file
from bench.peers import Peer, peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from bench.figures import Stored
    from bench.plant_file import Load

LIFE_S: Final = 500.0
"""The plant's library ends a process after ten minutes; a longer run needs several plants, one after another."""
SETTLE_S: Final = 30.0
"""How long what was written may take until it is stored and published."""


@dataclass(slots=True)
class Life:
    """One plant, from its first scan to its last."""

    wrote: dict[str, Any]
    cpu_s: Mapping[str, float]
    """Per process, from the end of the warm-up to the last scan."""
    wall_s: float
    values: int
    """Written in that time."""
    settled: bool
    """All that was written came to rest in time."""


class Box:
    """The whole stack, running."""

    def __init__(self, engine: Engine, supervisors: list[Supervisor], listener: Peer) -> None:
        """Everything answers."""
        self.engine = engine
        self._supervisors = supervisors
        self.listener = listener

    def cpu(self, plant: Peer) -> dict[str, float]:
        """CPU seconds so far of every process, ours and the peers'."""
        found = {one.name: one.cpu_s for supervisor in self._supervisors for one in supervisor.status()}
        found.pop("database", None)
        return {
            **found, "supervisor": time.process_time(), "plant": plant.cpu_s, "listener": self.listener.cpu_s,
        }  # fmt: skip

    def stored(self) -> int:
        """Readings in the database."""
        return sum(counts(self.engine).values())

    def due(self) -> int:
        """Publications that were due a second ago and are not known to be taken: new ones come for ever."""
        old = (OutboxRow.sent_at.is_(None)) & (OutboxRow.due_at < times.now() - times.NANOS)
        with reading(self.engine) as session:
            return int(session.scalar(select(func.count()).where(old)) or 0)

    async def until_stored(self, wanted: int) -> bool:
        """Wait until so many readings are stored and all is published; False when it takes too long."""
        for _ in range(int(SETTLE_S * 4)):
            if await asyncio.to_thread(self.stored) >= wanted and not await asyncio.to_thread(self.due):
                return True
            await asyncio.sleep(0.25)
        return False


@asynccontextmanager
async def box(folder: Path, load: Load, database: str, opcua_url: str) -> AsyncIterator[Box]:
    """Start everything but the plant, which must be there already."""
    async with AsyncExitStack() as held:
        supervisors = []
        url = None
        if database == "postgres":
            server = await postgres_server(folder / "servers", HERE)
            held.enter_context(server.port)
            supervisors.append(
                await held.enter_async_context(Supervisor((server.process,), folder / "servers" / "log"))
            )
            url = SecretStr(server.address)
        chosen = Settings(data_dir=folder / "data", api_port=0, database_url=url, reconnect_cap_s=2)
        settings.use(chosen)
        stack = prepare(chosen)
        settings.use(chosen.model_copy(update={"redis_url": SecretStr(stack.redis_url)}))
        north = held.enter_context(Port())
        settings.provide(
            {
                **broker_variables(stack, plant_file.BROKER),
                plant_file.NORTH: f"opc.tcp://127.0.0.1:{north.number}/headrace",
            }
        )
        file = plant_file.write(folder, load, opcua_url)
        engine, _ = await asyncio.to_thread(prepared, chosen, file)
        held.callback(engine.dispose)
        supervisors.append(await held.enter_async_context(stack.running()))
        listener = await held.enter_async_context(peer("bench.mqtt_listener", *_broker(folder, stack)))
        yield Box(engine, supervisors, listener)


def _broker(folder: Path, stack: Stack) -> tuple[object, ...]:
    broker = stack.broker
    assert broker is not None
    secret = folder / "password"
    secret.write_text(broker.password or "")
    where = ("--host", broker.host, "--port", broker.port, "--user", broker.user, "--password-file", secret)
    return (*where, "--topic", "headrace/#", "--out", folder / "arrived")


async def live(there: Box, port: int, load: Load, seconds: float, warm_s: float) -> Life:
    """One plant's life: the gateway takes its first values, it scans, all of it comes to rest."""
    arguments = ("--port", port, "--tags", load.tags, "--hz", load.hz, "--for", seconds)
    async with peer("bench.opcua_plant", *arguments) as plant:
        base = await asyncio.to_thread(there.stored) + load.tags
        if not await there.until_stored(base):
            message = "the gateway has not taken the plant's first values"
            raise TimeoutError(message)
        plant.tell("go")
        await asyncio.sleep(warm_s)
        before, since, began = there.cpu(plant), time.monotonic(), time.time_ns() // 1000
        wrote = json.loads(await plant.line())
        after, wall = there.cpu(plant), time.monotonic() - since
        settled = await there.until_stored(base + wrote["written"])
        used = {name: after[name] - before[name] for name in after}
        return Life(wrote, used, wall, load.tags * sum(at >= began for at in wrote["times_us"]), settled)


async def run(folder: Path, load: Load, database: str, seconds: float, warm_s: float) -> tuple[list[Life], Stored]:
    """The whole case; what arrived over MQTT lies in the file `arrived` of this folder then."""
    count = math.ceil(seconds / LIFE_S)
    with Port() as port:
        async with box(folder, load, database, f"opc.tcp://127.0.0.1:{port.number}") as there:
            lives = [await live(there, port.number, load, seconds / count, warm_s) for _ in range(count)]
            return lives, await asyncio.to_thread(figures.stored, there.engine, folder / "data")
