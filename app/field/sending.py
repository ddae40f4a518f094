"""Messages into the queues of workers: where their devices are, again when they may be lost, on when a device goes."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from app import workers
from app.errors import QueueError
from app.field.blocking import blocking
from app.field.outage import Outage
from app.log import MESSAGES_SENT_AGAIN, QUEUE_BACK, QUEUE_LOST, WORKERS_UNREADABLE, get_logger
from app.messages import onward

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.field.flight import Flight, Queues
    from app.field.routing import Router
    from app.journal import Position
    from app.messages import Order
    from app.queue import Door

log = get_logger(__name__)
Result = TypeVar("Result")

FOLLOW_S: Final = 1.0
"""How often it is asked what the workers have; never for a message."""


class Sending:
    """What of the dispatcher talks to the queue. Belongs to one event loop."""

    def __init__(
        self, door: Door, flight: Flight, router: Router, journal: str, applied: Callable[[Position], bool]
    ) -> None:
        """Nothing is opened yet. `applied`: whether the database has a record."""
        self._door, self._flight, self._router, self._journal = door, flight, router, journal
        self._applied = applied
        self._outage = Outage(QUEUE_LOST, QUEUE_BACK)
        self._thread = ThreadPoolExecutor(1, "queue")
        self._mark = ""
        self._followed_at = float("-inf")
        self._unreadable = 0

    @property
    def away(self) -> bool:
        """Whether the queue does not answer."""
        return self._outage.away

    @property
    def marked(self) -> bool:
        """Whether a loss of the queue's memory would be noticed."""
        return bool(self._mark)

    async def send(self, position: Position, message: bytes, orders: Sequence[Order]) -> None:
        """Until the queue has it; then it is under way. `orders`: of devices, of the pipelines of its windows."""
        way = await self._put(position, message, orders)
        self._flight.sent(position, message, time.monotonic(), way, orders)

    async def follow(self) -> None:
        """Learn what the workers have, once a second, and send on what waits where nobody is any more."""
        now = time.monotonic()
        if self._router.fixed is not None or now - self._followed_at < FOLLOW_S:
            return
        self._followed_at = now
        try:
            found, unreadable = workers.read(await self._in_thread(self._door.read_live, workers.PREFIX))
        except QueueError:
            # What was known stays: whoever sends says that the queue is away.
            return
        if unreadable and not self._unreadable:
            log.warning(WORKERS_UNREADABLE, count=unreadable)
        self._unreadable = unreadable
        self._router.learn(found, now)
        await self._again(self._flight.stranded(self._goes), "moved")

    def _goes(self, way: Queues, orders: Sequence[Order]) -> bool:
        return all(map(self._router.serves, way)) or way == tuple(stop.queue for stop in self._router.way(orders))

    async def check_mark(self) -> None:
        """Send everything again when the queue has lost its memory, or when this is the first look at it."""
        try:
            found = await self._in_thread(self._door.marked, self._journal)
            if found == self._mark:
                return
            first = not self._mark
            self._mark = await self._in_thread(self._door.mark, self._journal)
        except QueueError:
            # Whoever sends next says that the queue is away.
            return
        if not first:
            await self._again(self._flight.everything(), "queue_lost_its_memory", anew=True)

    async def chase(self) -> None:
        """Send again what is late, unless as much lies in its queues as went there: then no worker takes it."""
        late: dict[Queues, list[tuple[Position, bytes]]] = {}
        for position, message in self._flight.overdue(time.monotonic()):
            if (one := self._flight.get(position)) is not None:
                late.setdefault(one.way, []).append((position, message))
        for way, messages in late.items():
            try:
                waiting = await self._waiting(way)
            except QueueError:
                return
            if waiting < self._flight.sharing(way):
                await self._again(messages, "time_out")

    async def _waiting(self, way: Queues) -> int:
        """Messages in all of these queues. Raises QueueError."""
        return sum([await self._in_thread(self._door.waiting, queue) for queue in way])

    async def database_back(self) -> None:
        """Send again at once what workers have taken while the database was away: they have let go of it.

        Of a queue in which all of its messages still lie, nobody has taken any.
        """
        taken: list[tuple[Position, bytes]] = []
        for way, messages in self._flight.by_way().items():
            try:
                waiting = await self._waiting(way)
            except QueueError:
                return
            taken += messages if waiting < self._flight.sharing(way) else []
        await self._again(taken, "database_back", anew=True)

    async def close(self) -> None:
        """Let go of the thread that talks to the queue."""
        await blocking(self._thread.shutdown, cancel_futures=True)

    async def _again(self, messages: list[tuple[Position, bytes]], why: str, *, anew: bool = False) -> None:
        if not messages:
            return
        log.info(MESSAGES_SENT_AGAIN, messages=len(messages), why=why)
        for position, message in messages:
            one = self._flight.get(position)
            if one is not None and not self._applied(position):
                way = await self._put(position, message, one.orders)
                self._flight.repeat(position, time.monotonic(), way, anew=anew)

    async def _put(self, position: Position, message: bytes, orders: Sequence[Order]) -> Queues:
        """On the way that is right now, whose queues are returned."""
        name = f"{self._journal}:{position.epoch}:{position.number}"
        while True:
            first, *later = self._router.way(orders)
            way = (first.queue, *(stop.queue for stop in later))
            # What it says differs by the way, so its copies beside the queue have names of their own.
            called = name if not later else f"{name}:{'>'.join(way)}"
            try:
                await self._in_thread(self._door.send, onward(message, tuple(later)), first.queue, called)
            except QueueError as error:
                await self._outage.wait(error)
            else:
                self._outage.over()
                return way

    async def _in_thread(self, call: Callable[..., Result], *arguments: object) -> Result:
        """The door takes one call at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
