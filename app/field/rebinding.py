"""Other tags for a connection that stands: asked for by the follower, done by the runner between two reads."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from connectors import Rebindable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.sources.service import Connection
    from connectors import Batch, ConnectionConfig, Source

WITHIN_S: Final = 30.0
"""A peer that takes longer is connected to anew, which has its own limits."""


class Rebinding:
    """Of one runner. Without effect on a source that is not `Rebindable`."""

    def __init__(self) -> None:
        """Nothing is connected yet."""
        self._source: Rebindable | None = None
        self._asked: tuple[ConnectionConfig, asyncio.Future[bool]] | None = None
        self._waiting: asyncio.Timeout | None = None

    @contextmanager
    def possible(self, source: Source) -> Iterator[None]:
        """As long as this source is connected."""
        self._source = source if isinstance(source, Rebindable) else None
        try:
            yield
        finally:
            self._source = None
            self._answer(done=False)

    async def ask(self, before: Connection, after: Connection) -> bool:
        """Whether the source reads the tags of `after` from now on; False when it has to be connected anew for that."""
        if self._source is None or not only_tags_differ(before, after):
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked = after.config, answer
        if self._waiting is not None:
            # A peer may be silent for hours: the read that waits for it is cancelled, and begun again afterwards.
            self._waiting.reschedule(asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(WITHIN_S):
                return await answer
        except TimeoutError:
            self._asked = None
            return False

    async def read(self, source: Source) -> Batch:
        """The source's next batch; what was asked for meanwhile is done before it. Raises what the source does."""
        while True:
            await self._rebind()
            waiting = self._waiting = asyncio.timeout(None)
            try:
                async with waiting:
                    return await source.read()
            except TimeoutError:
                if not waiting.expired():
                    raise
            finally:
                self._waiting = None

    async def _rebind(self) -> None:
        if self._asked is None or self._source is None:
            return
        done = False
        try:
            done = await self._source.rebind(self._asked[0])
        except ValueError:
            # A tag that cannot be: a new source will say which.
            done = False
        finally:
            self._answer(done=done)

    def _answer(self, *, done: bool) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and not asked[1].done():
            asked[1].set_result(done)


def only_tags_differ(before: Connection, after: Connection) -> bool:
    """Whether one can be made of the other by reading other tags."""
    config = replace(after.config, tags=before.config.tags, revision=before.config.revision)
    return not after.problem and replace(after, config=config) == before
