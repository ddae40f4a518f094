"""A box without pipelines, as real processes: what comes in is stored, and everything about it can be asked."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from sqlalchemy import select

from app import settings
from app.commands.box import prepared
from app.db import reading
from app.launcher.stack import prepare
from app.ledger import service as ledger
from app.readings.service import counts
from app.readings.tables import DeadLetterRow
from app.settings import Settings
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from app.launcher.supervisor import Status, Supervisor
    from app.ledger.service import Account

MIB = 2**20


@dataclass(slots=True)
class SmallBox:
    """The stack, running."""

    data: Path
    engine: Engine
    supervisor: Supervisor

    def status(self, name: str) -> Status:
        """How one process is."""
        return next(one for one in self.supervisor.status() if one.name == name)

    def rss(self) -> dict[str, float]:
        """MiB resident, by process."""
        return {one.name: one.rss_bytes / MIB for one in self.supervisor.status() if one.pid is not None}

    def stored(self, connection: str) -> int:
        """Readings of a connection in the database."""
        of_it = select(ConnectionRow.id).where(ConnectionRow.name == connection).scalar_subquery()
        with reading(self.engine) as session:
            number = session.scalar(select(of_it))
        return counts(self.engine).get(number or 0, 0)

    def refused(self, connection: str) -> list[int]:
        """When something of a connection was refused, ns."""
        of_it = select(ConnectionRow.id).where(ConnectionRow.name == connection).scalar_subquery()
        with reading(self.engine) as session:
            return list(session.scalars(select(DeadLetterRow.at).where(DeadLetterRow.connection_id == of_it)))

    def accounts(self) -> dict[str, Account]:
        """The ledger, by connection."""
        return {one.name: one for one in ledger.accounts(self.engine)}

    async def at_rest(self, within_s: float) -> bool:
        """Wait until every account balances with nothing held; False when it takes too long."""
        for _ in range(int(within_s * 2)):
            accounts = await asyncio.to_thread(self.accounts)
            if accounts and all(one.balanced and not one.held for one in accounts.values()):
                return True
            await asyncio.sleep(0.5)
        return False


@asynccontextmanager
async def small_box(folder: Path, document: Mapping[str, Any], **chosen: Any) -> AsyncIterator[SmallBox]:  # noqa: ANN401 - settings
    """Start everything with this plant file; `chosen`: settings that are not the usual ones."""
    async with AsyncExitStack() as held:
        picked = Settings(data_dir=folder / "data", api_port=0, **chosen)
        settings.use(picked)
        stack = prepare(picked)
        path = folder / "plant.yaml"
        path.write_text(yaml.safe_dump({"version": 1, "plant": {"enterprise": "bench", "site": "box"}, **document}))
        engine, _ = await asyncio.to_thread(prepared, picked, path)
        held.callback(engine.dispose)
        supervisor = await held.enter_async_context(stack.running())
        yield SmallBox(picked.data_dir, engine, supervisor)


async def until(condition: Callable[[], bool], within_s: float) -> bool:
    """Ask, in a thread, until it is so; False when it never is."""
    for _ in range(int(within_s * 4)):
        if await asyncio.to_thread(condition):
            return True
        await asyncio.sleep(0.25)
    return False


def slope(samples: list[tuple[float, float]]) -> float:
    """Of the second half of (seconds, MiB), in MiB an hour; 0 where there are too few to tell."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:  # noqa: PLR2004 - a line has two points
        return 0.0
    seconds, sizes = np.array(half).T
    return float(np.polyfit(seconds, sizes, 1)[0] * 3600)
