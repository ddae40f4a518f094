"""One child process: how it is described, started in a group of its own, found ready, measured and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from app.launcher.notice import VARIABLE, Notice
from app.settings import inherited

if TYPE_CHECKING:
    from app.launcher.logfile import LogFile

HERE: Final = Path(__file__).parent
POLL_S: Final = 0.05
"""Between two questions whether a process answers yet."""
GROUP_GONE_S: Final = 2.0
"""How long the rest of a killed group may take to leave."""

Probe = Callable[[], Awaitable[bool]]
"""Asks a process whether it serves; False or an OSError means not yet."""


class LaunchError(Exception):
    """A process or server cannot be started. The message says which, what it said last, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group a process runs as, when it must not run as ours."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Process:
    """What is to run. `command[0]` is an absolute path; `environment` is added to what we inherited."""

    name: str
    command: tuple[str, ...]
    ready: Probe | None = None
    """None: ready as soon as it runs, or, for a one-shot, when it has ended well."""
    notifies: bool = False
    """It says by `app.notify` when it serves, and is ready then."""
    after: tuple[str, ...] = ()
    """Names of processes that must be ready first."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    directory: Path | None = None
    account: Account | None = None
    one_shot: bool = False
    """Runs once to its end, at the start; an exit code other than 0 stops the start."""
    ready_within_s: float = 60.0
    stop_within_s: float = 8.0
    stop_signal: signal.Signals = signal.SIGTERM


class Reaper:
    """The helper process that kills our groups when we die; see `reaper.py`."""

    def __init__(self) -> None:
        """Starts it."""
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", "-S", str(HERE / "reaper.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )

    def watch(self, group: int) -> None:
        """Put a group on the list."""
        self._say(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Take a group off the list: nothing of it is left."""
        self._say(f"-{group}\n")

    def close(self) -> None:
        """End it; whatever is on the list then is killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        if self._process.stdin is not None:
            # A reaper that was killed cannot help; the kernel's own rule for direct children stands.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line.encode())


class Child:
    """One run of a process, from its start to its end."""

    def __init__(
        self, process: Process, running: asyncio.subprocess.Process, log: LogFile, mark: int, notice: Notice | None
    ) -> None:
        """Use `start`."""
        self.process = process
        self._running = running
        self._log = log
        self._mark = mark
        self._notice = notice
        self._reaper: Reaper | None = None

    @classmethod
    async def start(cls, process: Process, log: LogFile, reaper: Reaper) -> Child:
        """Run it in a session and group of its own, its output into the log."""
        account = process.account or Account(-1, -1)
        become = (
            sys.executable,
            "-I",
            "-S",
            str(HERE / "become.py"),
            str(os.getpid()),
            str(account.uid),
            str(account.gid),
        )
        notice = Notice() if process.notifies else None
        mark = log.mark()
        with log.opened() as output:
            running = await asyncio.create_subprocess_exec(
                *become,
                *process.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=process.directory,
                env=_environment(process, notice),
                start_new_session=True,
            )
        reaper.watch(running.pid)
        child = cls(process, running, log, mark, notice)
        child._reaper = reaper
        return child

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._running.pid

    async def until_ready(self) -> None:
        """Return when it serves, or when a one-shot has ended well. Raises LaunchError when that does not come."""
        if self.process.one_shot:
            await self._until_done()
            return
        if self._notice is not None:
            await self._until_answered(self._notice.arrived)
        if self.process.ready is not None:
            await self._until_answered(self.process.ready)

    async def wait(self) -> int:
        """Its exit code, once it and all of its group are gone."""
        code = await self._running.wait()
        self._kill_group()
        await self._until_group_gone()
        if self._reaper is not None:
            self._reaper.forget(self.pid)
        if self._notice is not None:
            self._notice.close()
        return code

    async def stop(self) -> None:
        """Ask it to stop, kill it after `stop_within_s`, and leave nothing of its group."""
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(self.process.stop_signal)
        try:
            await asyncio.wait_for(asyncio.shield(self._running.wait()), self.process.stop_within_s)
        except TimeoutError:
            self._kill_group()
        await self.wait()

    def kill(self) -> None:
        """Kill the whole group at once."""
        self._kill_group()

    async def _until_done(self) -> None:
        try:
            code = await asyncio.wait_for(asyncio.shield(self._running.wait()), self.process.ready_within_s)
        except TimeoutError as error:
            raise LaunchError(self._told(f"has not ended after {self.process.ready_within_s:g} s")) from error
        if code != 0:
            raise LaunchError(self._told(f"ended with code {code}"))

    async def _until_answered(self, probe: Probe) -> None:
        deadline = time.monotonic() + self.process.ready_within_s
        while time.monotonic() < deadline:
            if self._running.returncode is not None:
                raise LaunchError(self._told(f"ended with code {self._running.returncode} before it was ready"))
            if await _asked(probe) and self._running.returncode is None:
                return
            await asyncio.sleep(POLL_S)
        raise LaunchError(self._told(f"does not answer after {self.process.ready_within_s:g} s"))

    def _told(self, what: str) -> str:
        last = self._log.last_lines(self._mark)
        said = f"; its last lines (all are in {self._log.path}):\n{last}" if last else f"; its log is {self._log.path}"
        return f"{self.process.name} {what}{said}"

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _until_group_gone(self) -> None:
        """A killed process stays in its group until it is reaped, by init where its parent is gone."""
        deadline = time.monotonic() + GROUP_GONE_S
        while _exists(self.pid) and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(POLL_S / 10)


def _environment(process: Process, notice: Notice | None) -> dict[str, str]:
    """What we inherited, but for our own socket to systemd, and the process's own variables."""
    own = {} if notice is None else {VARIABLE: notice.address}
    return {name: value for name, value in inherited().items() if name != VARIABLE} | dict(process.environment) | own


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _asked(probe: Probe) -> bool:
    try:
        return await probe()
    except (OSError, EOFError):
        return False
