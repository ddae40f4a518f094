"""What is done to the processes of a box: killed, stopped, kept from writing; and waited for until they are back."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from app.launcher.usage import members

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from app.selftest.box import Rig

BACK_S: Final = 60.0
"""How long a process that was killed may take until it is ready again."""
LOOK_S: Final = 0.05
DISK_FULL: Final = 0
"""Bytes up to which a process may write a file when its disk is full."""


class AbsentError(Exception):
    """What the fault is about does not run at this moment, because an earlier one still has it down."""


def pid_of(there: Rig, name: str) -> int:
    """Of a process that is ready. Raises AbsentError, KeyError."""
    status = there.status(name)
    if status.pid is None or status.state != "ready":
        message = f"{name} is {status.state}"
        raise AbsentError(message)
    return status.pid


def tell(pids: Iterable[int], number: signal.Signals) -> None:
    """A signal to each that still lives."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@asynccontextmanager
async def killed(there: Rig, name: str) -> AsyncIterator[None]:
    """SIGKILL for the process and all that descends from it."""
    before = there.status(name).restarts
    tell(members(pid_of(there, name)), signal.SIGKILL)
    yield
    await back(there, {name: before})


async def back(there: Rig, restarts: Mapping[str, int]) -> None:
    """Wait until each of these has been started again, after so many times, and is ready."""
    deadline = time.monotonic() + BACK_S
    for name, before in restarts.items():
        while (now := there.status(name)).restarts == before or now.state != "ready":
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def stopped(there: Rig, name: str) -> AsyncIterator[None]:
    """It stands still, as in a debugger or on a host that has no time for it; its connections stay."""
    pids = members(pid_of(there, name))
    tell(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        tell(pids, signal.SIGCONT)


@asynccontextmanager
async def disk_full(there: Rig, name: str) -> AsyncIterator[None]:
    """Nothing that it writes into a file is taken: the kernel refuses it for want of room (setrlimit(2), FSIZE)."""
    pids = members(pid_of(there, name))
    _limit(pids, DISK_FULL)
    try:
        yield
    finally:
        _limit(pids, resource.RLIM_INFINITY)


@asynccontextmanager
async def killed_when_full(there: Rig) -> AsyncIterator[None]:
    """Killed while its disk takes nothing: what it has read and not written down, it must not have acknowledged."""
    async with disk_full(there, "gateway"):
        yield
        async with killed(there, "gateway"):
            pass


def _limit(pids: Iterable[int], size: int) -> None:
    for pid in pids:
        try:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            soft = hard if size == resource.RLIM_INFINITY else size
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        except ProcessLookupError:
            continue
        except PermissionError as error:
            message = "the system lets us limit no process of another user"
            raise AbsentError(message) from error
