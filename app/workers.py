"""What a worker says of itself every two seconds: which devices it has now, and which queues it serves."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from app import lives, queue, times
from app.errors import QueueError
from app.housekeeping import ask_others
from inference.devices import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

PREFIX: Final = "headrace:worker:"
LOST: Final = "headrace:lost:"
TTL_S: Final = 10
"""A worker that has said nothing for so long is gone."""
LOST_TTL_S: Final = 900
"""A child says it again every ten seconds, but not while it checks a model; one that has ended says nothing."""
PATIENCE_S: Final = 600.0
"""Work beside what is new waits so long for the device that it wishes for."""
CPU: Final = "cpu"
MOST_DEVICES: Final = 256

Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:@/-]{1,100}\Z")]
Devices = Annotated[tuple[Word, ...], Meta(max_length=MOST_DEVICES)]


class WorkerLive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one worker stands. What is read of it is foreign: other hosts write there."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:@/-]{1,200}\Z")]
    """The worker's process (`app.lives`)."""
    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:@/-]{1,255}\Z")]
    pid: Annotated[int, Meta(ge=0, le=2**32)]
    at: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    """ns, by the clock of its host."""
    devices: Devices = ()
    """Ids of those that it can use now."""
    classes: Devices = ()
    """Vendors whose first device is among them: an order that names a vendor means that one."""
    lost: Devices = ()
    """Ids of those that it had and has lost."""
    queues: Annotated[tuple[Annotated[str, Meta(pattern=r"^[a-z0-9._]{1,60}\Z")], ...], Meta(max_length=64)] = ()

    @property
    def names(self) -> set[str]:
        """By which an order of devices may name what it has."""
        return {*self.devices, *self.classes}

    @property
    def name(self) -> str:
        """For people: where it runs, and which process it is there."""
        return f"{self.host}:{self.pid}"


class LostLive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one child of a worker has lost and not seen well since."""

    process: Annotated[str, Meta(max_length=200)]
    """The child (`app.lives`)."""
    devices: Devices


_worker = msgspec.json.Decoder(WorkerLive)
_lost = msgspec.json.Decoder(LostLive)


def read(found: Iterable[bytes]) -> tuple[list[WorkerLive], int]:
    """Workers of what was left in Redis, and how much of it is not what a worker says."""
    workers, unreadable = [], 0
    for one in found:
        try:
            workers.append(_worker.decode(one))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            unreadable += 1
    return workers, unreadable


def workers() -> list[WorkerLive]:
    """Every worker that has said something in the last seconds; empty when none has, or when Redis is away."""
    try:
        return read(queue.door().read_live(PREFIX))[0]
    except QueueError:
        return []


class Others:
    """What of some work is left to other workers, which are asked to do it: that of devices that they have."""

    def __init__(
        self, task: str, clock: Callable[[], float] = time.monotonic,
        there: Callable[[], Sequence[WorkerLive]] | None = None, ask: Callable[[str, str], None] = ask_others,
    ) -> None:
        """`task`: by which they are asked. `there`: the workers that say something, by default those of this Redis."""
        self._task, self._clock, self._there, self._ask = task, clock, there or workers, ask
        self._since: dict[int, float] = {}
        """Since when each version's work has been left."""

    def __call__(self, orders: Mapping[int, Sequence[str]]) -> set[int]:
        """Those of these versions, each with its order of devices. Whoever cannot be asked now is asked the next time.

        What nobody has is left as well, for as long: a worker that is started again has it.
        """
        there = self._there()
        mine = next((one for one in there if one.id == lives.parent()), None)
        places = {version: _place(order, mine, there) for version, order in orders.items()}
        now = self._clock()
        self._since = {key: self._since.get(key, now) for key, place in places.items() if place is not None}
        left = {key for key, since in self._since.items() if now - since < PATIENCE_S}
        ours = set() if mine is None else set(mine.queues)
        for name in sorted({places[key] or "" for key in left} - {""} - ours):
            with suppress(QueueError):
                self._ask(self._task, name)
        return left


class Nobody(Others):
    """Of a worker that is alone."""

    def __call__(self, orders: Mapping[int, Sequence[str]]) -> set[int]:
        """Nothing."""
        del orders
        return set()


def _place(order: Sequence[str], mine: WorkerLive | None, there: Iterable[WorkerLive]) -> str | None:
    """The queue of those that have the first device of the order that anyone has; empty where nobody has any of it.

    None where this worker has it. One that does not know yet what it has, or cannot be heard, has its CPU for certain.
    """
    names = [entry(one)[0] for one in order]
    if mine is None:
        return None if names[0].partition(":")[0] == CPU else ""
    for name in names:
        if name in mine.names:
            return None
        if any(name in one.names and queue.queue_of(name) in one.queues for one in there):
            return queue.queue_of(name)
    return ""


def tell_lost(devices: Collection[str]) -> None:
    """Let the worker whose child this process is know what is lost here. Redis may be away: it is said again."""
    mine = LostLive(lives.me(), tuple(sorted(devices)[:MOST_DEVICES]))
    with suppress(QueueError):
        queue.door().put_live(f"{LOST}{lives.parent()}:{lives.me()}", msgspec.json.encode(mine), LOST_TTL_S)


def lost_by(found: Iterable[bytes]) -> set[str]:
    """What children that live have lost, of what they have left in Redis."""
    devices: set[str] = set()
    for one in found:
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            said = _lost.decode(one)
            if lives.is_gone(said.process) is False:
                devices |= set(said.devices)
    return devices


def as_json(worker: WorkerLive) -> dict[str, Any]:
    """For the API: times as RFC 3339."""
    plain: dict[str, Any] = msgspec.to_builtins(worker)
    return {**plain, "at": times.rfc3339(worker.at), "age_s": age_s(worker)}


def age_s(worker: WorkerLive) -> float:
    """How long ago it was said, by our clock and its."""
    return round(max(0, times.now() - worker.at) / times.NANOS, 1)
