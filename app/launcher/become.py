"""Becomes another program that dies with its parent: run by its path, standard library only, never imported."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
COMMAND_NOT_FOUND = 127


def prepare_to_die_with(parent: int) -> Callable[[], None]:
    """Load what is needed while we may still read it; what is returned makes the kernel kill us with `parent`.

    Linux only; elsewhere the reaper does it.
    """
    if sys.platform != "linux":
        return lambda: None
    import ctypes  # noqa: PLC0415 - only where there is a prctl to call

    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_it() -> None:
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"cannot follow the parent process: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:
            sys.exit("the parent process is gone already")

    return die_with_it


def main() -> None:
    """`become.py PARENT_PID UID GID COMMAND…`; an id of -1 stays as it is."""
    parent, uid, gid = (int(a) for a in sys.argv[1:4])
    command = sys.argv[4:]
    die_with_parent = prepare_to_die_with(parent)
    if gid >= 0:
        os.setgroups([gid])
        os.setgid(gid)
    if uid >= 0:
        os.setuid(uid)
    # After the change of user: the kernel forgets the order when credentials change.
    die_with_parent()
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell, and the command comes from our own parent
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        sys.exit(COMMAND_NOT_FOUND)


if __name__ == "__main__":
    main()
