"""Kills what a supervisor leaves behind when it dies: run by its path, standard library only, never imported.

Reads `+GROUP` and `-GROUP` lines on standard input; when that ends, the supervisor is gone, and every process group
still on the list is killed. The kernel kills a dead parent's children; only this reaches its grandchildren.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Keep the list until the supervisor is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
