"""A box in the foreground: its stack started, its plant file applied, its addresses left for other commands."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.access.service import ensure_admin
from app.commands import running
from app.commands.console import out, t
from app.commands.plant import apply_file
from app.db import make_engine, upgrade
from app.durable import make_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from sqlalchemy import Engine

    from app.launcher.process import Process
    from app.launcher.stack import Stack
    from app.launcher.supervisor import Supervisor
    from app.settings import Settings


def stop_on_signal() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


def prepared(chosen: Settings, config: Path | None) -> tuple[Engine, str | None]:
    """The database at the newest schema with an admin and the plant file applied; the admin's password if it is new."""
    upgrade(chosen.database())
    engine = make_engine(chosen.database())
    password = ensure_admin(engine)
    if config is not None:
        apply_file(engine, config, "headrace up")
    return engine, password


@asynccontextmanager
async def started(chosen: Settings, stack: Stack, extra: Iterable[Process] = ()) -> AsyncIterator[Supervisor]:
    """The stack as long as this context; other commands find it by the data folder."""
    make_folder(chosen.data_dir)

    def tell(name: str, seconds: float) -> None:
        out.print(t("{name} is ready after {seconds:.1f} s", name=name, seconds=seconds), markup=False)

    running.write(chosen.data_dir, running.Running(os.getpid(), stack.redis_url, chosen.database(), stack.api_url))
    try:
        async with stack.running(extra, tell) as supervisor:
            yield supervisor
    finally:
        running.remove(chosen.data_dir)


def greet(stack: Stack, password: str | None) -> None:
    """Where to look, and the first password, once."""
    out.print(t("Start page: {url}", url=stack.api_url), markup=False)
    if password is not None:
        out.print(t("First password of admin (shown once): {password}", password=password), style="bold", markup=False)
