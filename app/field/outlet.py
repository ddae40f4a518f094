"""One subscription's sink: publishes what it is handed, connects again when it is lost, ages what it shows."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import connectors
from app import times
from app.field.aside import AsideSink
from app.field.backoff import Backoff
from app.field.tending import Tending
from app.log import (
    SUBSCRIPTION_BACK,
    SUBSCRIPTION_FAILED,
    SUBSCRIPTION_LOST,
    SUBSCRIPTION_NOTE,
    SUBSCRIPTION_REFUSED,
    SUBSCRIPTION_UP,
    get_logger,
)
from app.northbound import service as northbound
from app.northbound.service import Due, Failure
from connectors import ConnectionConfig, ConnectorError, NotConnectedError, NotInstalledError, RefusedError, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from app.field.runner import Load
    from app.northbound.service import Subscription
    from connectors import Publication, Sink

log = get_logger(__name__)
Result = TypeVar("Result")

LAPSED: Final = "its lease was not renewed in time: another gateway may publish"
AGE_CHECK_S: Final = 0.5
CLOSE_S: Final = 5.0
PUBLISH_S: Final = 30.0
"""A peer that takes nothing for so long is lost."""
LONGEST_RETRY_S: Final = 3600.0


@dataclass(slots=True)
class _Shown:
    """What a node shows, and until when it may."""

    publication: Publication
    since: float
    bad: bool = False


class Outlet:
    """Publishes for one subscription, in the order it is handed the rows."""

    def __init__(
        self,
        subscription: Subscription,
        data_dir: str,
        max_age_s: Callable[[str], float | None],
        done: Callable[[], None],
        *,
        load: Load = connectors.load,
        cap_s: float,
        mine: Callable[[], bool] = lambda: True,
    ) -> None:
        """`max_age_s`: by order key, after how long without a newer value its nodes turn Bad; None: never.

        `done` is told whenever it is ready for more. `mine`: whether no other gateway may publish for it.
        """
        self._subscription = subscription
        self._data_dir = data_dir
        self._load = load
        self._backoff = Backoff(cap_s)
        self._max_age = max_age_s
        self._done = done
        self._mine = mine
        self._offered: asyncio.Queue[list[Due]] = asyncio.Queue(1)
        self._sent: list[tuple[Due, int]] = []
        self._failed: list[Failure] = []
        self._shown: dict[str, _Shown] = {}
        self._busy = False
        self.state = "connecting"
        """connecting, connected, lost, refused."""
        self.error = ""

    @property
    def ready(self) -> bool:
        """Whether it can be offered rows: it is connected and has published all it was offered."""
        return self.state == "connected" and not self._busy

    def offer(self, rows: list[Due]) -> None:
        """Rows to publish next; only while it is ready."""
        self._busy = True
        self._offered.put_nowait(rows)

    def drain_sent(self) -> list[tuple[Due, int]]:
        """Rows the peer has taken since the last call, and when (ns)."""
        sent, self._sent = self._sent, []
        return sent

    def drain_failed(self) -> list[Failure]:
        """Rows the sink would not publish since the last call."""
        failed, self._failed = self._failed, []
        return failed

    async def run(self, shown: Sequence[Due]) -> None:
        """Until the peer refuses and nothing but another configuration helps.

        `shown`: what it was sent last, per key, for a peer that keeps nothing itself.
        """
        self._remember(shown)
        try:
            sink = self._sink()
        except (KeyError, ValueError, RefusedError, NotInstalledError) as error:
            self._refused(error)
            return
        tending = Tending(sink.inner, self._note)
        try:
            again = await self._once(sink, tending)
            while again:
                await asyncio.sleep(self._backoff.next_s())
                again = await self._once(sink, tending)
        finally:
            await self._close(sink)
            await asyncio.to_thread(sink.leave)

    def _sink(self) -> AsideSink:
        """Raises RefusedError, KeyError, ValueError, NotInstalledError when there can be none."""
        one = self._subscription
        if one.problem:
            raise RefusedError(one.problem)
        connector = self._load(one.connector)
        if not hasattr(connector, "sink"):
            message = f"the connector {one.connector!r} only reads: it cannot publish"
            raise RefusedError(message)
        folder = northbound.folder(Path(self._data_dir), one.id)
        made: Sink = connector.sink(ConnectionConfig(one.name, one.options, (), one.revision, folder))
        return AsideSink(made, f"north {one.name}")

    async def _once(self, sink: Sink, tending: Tending) -> bool:
        """One connection from its opening to its loss; False when there must not be another."""
        try:
            self._check()
            await sink.connect()
            self._up()
            tending.begin()
            await self._publish(sink, tending)
        except (RefusedError, NotInstalledError) as error:
            self._refused(error)
            await self._close(sink)
            self._backoff.reset()
            return await tending.mended()
        except (ConnectorError, TimeoutError) as error:
            if self.state != "lost":
                log.warning(SUBSCRIPTION_LOST, subscription=self._subscription.name, reason=str(error))
            self.state, self.error = "lost", str(error) or "the peer takes nothing"
        except Exception as error:
            # The outermost loop of one subscription: a fault in its connector must not stop the others.
            if self.state != "lost":
                log.exception(SUBSCRIPTION_FAILED, subscription=self._subscription.name)
            self.state, self.error = "lost", f"{type(error).__name__}: {error}"
        await self._close(sink)
        return True

    async def _publish(self, sink: Sink, tending: Tending) -> None:
        """Rows as they are offered; between them, values that are too old turn Bad."""
        self._stale()
        shown = [one.publication for one in self._shown.values()]
        if shown:
            await self._give(sink, shown)
        while True:
            await tending.look()
            rows: list[Due] = []
            with suppress(TimeoutError):
                rows = await _in_time(self._offered.get(), AGE_CHECK_S)
            try:
                if rows:
                    await self._take(sink, rows)
            finally:
                self._busy = self._busy and not rows
                if rows:
                    self._done()
            stale = self._stale()
            if stale:
                await self._give(sink, stale)

    async def _take(self, sink: Sink, rows: Sequence[Due]) -> None:
        """All at once; when the sink itself cannot, one by one, so that only the culprit stays behind."""
        try:
            await self._give(sink, [row.publication for row in rows])
        except (ValueError, TypeError) as error:
            if len(rows) == 1:
                self._put_off(rows[0], error)
                return
            for row in rows:
                await self._take(sink, [row])
            return
        now = times.now()
        self._sent.extend((row, now) for row in rows)
        self._remember(rows)
        self._backoff.reset()

    def _check(self) -> None:
        if not self._mine():
            raise NotConnectedError(LAPSED)

    async def _give(self, sink: Sink, items: Sequence[Publication]) -> None:
        self._check()
        await _in_time(sink.publish(items), PUBLISH_S)

    def _put_off(self, row: Due, error: Exception) -> None:
        log.error(SUBSCRIPTION_FAILED, subscription=self._subscription.name, row=row.row, reason=str(error))
        wait = min(2.0 ** min(row.attempts, 20), LONGEST_RETRY_S)
        self._failed.append(Failure(row.row, times.now() + round(wait * times.NANOS), str(error)))

    def _remember(self, rows: Sequence[Due]) -> None:
        """Nodes keep what they were last given; a message on a topic is gone once it is delivered."""
        for row in rows:
            if row.publication.nodes:
                since = max(node.source_time for node in row.publication.nodes) / times.NANOS
                self._shown[row.publication.key] = _Shown(row.publication, since)

    def _stale(self) -> list[Publication]:
        """Values that are older than their pipeline allows, now as Bad: silence must not look like a steady state."""
        now = times.now()
        stale = []
        for key, one in self._shown.items():
            limit = self._max_age(key)
            if limit is not None and not one.bad and now / times.NANOS - one.since > limit:
                one.bad = True
                nodes = tuple(replace(node, status=Status.BAD_NO_COMMUNICATION) for node in one.publication.nodes)
                one.publication = replace(one.publication, nodes=nodes)
                stale.append(one.publication)
        return stale

    async def _close(self, sink: Sink) -> None:
        with suppress(ConnectorError, OSError, TimeoutError):
            await _in_time(sink.close(), CLOSE_S)

    def _up(self) -> None:
        event = SUBSCRIPTION_BACK if self.state in {"lost", "refused"} else SUBSCRIPTION_UP
        self.state, self.error = "connected", ""
        log.info(event, subscription=self._subscription.name)

    def _note(self, note: str) -> None:
        log.warning(SUBSCRIPTION_NOTE, subscription=self._subscription.name, note=note)

    def _refused(self, error: Exception) -> None:
        if (self.state, self.error) == ("refused", str(error)):
            return
        self.state, self.error = "refused", str(error)
        log.error(SUBSCRIPTION_REFUSED, subscription=self._subscription.name, reason=str(error))


async def _in_time(work: Awaitable[Result], seconds: float) -> Result:
    """Not `wait_for`, which swallows a cancellation that comes when the work has just been done. TimeoutError."""
    async with asyncio.timeout(seconds):
        return await work
