"""Which process this is, and whether one that left its name somewhere still lives."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

PROC = Path("/proc")
_STARTED = 19
"""Place of a process's start time among what follows its name in /proc/PID/stat (proc(5), field 22)."""


def me() -> str:
    """The name of this process: host, process id and when it was started, in ticks since the boot."""
    return _name(os.getpid())


def parent() -> str:
    """The name of the process that started this one."""
    return _name(os.getppid())


@cache
def _host() -> str:
    """Of this boot: process ids begin anew with each."""
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()[:60]}/{boot[:8]}"


def _name(pid: int) -> str:
    return f"{_host()}:{pid}:{_started(pid)}"


def _started(pid: int) -> str:
    """Empty when there is no such process."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The name may hold spaces and brackets; what follows its last bracket does not.
    rest = stat.rpartition(")")[2].split()
    return "" if rest[0] == "Z" else rest[_STARTED]


def is_gone(name: str) -> bool | None:
    """Whether the process of this name is; None when that cannot be told, because it ran on another host."""
    host, _, rest = name.partition(":")
    pid = rest.partition(":")[0]
    if host.rpartition("/")[0] != _host().rpartition("/")[0]:
        return None
    return not pid.isdecimal() or name != _name(int(pid))
