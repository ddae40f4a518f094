"""One server made ready to run, and running it by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from app.launcher.ports import Port
from app.launcher.process import Process
from app.launcher.supervisor import Supervisor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server(Generic[T]):
    """One server made ready to run: its process, its address for clients, and the port held for it."""

    process: Process
    address: T = field(repr=False)
    port: Port


@asynccontextmanager
async def running(server: Server[T], data_dir: Path) -> AsyncIterator[T]:
    """Run one server, restarted on the same port if it dies, and stop it at the end."""
    with server.port:
        async with Supervisor((server.process,), data_dir / "log"):
            yield server.address
