"""Which queues a message goes through: by the orders of devices of its pipelines, and by what workers say they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.log import WORK_BACK, WORK_MOVED, get_logger
from app.messages import MOST_STOPS, Stop
from app.queue import DEFAULT_QUEUE, queue_of
from inference.devices import entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.messages import Order, Way
    from app.workers import WorkerLive

log = get_logger(__name__)

GONE_S: Final = 3.0
"""A worker that is not heard of for so long is gone: Redis may have been emptied, and is told again meanwhile."""
PATIENCE_S: Final = 60.0
"""Work that may run nowhere else waits so long for the device that it had: a worker that is started again is back."""


class Router:
    """Where work goes. Pure, but for what it says when work moves; times are monotonic seconds."""

    def __init__(self, fixed: str | None = None) -> None:
        """`fixed`: the only queue, whatever workers say."""
        self.fixed = fixed
        self._heard: dict[str, tuple[WorkerLive, float]] = {}
        self._workers: tuple[WorkerLive, ...] = ()
        self._here: set[str] = set()
        self._served: set[str] = set()
        self._last: dict[str, float] = {}
        """When each name of a device or class was last there."""
        self._now = 0.0
        self._known: dict[Order, str | None] = {}
        self._moved: dict[Order, str] = {}

    def learn(self, found: Iterable[WorkerLive], now: float) -> None:
        """What the workers say now."""
        self._now = now
        self._heard |= {one.id: (one, now) for one in found}
        self._heard = {name: (one, at) for name, (one, at) in self._heard.items() if now - at <= GONE_S}
        self._workers = tuple(one for one, _ in self._heard.values())
        self._here = {name for one in self._workers for name in _names(one)}
        self._served = {name for one in self._workers for name in one.queues}
        self._last |= dict.fromkeys(self._here, now)
        for order in [*self._known]:
            self._known[order] = self._wish(order)
            self._say(order)

    def way(self, orders: Sequence[Order]) -> Way:
        """For a message with windows of pipelines with these orders of devices, in its order; empty: without any.

        At the first stop all are run that no later one is for: those that its workers have the wished device of, and
        those whose devices nobody has, which are refused there.
        """
        made = [Stop(self.queue(orders))]
        left = [order for order in dict.fromkeys(orders) if self._wants_away(order, made[0].queue)]
        while left and len(made) < MOST_STOPS:
            queue = self.queue(left)
            here = tuple(order for order in left if not self._wants_away(order, queue))
            made.append(Stop(queue, here))
            left = [order for order in left if order not in here]
        return tuple(made)

    def queue(self, orders: Sequence[Order]) -> str:
        """The first stop: where most of them can be run, then where most have what they wish for."""
        if self.fixed is not None:
            return self.fixed
        wishes = list(dict.fromkeys(wish for order in orders if (wish := self._of(order)) is not None))
        if len(wishes) > 1:
            return max(wishes, key=lambda wish: self._worth(wish, orders))
        return wishes[0] if wishes else DEFAULT_QUEUE

    def serves(self, queue: str) -> bool:
        """Whether a worker takes from it; of the one that every worker serves it is not asked."""
        return queue in {self.fixed, DEFAULT_QUEUE} or queue in self._served

    def _wants_away(self, order: Order, queue: str) -> bool:
        """Whether another queue that is served has the device it wishes for, and not every worker of this one does."""
        wish = None if self.fixed is not None else self._of(order)
        return wish not in {None, queue} and wish in self._served and self._worth(queue, [order]) < (1, 1)

    def _of(self, order: Order) -> str | None:
        if order not in self._known:
            self._known[order] = self._wish(order)
            self._say(order)
        return self._known[order]

    def _wish(self, order: Order) -> str | None:
        """The queue of the first device of the order that a worker has; None where none has any."""
        names = [entry(one)[0] for one in order]
        there = next((name for name in names if name in self._here), None)
        if there is None:
            there = next((name for name in names if self._now - self._last.get(name, -PATIENCE_S) < PATIENCE_S), None)
        return None if there is None else queue_of(there)

    def _say(self, order: Order) -> None:
        """Once that it goes elsewhere than it should, once that it is back; nothing while nobody ever was there."""
        wish, goes = queue_of(entry(order[0])[0]), self._known[order] or DEFAULT_QUEUE
        before = self._moved.get(order)
        if goes == wish:
            if self._moved.pop(order, None) is not None:
                log.info(WORK_BACK, devices=list(order), queue=wish, was=before)
        elif goes != before and self._last:
            self._moved[order] = goes
            log.warning(WORK_MOVED, devices=list(order), queue=wish, to=goes)

    def _worth(self, queue: str, orders: Sequence[Order]) -> tuple[int, int]:
        """Of so many pipelines any worker of this queue can run the windows, and so many get what they wish for."""
        serving = [one for one in self._workers if queue in one.queues]
        return min((_does(one, orders, self._here) for one in serving), default=(0, 0))


def _names(worker: WorkerLive) -> set[str]:
    """Devices and classes for which it takes work."""
    return {one for one in worker.names if queue_of(one) in worker.queues}


def _does(worker: WorkerLive, orders: Sequence[Order], here: set[str]) -> tuple[int, int]:
    mine = worker.names
    names = [[entry(one)[0] for one in order] for order in orders]
    runs = sum(any(name in mine for name in order) for order in names)
    wished = [next((name for name in order if name in here), None) for order in names]
    return runs, sum(name in mine for name in wished)
