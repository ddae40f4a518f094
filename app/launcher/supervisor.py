"""The parent of a box's processes: starts in order, restarts what dies, stops in reverse, leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from app.launcher import usage
from app.launcher.logfile import LogFile
from app.launcher.process import Child, LaunchError, Process, Reaper

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 30.0
STEADY_S: Final = 30.0
"""A process that ran so long had no trouble starting: its next delay is the first one again."""
LOOK_S: Final = 5.0
"""Between two looks at the size of the log files."""

PROCESS_DIED: Final = "process_died"
PROCESS_BACK: Final = "process_back"
PROCESS_NOT_BACK: Final = "process_not_back"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Status:
    """How one process is."""

    name: str
    state: str
    """waiting, starting, ready, restarting, done (a one-shot that ended well) or stopped."""
    pid: int | None
    restarts: int
    ready_s: float | None
    """From the supervisor's start until it first answered, in seconds."""
    cpu_s: float
    """Used by the process group of the present run, in seconds."""
    rss_bytes: int


@dataclass(slots=True)
class _Kept:
    """What the supervisor knows of one process."""

    process: Process
    log: LogFile
    ready: asyncio.Event
    state: str = "waiting"
    child: Child | None = None
    restarts: int = 0
    ready_s: float | None = None
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Runs processes. Use it as an async context: entering waits until all are ready, leaving stops all."""

    def __init__(
        self, processes: Iterable[Process], log_dir: Path, on_ready: Callable[[str, float], None] | None = None
    ) -> None:
        """`on_ready` is told each process's name and its seconds when it first answers."""
        listed = list(processes)
        self._order = _ordered(listed)
        self._kept = {p.name: _Kept(p, LogFile(log_dir / f"{p.name}.log"), asyncio.Event()) for p in listed}
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._failed: asyncio.Future[None] | None = None
        self._reaper: Reaper | None = None
        self._looker: asyncio.Task[None] | None = None
        self._began = 0.0

    async def start(self) -> None:
        """Start all; return when all are ready. Raises LaunchError, with nothing left running, when one is not."""
        self._began = time.monotonic()
        self._reaper = Reaper()
        self._failed = asyncio.get_running_loop().create_future()
        self._looker = asyncio.create_task(self._look_at_logs())
        for kept in self._kept.values():
            kept.task = asyncio.create_task(self._keep(kept))
        all_ready = asyncio.create_task(self._until_all_ready())
        try:
            await asyncio.wait((all_ready, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
        except BaseException:
            await self.stop()
            raise
        finally:
            all_ready.cancel()

    async def stop(self) -> None:
        """Stop all, those last that others need. Safe to call twice."""
        self._stopping.set()
        for name in reversed(self._order):
            await self._end(self._kept[name])
        if self._looker is not None:
            self._looker.cancel()
        if self._reaper is not None:
            await asyncio.to_thread(self._reaper.close)
            self._reaper = None

    async def __aenter__(self) -> Self:
        """Start all."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Stop all."""
        await self.stop()

    def status(self) -> tuple[Status, ...]:
        """Every process, in the order of the start."""
        pids = [one.child.pid for one in self._kept.values() if one.child is not None]
        used = usage.of_groups(pids)
        return tuple(self._status(self._kept[name], used) for name in self._order)

    async def _until_all_ready(self) -> None:
        for kept in self._kept.values():
            await kept.ready.wait()

    def _status(self, kept: _Kept, used: Mapping[int, usage.Usage]) -> Status:
        pid = kept.child.pid if kept.child is not None else None
        mine = usage.Usage(0.0, 0) if pid is None else used[pid]
        return Status(kept.process.name, kept.state, pid, kept.restarts, kept.ready_s, mine.cpu_s, mine.rss_bytes)

    async def _keep(self, kept: _Kept) -> None:
        for name in kept.process.after:
            await self._kept[name].ready.wait()
        try:
            await self._first_run(kept)
        except (LaunchError, OSError) as error:
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error if isinstance(error, LaunchError) else LaunchError(str(error)))
            return
        if not kept.process.one_shot:
            await self._again_and_again(kept)

    async def _first_run(self, kept: _Kept) -> None:
        await self._run(kept, "starting")
        kept.ready_s = time.monotonic() - self._began
        kept.ready.set()
        if self._on_ready is not None:
            self._on_ready(kept.process.name, kept.ready_s)

    async def _again_and_again(self, kept: _Kept) -> None:
        delay = FIRST_DELAY_S
        while True:
            since = time.monotonic()
            code = await self._over(kept)
            if self._stopping.is_set():
                return
            delay = FIRST_DELAY_S if time.monotonic() - since > STEADY_S else delay
            kept.restarts += 1
            kept.state = "restarting"
            _log.warning(PROCESS_DIED, process=kept.process.name, code=code, again_in_s=round(delay, 1))
            if await self._told_to_stop_within(delay):
                return
            delay = min(2 * delay, LONGEST_DELAY_S)
            await self._run_again(kept)

    async def _over(self, kept: _Kept) -> int | None:
        """Wait for the end of the present run; None when there is none because it could not start."""
        if kept.child is None:
            return None
        code = await kept.child.wait()
        kept.child = None
        return code

    async def _run_again(self, kept: _Kept) -> None:
        try:
            await self._run(kept, "restarting")
            _log.info(PROCESS_BACK, process=kept.process.name, restarts=kept.restarts)
        except (LaunchError, OSError) as error:
            _log.warning(PROCESS_NOT_BACK, process=kept.process.name, error=str(error))
            if kept.child is not None:
                kept.child.kill()

    async def _run(self, kept: _Kept, state: str) -> None:
        if self._reaper is None:
            return
        kept.state = state
        kept.child = await Child.start(kept.process, kept.log, self._reaper)
        await kept.child.until_ready()
        if kept.process.one_shot:
            await self._over(kept)
        kept.state = "done" if kept.process.one_shot else "ready"

    async def _told_to_stop_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _end(self, kept: _Kept) -> None:
        if kept.task is not None:
            kept.task.cancel()
            await asyncio.wait((kept.task,))
        if kept.child is not None:
            await kept.child.stop()
            kept.child = None
        kept.state = kept.state if kept.state == "done" else "stopped"

    async def _look_at_logs(self) -> None:
        while not await self._told_to_stop_within(LOOK_S):
            for kept in self._kept.values():
                kept.log.bound()


def _ordered(processes: list[Process]) -> list[str]:
    """Names, each after those it needs. ValueError for a name twice, one that is not there, or a circle."""
    names = [p.name for p in processes]
    if len(set(names)) != len(names):
        message = f"two processes have one name: {names}"
        raise ValueError(message)
    order: list[str] = []
    left = list(processes)
    while left:
        free = [p for p in left if all(name in order for name in p.after)]
        if not free:
            message = f"these wait for each other or for one that is not there: {[p.name for p in left]}"
            raise ValueError(message)
        order += [p.name for p in free]
        left = [p for p in left if p not in free]
    return order
