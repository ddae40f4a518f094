"""Where a child says that it serves: the other end of `app.notify`, as systemd has it (sd_notify(3))."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"
MAX_BYTES: Final = 512


class Notice:
    """A datagram socket of one run of one child."""

    def __init__(self) -> None:
        """Listens at once, at a name that nobody can guess."""
        name = f"headrace-{secrets.token_hex(8)}"
        self._path = None if sys.platform == "linux" else Path(tempfile.gettempdir()) / name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._socket.bind(f"\0{name}" if self._path is None else str(self._path))
        self.address: str = f"@{name}" if self._path is None else str(self._path)
        self._arrived = False

    async def arrived(self) -> bool:
        """Whether the child has said READY=1; a probe."""
        with contextlib.suppress(BlockingIOError):
            while not self._arrived:
                self._arrived = b"READY=1" in self._socket.recv(MAX_BYTES).splitlines()
        return self._arrived

    def close(self) -> None:
        """Listen no more. Safe to call twice."""
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
