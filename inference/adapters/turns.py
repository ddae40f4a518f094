"""One at a time, in the order in which they came: for a runtime that does not take two runs at once."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference import Tensor
    from inference.adapters.batching import Call


class Turns:
    """A lock that whoever waits longest gets next; a lock of the system gives no such promise."""

    def __init__(self) -> None:
        """Nobody has it."""
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            mine.acquire()
        except BaseException:
            # A signal that ends the wait must not take the turn with it.
            self._left(mine)
            raise

    def __exit__(self, *_: object) -> None:
        """Let the next one go."""
        with self._lock:
            self._pass_on()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def _left(self, mine: threading.Lock) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:
                self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._taken = False

    def call(self, made: Call) -> Call:
        """The same run, in its turn."""
        def taken(feeds: dict[str, Tensor]) -> list[Tensor]:
            with self:
                return made(feeds)

        return taken
