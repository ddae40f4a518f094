"""How long to wait before the next try: full jitter, so that many who lost the same peer do not come back together."""

from __future__ import annotations

import random
from typing import Final

FIRST_S: Final = 1.0
"""The first try again comes within this."""


class Backoff:
    """Waits that grow from a second to a cap, each drawn evenly between 0 and its bound."""

    def __init__(self, cap_s: float, first_s: float = FIRST_S) -> None:
        """`cap_s`: the longest wait, seconds."""
        self._cap = cap_s
        self._first = first_s
        self._bound = first_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        wait = random.uniform(0, min(self._bound, self._cap))  # noqa: S311 - nothing secret depends on it
        self._bound = min(self._bound * 2, self._cap)
        return wait

    def reset(self) -> None:
        """It worked: begin anew."""
        self._bound = self._first
