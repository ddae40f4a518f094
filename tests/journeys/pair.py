"""Two gateways over one database, each a process of the test's own, with real servers and a plant beside them."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr
from sqlalchemy import func, select

from app import settings
from app.commands.box import prepared
from app.db import reading
from app.launcher.ports import Port
from app.launcher.stack import Stack, prepare
from app.leases.tables import LeaseRow
from app.readings.tables import BatchRow
from app.selftest import box
from app.selftest.caller import Caller
from app.selftest.gate import Gate
from app.settings import Settings
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Engine

    from app.launcher.process import Process

LEASE_S: Final = 6.0
FIRST, SECOND = "gateway-1", "gateway-2"
LINE: Final = "connection:1"
HZ: Final = 2.0
"""Changes of a tag a second: what matters here is what is missing, not how much there is."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as the database has it; times in ns, by its clock."""

    gateway: str
    term: int
    since: int
    expires_at: int


@dataclass(slots=True)
class Pair:
    """The gateways and what they share."""

    rig: box.Rig
    gates: dict[str, Gate]
    """On the way from each gateway to the database."""
    command: Process
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        """Straight to the database."""
        return self.rig.engine

    def lease(self, name: str = LINE) -> Held:
        """As it stands now."""
        columns = (LeaseRow.gateway, LeaseRow.term, LeaseRow.since, LeaseRow.expires_at)
        with reading(self.engine) as session:
            row = session.execute(select(*columns).where(LeaseRow.name == name)).one_or_none()
        return Held("", 0, 0, 0) if row is None else Held(*row)

    async def owned(self, gateway: str, within_s: float = 60) -> Held:
        """Once this gateway owns every lease; how that of the line stands."""

        def all_of_it() -> bool:
            with reading(self.engine) as session:
                owners = set(session.scalars(select(LeaseRow.gateway)))
            return owners == {gateway}

        await wait_for(all_of_it, within_s, f"{gateway} owns everything: {self.log(FIRST)}\n{self.log(SECOND)}")
        return self.lease()

    async def start(self, gateway: str) -> None:
        """Run it, with its own journal and its own way to the database."""
        environment = {
            **settings.inherited(),
            **self.command.environment,
            "HEADRACE_GATEWAY_ID": gateway,
            "HEADRACE_DATABASE_URL": through(self.rig, self.gates[gateway]),
        }
        if gateway == SECOND:
            environment["HEADRACE_DATA_DIR"] = str(self.rig.folder / "second")
        with (self.rig.folder / f"{gateway}.log").open("ab") as log:
            self.running[gateway] = await asyncio.create_subprocess_exec(
                *self.command.command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def send(self, gateway: str, number: signal.Signals) -> None:
        """To the whole of it."""
        os.killpg(self.running[gateway].pid, number)

    async def end(self, gateway: str, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal that ends it; its exit code."""
        self.send(gateway, number)
        return await asyncio.wait_for(self.running.pop(gateway).wait(), 60)

    def log(self, gateway: str) -> str:
        """What it wrote."""
        path = self.rig.folder / f"{gateway}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def received_after(self, gateway: str, at: int) -> int:
        """How many batches of this gateway's journal it received after a time (ns)."""
        mine = BatchRow.journal.startswith(f"{gateway}-") & (BatchRow.received_time > at)
        with reading(self.engine) as session:
            return session.scalar(select(func.count()).select_from(BatchRow).where(mine)) or 0


def through(rig: box.Rig, gate: Gate) -> str:
    """The database's address by this gate."""
    return rig.settings.database().replace(f":{gate.target[1]}/", f":{gate.port}/")


@asynccontextmanager
async def pair(folder: Path, url: str) -> AsyncIterator[Pair]:
    """A box over this PostgreSQL without its gateway, a plant file applied; the gateways are the test's to start."""
    async with AsyncExitStack() as held:
        held.enter_context(settings.alone(TMPDIR=str(folder)))
        chosen = Settings(
            data_dir=folder / "data",
            database_url=SecretStr(url),
            secret_key=SecretStr(secrets.token_hex(16)),
            admin_password=SecretStr(secrets.token_hex(12)),
            api_port=0,
            reconnect_cap_s=2.0,
            lease_s=LEASE_S,
        )
        settings.use(chosen)
        stack = prepare(chosen)
        line = held.enter_context(Port())
        ways = [await held.enter_async_context(_gate(port)) for port in (line.number, *[box.broker_of(stack).port] * 2)]
        rig = _rig(folder, chosen, stack, box.Ways(ways[0], ways[1], ways[2], None))
        rig.engine, _ = await asyncio.to_thread(prepared, chosen, box.plant_file(folder, stack, rig.ways, HZ))
        held.callback(rig.engine.dispose)
        command = next(one for one in stack.processes if one.name == "gateway")
        others = replace(stack, processes=tuple(one for one in stack.processes if one.name != "gateway"))
        port = int(url.rpartition(":")[2].split("/")[0])
        gates = {name: await held.enter_async_context(_gate(port)) for name in (FIRST, SECOND)}
        rig.supervisors.append(await held.enter_async_context(others.running((box.listener(folder, stack),))))
        made = Pair(rig, gates, command)
        try:
            yield made
        finally:
            for name in list(made.running):
                made.send(name, signal.SIGCONT)
                await made.end(name, signal.SIGKILL)


def _rig(folder: Path, chosen: Settings, stack: Stack, ways: box.Ways) -> box.Rig:
    no_engine: Engine = None  # type: ignore[assignment]
    return box.Rig(folder, "postgresql", chosen, no_engine, stack, ways, frozenset(), "", None, None, Caller(0, ""))


@asynccontextmanager
async def _gate(port: int) -> AsyncIterator[Gate]:
    made = Gate("127.0.0.1", port)
    await made.start()
    yield made
    await made.cut()
