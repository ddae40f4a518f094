"""One connection's life: connect, read, journal, acknowledge; wait and try again when it is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import connectors
from app.field.backoff import Backoff
from app.field.rebinding import Rebinding
from app.field.repeats import Repeats
from app.field.tending import Tending
from app.journal import JournalError
from app.log import (
    CONNECTION_BACK,
    CONNECTION_ENDED,
    CONNECTION_FAILED,
    CONNECTION_GAP,
    CONNECTION_LOST,
    CONNECTION_NOTE,
    CONNECTION_REBOUND,
    CONNECTION_REFUSED,
    CONNECTION_UP,
    get_logger,
)
from app.places import Places
from app.records import to_record
from app.times import NANOS, now, rfc3339
from connectors import ConnectorError, EndOfInput, NotConnectedError, NotInstalledError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.field.filling import Filling
    from app.journal import Position
    from app.records import Record
    from app.sources.service import Connection
    from connectors import Batch, Connector, Source

    Load = Callable[[str], Connector]

log = get_logger(__name__)

LAPSED: Final = "its lease was not renewed in time: another gateway may read it"
EDGE_NS: Final = NANOS
"""A gap begins so long before the last sign of life: what was stamped just before that was perhaps still on its way, in
the peer or in the line, while we were too busy to look."""
CLOSE_S: Final = 5.0
"""A peer that does not let go in this time is left behind."""


@dataclass(slots=True)
class Standing:
    """How one connection stands; the runner writes it, the status reads it."""

    name: str
    state: str = "connecting"
    """connecting, connected, lost, refused, stopped, ended; standby: another gateway reads it."""
    error: str = ""
    notes: tuple[str, ...] = ()
    """What the operator should know though it works."""
    readings: int = 0
    """Taken since the gateway started."""
    reconnects: int = 0


class Runner:
    """Runs one source as long as its configuration stands."""

    def __init__(
        self,
        connection: Connection,
        append: Callable[[Record], Awaitable[Position]],
        standing: Standing,
        seen: Callable[[int, Record, Batch], None],
        *,
        load: Load = connectors.load,
        cap_s: float,
        repeats: Repeats | None = None,
        alive: Callable[[int], int] = lambda _: 0,
    ) -> None:
        """`append`: the journal's; `seen` is told of every durable batch; `load` finds a connector by its name.

        `repeats`: what the end of the journal has of this connection; `alive`: until when one was alive, by its id,
        as far as is known from before that (ns).
        """
        self._connection = connection
        self._append = append
        self._standing = standing
        self._seen = seen
        self._load = load
        self._repeats = repeats or Repeats()
        self._alive = alive
        self.mine: Callable[[], bool] = lambda: True
        """Whether no other gateway may read it."""
        self.places: Callable[[], Places] = Places
        """Of its tags, as they are now."""
        self.filling: Filling | None = None
        """Fills its gaps, if anybody does."""
        self._backoff = Backoff(cap_s)
        self._was_up = False
        self._rebinding = Rebinding()

    async def run(self) -> None:
        """Until the source ends, or refuses and nothing but another configuration helps."""
        name = self._connection.config.name
        if self._connection.problem:
            self._refused(self._connection.problem)
            return
        try:
            source = self._load(self._connection.connector).source(self._connection.config)
        except (KeyError, ValueError, NotInstalledError) as error:
            self._refused(str(error))
            return
        tending = Tending(source, lambda note: log.warning(CONNECTION_NOTE, connection=name, note=note))
        try:
            while await self._once(source, tending):
                await asyncio.sleep(self._backoff.next_s())
                self._standing.reconnects += 1
        finally:
            await self._close(source)
            if self._standing.state in {"connected", "connecting"}:
                self._standing.state = "stopped"
            log.debug(CONNECTION_ENDED, connection=name)

    async def rebind(self, connection: Connection) -> bool:
        """Read other tags over the connection that stands; False when it has to be started anew for that."""
        if not await self._rebinding.ask(self._connection, connection):
            return False
        self._connection = connection
        if self.filling is not None:
            self.filling.rebind(connection)
        config = connection.config
        log.info(CONNECTION_REBOUND, connection=config.name, revision=config.revision, tags=len(config.tags))
        return True

    async def _once(self, source: Source, tending: Tending) -> bool:
        """One connection from its opening to its loss; False when there must not be another."""
        try:
            await self._read(source, tending)
        except EndOfInput:
            self._standing.state = "ended"
            log.info(CONNECTION_ENDED, connection=self._connection.config.name)
            return False
        except (RefusedError, NotInstalledError) as error:
            self._refused(str(error))
            await self._close(source)
            self._backoff.reset()
            return await tending.mended()
        except (NotConnectedError, ConnectorError) as error:
            self._lost(str(error))
        except JournalError:
            raise
        except Exception as error:
            # The outermost loop of one connection: a fault in its connector must not stop the others.
            if self._standing.state != "lost":
                log.exception(CONNECTION_FAILED, connection=self._connection.config.name)
            self._standing.state = "lost"
            self._standing.error = f"{type(error).__name__}: {error}"
        await self._close(source)
        return True

    async def _read(self, source: Source, tending: Tending) -> None:
        self._check()
        await source.connect()
        await asyncio.to_thread(self._repeats.expect, self._connection.config.name)
        self._up()
        tending.begin()
        with self._rebinding.possible(source):
            if self.filling is None:
                await self._go_on(source, tending)
                return
            self.filling.begin(source)
            try:
                await self._go_on(source, tending)
            finally:
                await self.filling.end()

    async def _go_on(self, source: Source, tending: Tending) -> None:
        """Batch after batch, until the connection is lost."""
        while True:
            await tending.look()
            self._standing.notes = tending.notes + (self.filling.notes if self.filling is not None else ())
            await self._take(await self._rebinding.read(source))

    async def _take(self, batch: Batch) -> None:
        """Journal a batch, then acknowledge it; neither of it once another gateway may read."""
        self._check()
        fresh, since = self._repeats.without(batch), self._gap_since(batch)
        record = to_record(self._connection.id, fresh, since, places=self.places())
        # Before: it is journaled even when we are cancelled while we wait for that.
        self._repeats.note(record)
        await self._append(record)
        self._repeats.durable(record, now())
        if record.gap_since and self.filling is not None:
            self.filling.look()
        self._standing.readings += record.readings()
        self._seen(self._connection.id, record, batch)
        self._check()
        await batch.ack()
        self._backoff.reset()

    def _check(self) -> None:
        if not self.mine():
            raise NotConnectedError(LAPSED)

    def _gap_since(self, batch: Batch) -> int:
        """When the connection was last alive, if the batch does not take up there (ns); 0 when nothing is missing."""
        if batch.continues:
            return 0
        alive = max(self._repeats.alive_until, self._alive(self._connection.id), 0) or self._connection.stored_until
        since = max(0, alive - EDGE_NS) if alive < batch.received_time else 0
        if since:
            name, seconds = self._connection.config.name, (batch.received_time - since) / NANOS
            log.warning(CONNECTION_GAP, connection=name, seconds=round(seconds, 3), since=rfc3339(since))
        return since

    async def _close(self, source: Source) -> None:
        with suppress(ConnectorError, OSError, TimeoutError):
            # Not `wait_for`, which swallows a cancellation that comes when the source has just let go.
            async with asyncio.timeout(CLOSE_S):
                await source.close()

    def _up(self) -> None:
        lost = self._standing.state in {"lost", "refused"}
        self._standing.state, self._standing.error = "connected", ""
        if lost and self._was_up:
            log.info(CONNECTION_BACK, connection=self._connection.config.name)
        else:
            log.info(CONNECTION_UP, connection=self._connection.config.name)
        self._was_up = True

    def _lost(self, error: str) -> None:
        """One line when it is lost; the tries that follow are seen in the status."""
        self._standing.notes = ()
        if self._standing.state != "lost":
            log.warning(CONNECTION_LOST, connection=self._connection.config.name, reason=error)
        self._standing.state, self._standing.error = "lost", error

    def _refused(self, error: str) -> None:
        """One line for each reason, however often it is looked whether the peer was mended."""
        if (self._standing.state, self._standing.error) == ("refused", error):
            return
        self._standing.state, self._standing.error, self._standing.notes = "refused", error, ()
        log.error(CONNECTION_REFUSED, connection=self._connection.config.name, reason=error)
