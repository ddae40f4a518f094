"""How each fault is done to a running box, and undone: an entered context is a fault that lasts."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from app import times
from app.db import UnreachableError
from app.launcher.probes import command
from app.launcher.usage import members
from app.selftest import queries
from app.selftest.box import BOX, DEVICE, PROCESS
from app.selftest.power import BlindError
from app.selftest.processes import (
    LOOK_S,
    AbsentError,
    back,
    disk_full,
    killed,
    killed_when_full,
    pid_of,
    stopped,
    tell,
)
from app.selftest.schedule import BROKER, BY_NAME, KINDS, REDIS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from sqlalchemy import Engine

    from app.selftest.box import Rig
    from app.selftest.gate import Gate
    from app.selftest.schedule import Fault

HELD_S: Final = 60.0
"""How long a fault waits for an earlier one that takes longer than it should."""
EMPTY_S: Final = 20.0
FRESH_NS: Final = times.NANOS // 2
"""A reading of the device that arrives so soon has not waited at the broker."""
LATE_NS: Final = times.NANOS
"""How long it may then take until it is stored: what is stored later does not say what the broker holds now."""
SLOW_S: Final = 0.15
"""How late each piece comes over a slow line."""
STEP_NS: Final = 3 * times.NANOS
"""How far the clock of the gateway is put off."""
ANSWER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class How:
    """Of a fault that can be done in more than one way, or takes its time to be done."""

    way: str
    began: int
    """ns since 1970."""


if TYPE_CHECKING:
    Action = Callable[[Rig], AbstractAsyncContextManager[How | None]]


@dataclass(frozen=True, slots=True)
class Done:
    """One fault as it was: ns since 1970."""

    kind: str
    began: int
    ended: int
    """When it was undone; of a kill, when the process was ready again."""
    note: str = ""
    """Why it was not done; empty when it was."""
    how: str = ""
    """In which way, where there is more than one."""


@asynccontextmanager
async def _broker_killed(there: Rig) -> AsyncIterator[None]:
    """As `killed`, at a moment at which it holds nothing for us."""
    await _empty(there, DEVICE)
    async with killed(there, "broker"):
        yield


@asynccontextmanager
async def _power_cut(there: Rig, *others: str) -> AsyncIterator[How]:
    """Everything ends at once, and the disk has what was durable; the plant and its log go on.

    What Redis had is gone. So is what the broker had, where it is one of the `others` that end too.
    """
    if there.power is None:
        raise AbsentError(there.left_out)
    # An API that does not answer now has confirmed nothing.
    with suppress(OSError):
        await there.caller.log_in()
    if others:
        await _empty(there, DEVICE)
    names = (*BOX, REDIS, *others)
    restarts = {name: there.status(name).restarts for name in names}
    pids = {pid for name in names for pid in members(pid_of(there, name))}
    async with there.quiet():
        began = times.now()
        for name in others:
            tell(members(pid_of(there, name)), signal.SIGSTOP)
            _forget(there.settings.data_dir / name)
        try:
            way = await asyncio.to_thread(there.power.cut, pids, there.engine.dispose)
        except BlindError as error:
            raise AbsentError(str(error)) from error
    yield How(way, began)
    await back(there, restarts)


def _forget(folder: Path) -> None:
    """What a broker has written down of sessions and messages (mosquitto.conf(5), persistence_file)."""
    for path in folder.glob("*.db*"):
        path.unlink()


async def _empty(there: Rig, *connections: str) -> None:
    """Wait until the gateway has taken what its peers have: what they then forget was on its way, and no more."""
    deadline = time.monotonic() + EMPTY_S
    while time.monotonic() < deadline:
        if all([await there.ask(partial(_arrives, connection=name)) for name in connections]):
            return
        await asyncio.sleep(LOOK_S)
    message = "the gateway has not taken yet what its peers hold"
    raise AbsentError(message)


def _arrives(engine: Engine, connection: str) -> bool:
    """Whether readings of this connection arrive as they are stamped."""
    try:
        arrived, stamped = queries.arrival(engine, connection)
    except UnreachableError:
        return False
    return arrived - stamped < FRESH_NS and times.now() - arrived < LATE_NS


@asynccontextmanager
async def _cut(there: Rig, line: Callable[[Rig], Gate]) -> AsyncIterator[None]:
    """Every connection is broken, and none is taken."""
    gate = line(there)
    await gate.cut()
    try:
        yield
    finally:
        await gate.start()


@asynccontextmanager
async def _silent(there: Rig, line: Callable[[Rig], Gate]) -> AsyncIterator[None]:
    """Nothing is closed and nothing passes, as when a switch has lost its power."""
    gate = line(there)
    gate.freeze()
    try:
        yield
    finally:
        gate.thaw()


@asynccontextmanager
async def _slow(there: Rig, line: Callable[[Rig], Gate]) -> AsyncIterator[None]:
    """All of it passes, late."""
    gate = line(there)
    gate.delay_s = SLOW_S
    try:
        yield
    finally:
        gate.delay_s = 0.0


@asynccontextmanager
async def _flushed(there: Rig) -> AsyncIterator[None]:
    """Redis forgets everything and goes on."""
    at = urlsplit(there.stack.redis_url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(command("AUTH", at.password or "") + command("FLUSHALL"))
    expected = b"+OK\r\n+OK\r\n"
    try:
        if await asyncio.wait_for(reader.readexactly(len(expected)), ANSWER_S) != expected:
            message = "Redis has not flushed"
            raise AbsentError(message)
    finally:
        writer.close()
    yield


@asynccontextmanager
async def _locked(there: Rig) -> AsyncIterator[None]:
    """Somebody else holds SQLite's write lock, as a backup or a person with a shell may."""
    path = there.settings.database().removeprefix("sqlite:///")
    holder = await asyncio.to_thread(sqlite3.connect, path, timeout=ANSWER_S, check_same_thread=False)
    try:
        holder.isolation_level = None
        try:
            await asyncio.to_thread(holder.execute, "BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise AbsentError(str(error)) from error
        yield
        holder.execute("ROLLBACK")
    finally:
        holder.close()


@asynccontextmanager
async def _sync_fails(there: Rig) -> AsyncIterator[None]:
    """The disk of the gateway reports an error to each fsync."""
    with _told(there, 0, sync_fails=True):
        yield


@asynccontextmanager
async def _clock(there: Rig, ahead_ns: int) -> AsyncIterator[None]:
    """The clock of the gateway steps, and later back; while its connections stand, or its gaps would be told wrong."""
    await _empty(there, PROCESS, DEVICE)
    with _told(there, ahead_ns):
        yield


@contextmanager
def _told(there: Rig, ahead_ns: int, *, sync_fails: bool = False) -> Iterator[None]:
    if there.preload is None:
        raise AbsentError(there.left_out)
    there.preload.tell(ahead_ns, sync_fails=sync_fails)
    try:
        yield
    finally:
        there.preload.tell()


def _database(there: Rig) -> Gate:
    if there.ways.database is None:
        message = "there is no line to this database"
        raise AbsentError(message)
    return there.ways.database


_PROCESS_OF: Final = {"database": "postgres"}
_LINES: Final[dict[str, Callable[[Rig], Gate]]] = {
    "database": _database,
    "broker_line": lambda there: there.ways.broker,
    "device_line": lambda there: there.ways.device,
    "server_line": lambda there: there.ways.server,
}
_OF_PROCESS: Final = {"killed": killed, "stopped": stopped, "disk_full": disk_full}
_OF_LINE: Final = {"cut": _cut, "refuses": _cut, "silent": _silent, "slow": _slow}
_OTHERS: Final[dict[str, Action]] = {
    "gateway_killed_when_full": killed_when_full,
    "broker_killed": _broker_killed,
    "redis_flushed": _flushed,
    "database_locked": _locked,
    "gateway_fsync_fails": _sync_fails,
    "gateway_clock_ahead": partial(_clock, ahead_ns=STEP_NS),
    "gateway_clock_behind": partial(_clock, ahead_ns=-STEP_NS),
    "power_cut": _power_cut,
    "power_cut_with_broker": lambda there: _power_cut(there, BROKER),
}


def action(kind: str) -> Action:
    """What does a fault of this kind. KeyError for one that nobody can do."""
    if kind in _OTHERS:
        return _OTHERS[kind]
    for does, of_process in _OF_PROCESS.items():
        if kind.endswith(f"_{does}"):
            name = kind.removesuffix(f"_{does}")
            return partial(of_process, name=_PROCESS_OF.get(name, name))
    of, _, does = kind.rpartition("_")
    return partial(_OF_LINE[does], line=_LINES[of])


ACTIONS: Final = {one.name: action(one.name) for one in KINDS}


class Holds:
    """Who has hold of what: the schedule keeps faults apart by the clock, but a slow host takes longer than that."""

    def __init__(self) -> None:
        """Nobody has anything."""
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def taken(self, names: Iterable[str]) -> AsyncIterator[None]:
        """All of these, as soon as they are free. Raises AbsentError where that takes too long."""
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(HELD_S):
                    # Always in the same order: nobody waits in a circle.
                    for name in sorted(names):
                        await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            except TimeoutError as error:
                message = "an earlier fault still holds what it takes"
                raise AbsentError(message) from error
            yield


async def pulled(there: Rig, faults: Iterable[Fault], tell: Callable[[Done], None]) -> list[Done]:
    """Do all of them at their times, counted from now, or a little later; `tell` hears of each that is over."""
    began, holds = time.monotonic(), Holds()
    found: list[Done] = []

    def over(done: Done) -> None:
        found.append(done)
        tell(done)

    async def one(fault: Fault) -> None:
        await _until(began + fault.begins_s)
        try:
            async with holds.taken(BY_NAME[fault.kind].holds):
                over(await _done(there, fault))
                await asyncio.sleep(BY_NAME[fault.kind].settles_s)
        except AbsentError as error:
            over(Done(fault.kind, times.now(), times.now(), str(error)))

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            group.create_task(one(fault))
    return sorted(found, key=lambda each: each.began)


async def _done(there: Rig, fault: Fault) -> Done:
    """Raises AbsentError when it cannot be done now."""
    async with ACTIONS[fault.kind](there) as how:
        since = how.began if how else times.now()
        await asyncio.sleep(fault.ends_s - fault.begins_s)
    return Done(fault.kind, since, times.now(), how=how.way if how else "")


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
