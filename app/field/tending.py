"""What an operator tends, certificates above all: looked after while connected, waited for when the peer refused."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from app.log import get_logger
from connectors import Tended

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

LOOK_S: Final = 2.0
"""Between two looks; each costs the connector a look at a few files."""
AGAIN_S: Final = 24 * 3600.0
"""What the operator was told is told again so often."""


class Tending:
    """Of one source or sink; of one that is not `Tended` there is nothing to tell and nothing to wait for."""

    def __init__(
        self,
        peer: object,
        tell: Callable[[str], None],
        *,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell` is given each note once a day. `clock`: seconds."""
        self._peer = peer if isinstance(peer, Tended) else None
        self._tell = tell
        self._look_s = look_s
        self._clock = clock
        self._due = 0.0
        self._told: dict[str, float] = {}
        self.notes: tuple[str, ...] = ()
        """What the operator should know now."""

    def begin(self) -> None:
        """A connection was made: the next look is due."""
        self._due, self.notes = 0.0, ()

    async def look(self) -> None:
        """Look after it if that is due. Raises what `Tended.tend` does."""
        now = self._clock()
        if self._peer is None or now < self._due:
            return
        self._due = now + self._look_s
        self.notes = await asyncio.to_thread(self._peer.tend)
        self._told = {note: at for note, at in self._told.items() if note in self.notes and now - at < AGAIN_S}
        for note in self.notes:
            if note not in self._told:
                self._told[note] = now
                self._tell(note)

    async def mended(self) -> bool:
        """Wait until another try is worth while; False at once when it never will be."""
        self.notes = ()
        if self._peer is None:
            return False
        # A person or another machine mends it: there is no event to wait for.
        while not await asyncio.to_thread(self._peer.mended):  # noqa: ASYNC110
            await asyncio.sleep(self._look_s)
        return True
