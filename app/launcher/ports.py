"""Free ports of 127.0.0.1, held so that no one else is given them while a server starts, dies and starts again."""

from __future__ import annotations

import socket
import sys
from types import TracebackType
from typing import Self


class Port:
    """A port kept bound, never listening, until `close`.

    On Linux a server that sets SO_REUSEADDR, as all of ours do, binds beside such a socket, while the kernel gives the
    port to nobody who asks for any port. Elsewhere the port is let go at once and a stranger may take it.
    """

    def __init__(self, wanted: int = 0) -> None:
        """Hold `wanted` where nobody listens on it, else any free port."""
        self._socket = _bound(wanted) or _bound(0)
        if self._socket is None:
            message = "there is no free port on 127.0.0.1"
            raise OSError(message)
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of it."""
        self.close()


def _bound(number: int) -> socket.socket | None:
    if number and _somebody_listens(number):
        return None
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(("127.0.0.1", number))
    except OSError:
        holder.close()
        return None
    return holder


def _somebody_listens(number: int) -> bool:
    """Listening is what two sockets cannot do on one port; one that lingers after its end does not count."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", number))
            trial.listen(1)
        except OSError:
            return True
    return False
