"""Says once that something is away, and once that it is back."""

from __future__ import annotations

import asyncio
from typing import Final

from app.field.backoff import Backoff
from app.log import get_logger

log = get_logger(__name__)

OUTAGE_CAP_S: Final = 5.0
"""The longest wait between two tries."""


class Outage:
    """Says once that something is away and once that it is back."""

    def __init__(self, lost: str, back: str, cap_s: float = OUTAGE_CAP_S) -> None:
        """`lost`, `back`: log events; `cap_s`: the longest wait between two tries."""
        self._lost, self._back = lost, back
        self._away = False
        self._backoff = Backoff(cap_s, first_s=0.2)

    @property
    def away(self) -> bool:
        """Whether it does not answer."""
        return self._away

    async def wait(self, error: Exception) -> None:
        """It did not answer: say so if it is new, and wait a little."""
        if not self._away:
            log.warning(self._lost, reason=f"{type(error).__name__}: {error.__cause__ or error}")
        self._away = True
        await asyncio.sleep(self._backoff.next_s())

    def over(self) -> None:
        """It answered."""
        if self._away:
            log.info(self._back)
            self._backoff.reset()
        self._away = False
