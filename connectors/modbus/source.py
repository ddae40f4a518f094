"""The Source of a Modbus connection: tags grouped by beat and address, and a poll that outlives a cancelled read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from connectors import Batch, ConnectionConfig, NotConnectedError, TagBinding
from connectors._continuity import Continuity
from connectors.modbus.options import Options
from connectors.modbus.session import Groups, Session
from connectors.modbus.values import Point, Span

MOST_TAGS: Final = 20_000


class ModbusSource:
    """Changes of coils and registers.

    Reports by exception: a batch has what differs from the poll before, bit by bit or in its status, and all of it
    after connecting and every `refresh_s`. A tag without a row is unchanged as far as its own beat can tell.
    """

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. ValueError for options or addresses that are wrong or do not fit together."""
        self._options = Options.model_validate(config.options)
        self._config = config
        self._groups = _grouped(config.tags, self._options)
        self._session: Session | None = None
        self._polling: asyncio.Task[Batch] | None = None
        self._ready: deque[Batch] = deque()
        self._continuity = Continuity()

    async def connect(self) -> None:
        """Open a connection. Raises NotConnectedError, NotInstalledError."""
        await self.close()
        self._session = Session(self._options, self._groups, self._config.revision)
        try:
            await self._session.open()
            # What a device has changed while nobody asked, it does not tell.
            self._continuity.connected(took_up=False)
        except BaseException:
            await self.close()
            raise

    async def read(self) -> Batch:
        """What has changed at the next beat; an empty batch is a heartbeat. NotConnectedError when it is lost.

        A poll goes on when the read that began it is cancelled, and the next read has its result: a request that is
        under way cannot be taken back.
        """
        if self._session is None:
            message = "not connected"
            raise NotConnectedError(message)
        if self._ready:
            return replace(self._ready.popleft(), continues=self._continuity.say())
        if self._polling is None:
            self._polling = asyncio.create_task(self._session.poll())
        batch = await asyncio.shield(self._polling)
        self._polling = None
        return replace(batch, continues=self._continuity.say())

    async def rebind(self, config: ConnectionConfig) -> bool:
        """See `connectors.Rebindable`. Groups of new and changed tags are read at once, the others at their beat."""
        groups = _grouped(config.tags, self._options)
        session, before = self._session, {tag.id: tag for tag in self._config.tags}
        if session is None:
            return False
        polling, self._polling = self._polling, None
        if polling is not None and (session.asking or polling.done()):
            self._ready.append(await polling)
        elif polling is not None:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        session.rebind(groups, config.revision, {tag.id for tag in config.tags if before.get(tag.id) != tag})
        self._config, self._groups = config, groups
        return True

    async def close(self) -> None:
        """Let go of the device. Safe to call twice."""
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        self._ready.clear()
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _grouped(tags: Sequence[TagBinding], options: Options) -> Groups:
    """ValueError for too many tags, or for one that cannot be."""
    if len(tags) > MOST_TAGS:
        message = f"a Modbus connection has at most {MOST_TAGS} tags: make several of it"
        raise ValueError(message)
    groups: dict[str | None, dict[Span, list[Point]]] = {}
    for tag in tags:
        point = Point.of(tag, options)
        groups.setdefault(point.options.group, {}).setdefault(point.span, []).append(point)
    return groups or {None: {}}
