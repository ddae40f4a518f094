"""What a process and its descendants use, from /proc (proc(5), /proc/pid/stat); zero where there is no /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PROC: Final = Path("/proc")
PARENT: Final = 1
GROUP: Final = 2
CPU: Final = slice(11, 15)
"""utime, stime, and the same of children that have ended, in clock ticks; counted from the field after the name."""
RSS: Final = 21


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and memory held now."""

    cpu_s: float
    rss_bytes: int


def of_groups(groups: Iterable[int]) -> dict[int, Usage]:
    """Of each group, the sum over its processes and all that descend from it; all as of one look."""
    processes = _all()
    return {group: _of_group(processes, group) for group in groups}


def _of_group(processes: Mapping[int, Sequence[str]], group: int) -> Usage:
    found = [processes[pid] for pid in _members(processes, group)]
    ticks = sum(int(n) for fields in found for n in fields[CPU])
    pages = sum(int(fields[RSS]) for fields in found)
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def members(group: int) -> set[int]:
    """The processes of a group and all that descend from it; empty where there is no /proc."""
    return _members(_all(), group)


def _members(processes: Mapping[int, Sequence[str]], group: int) -> set[int]:
    """PostgreSQL's children each lead a group of their own."""
    found = {pid for pid, fields in processes.items() if int(fields[GROUP]) == group}
    grown = True
    while grown:
        born = {pid for pid, fields in processes.items() if int(fields[PARENT]) in found} - found
        found |= born
        grown = bool(born)
    return found


def of_process(pid: int) -> Usage:
    """One process, with its children that have ended."""
    fields = _stat(PROC / str(pid) / "stat")
    if fields is None:
        return Usage(0.0, 0)
    return Usage(
        sum(int(n) for n in fields[CPU]) / os.sysconf("SC_CLK_TCK"), int(fields[RSS]) * os.sysconf("SC_PAGE_SIZE")
    )


def _all() -> dict[int, list[str]]:
    """By process id."""
    folders = [one for one in PROC.iterdir() if one.name.isdecimal()] if PROC.exists() else []
    return {int(one.name): fields for one in folders if (fields := _stat(one / "stat")) is not None}


def _stat(path: Path) -> list[str] | None:
    """The fields after the name, which may hold anything; None when the process has gone meanwhile."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return None
