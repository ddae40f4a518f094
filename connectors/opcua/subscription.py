"""Our own publish loop (IEC 62541-4, 5.13): several requests in flight, acknowledged when told, gaps noticed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors import ConnectorError, NotConnectedError
from connectors.opcua.border import border
from connectors.opcua.decode import Changes, UndecodableError
from connectors.opcua.monitored import Monitored
from connectors.opcua.notification import EventFields, Notification, published, republished
from connectors.opcua.resume import Handles, Kept

if TYPE_CHECKING:
    from asyncua.common.utils import Buffer

    from connectors.opcua.options import Options
    from connectors.opcua.session import Session

KEEP_ALIVE_S: Final = 1.0
LIFETIME_S: Final = 60.0
SILENT_KEEP_ALIVES: Final = 3
MOST_WAITING: Final = 200_000
"""Readings that may wait in memory; then no new PublishRequest goes out and the server's queues take the strain."""
READING_BYTES: Final = 256
"""Room that a reading is reckoned with, so that large values do not fill the memory or outgrow a journal record."""
MOST_REPUBLISHED: Final = 1000
BURST_S: Final = 0.05
"""How long the rest of a burst may take: one scan in one batch costs all that follows a fifth of what five do."""
SEQUENCE_END: Final = 2**32
HALF: Final = 2**31


@dataclass(frozen=True, slots=True)
class Arrived:
    """One answer of the server, in order."""

    notification: Notification
    time_ns: int
    complete: bool
    """Nothing more was waiting at the server when it answered."""


@dataclass(slots=True)
class Taken:
    """Answers put together for one batch."""

    parts: list[Changes] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    broken: list[tuple[str, int]] = field(default_factory=list)
    events: list[EventFields] = field(default_factory=list)
    received_ns: int = 0
    alive_ns: int = 0
    rows: int = 0
    lost: int = 0


class Subscription:
    """One subscription on one session."""

    def __init__(self, session: Session, options: Options, most_waiting: int = MOST_WAITING) -> None:
        """Nothing is asked of the server yet. `most_waiting`: readings that may wait in memory."""
        self._most_waiting = most_waiting
        self._session = session
        self._options = options
        self._id = 0
        self._in_flight = options.publishes_in_flight
        self.monitored = Monitored(session)
        self._waiting: deque[Arrived] = deque()
        self._waiting_rows = 0
        self._acknowledged: deque[int] = deque()
        self._expected: int | None = None
        self._safe: int | None = None
        self._resuming = False
        self._taken_up: int | None = None
        """What was safe with us when it was taken up; None once the server has heard so."""
        self._lost = 0
        self._heard = time.monotonic()
        self._silence_s = options.timeout_s
        self._error: ConnectorError | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._pump_task: asyncio.Task[None] | None = None

    async def create(self, items: Sequence[ua.MonitoredItemCreateRequest], at_once: int) -> list[int]:
        """Create the subscription and its items; returns one StatusCode per item."""
        interval = self._options.publishing_interval_ms
        request = ua.CreateSubscriptionRequest()
        request.Parameters.RequestedPublishingInterval = interval
        request.Parameters.RequestedMaxKeepAliveCount = max(1, round(KEEP_ALIVE_S * 1000 / interval))
        request.Parameters.RequestedLifetimeCount = max(
            3 * request.Parameters.RequestedMaxKeepAliveCount, round(LIFETIME_S * 1000 / interval)
        )
        request.Parameters.PublishingEnabled = True
        async with border("subscribing"):
            answer = struct_from_binary(ua.CreateSubscriptionResponse, await self._session.request(request))
            answer.ResponseHeader.ServiceResult.check()
            made = answer.Parameters
            self._id = self.monitored.subscription = made.SubscriptionId
            self.monitored.revised.publishing_ms = interval, made.RevisedPublishingInterval
            keep_alive_s = made.RevisedPublishingInterval / 1000 * made.RevisedMaxKeepAliveCount
            self._silence_s = max(SILENT_KEEP_ALIVES * keep_alive_s, self._options.timeout_s)
        results = await self.monitored.create(items, at_once)
        self._start()
        return results

    async def resume(self, kept: Kept) -> bool:
        """Go on with the subscription of a resumed session; False if the server no longer has it.

        What the server kept unacknowledged is asked for again, before anything newer (IEC 62541-4, 6.7). Where it is
        known what came last, all that follows is asked for, so that what the server has not kept is counted as lost.
        """
        request = ua.SetPublishingModeRequest()
        request.Parameters.PublishingEnabled = True
        request.Parameters.SubscriptionIds = [ua.IntegerId(kept.subscription)]
        async with border("resuming"):
            answer = struct_from_binary(ua.SetPublishingModeResponse, await self._session.request(request))
            answer.ResponseHeader.ServiceResult.check()
        if not answer.Parameters.Results or not answer.Parameters.Results[0].is_good():
            return False
        self._id, self._silence_s, self._safe = kept.subscription, kept.silence_s, kept.sequence
        self._resuming = kept.sequence is None
        self._expected = None if kept.sequence is None else _next(kept.sequence)
        self._taken_up = kept.sequence
        self.monitored.revised = kept.revised
        self.monitored.subscription, self.monitored.ids = kept.subscription, dict(kept.handles.items)
        self._start()
        return True

    @property
    def id(self) -> int:
        """The server's own number of it; 0 before it is created."""
        return self._id

    @property
    def started(self) -> bool:
        """Whether there is one at the server, as far as we know."""
        return self._pump_task is not None

    def kept(self, handles: Handles, *, ended: bool = False) -> Kept:
        """What it takes to resume; while it goes on, what was acknowledged last will soon be something else."""
        session, revised, safe = self._session, self.monitored.revised, self._safe if ended else None
        return Kept(session.token, session.nonce, self._id, self._silence_s, handles, revised, safe)

    def _start(self) -> None:
        self._heard = time.monotonic()
        self._pump_task = asyncio.create_task(self._pump())

    async def add(self, items: Sequence[ua.MonitoredItemCreateRequest], at_once: int) -> list[int]:
        """Monitor these items too; returns one StatusCode per item."""
        return await self.monitored.create(items, at_once)

    def notes(self) -> tuple[str, ...]:
        """What the server has made of what we asked for."""
        return self.monitored.revised.notes()

    async def ready(self, most: int = MOST_WAITING) -> None:
        """Wait until something can be taken, and for the rest of it where the server has said that more comes.

        `most`: readings that are enough. NotConnectedError when the connection is lost or the server silent.
        """
        await self._heard_of()
        late = asyncio.get_running_loop().time() + BURST_S
        while self._waiting and not self._waiting[-1].complete and self._waiting_rows < most and self._error is None:
            self._news.clear()
            try:
                async with asyncio.timeout_at(late):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _heard_of(self) -> None:
        while not self._waiting:
            if self._error is not None:
                raise self._error
            self._news.clear()
            left = self._heard + self._silence_s - time.monotonic()
            try:
                async with asyncio.timeout(max(left, 0)):
                    await self._news.wait()
            except TimeoutError as error:
                # A loop that was held up sees the time-out before the answers that came meanwhile: let them in.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if time.monotonic() >= self._heard + self._silence_s:
                    message = f"the server has sent nothing for {self._silence_s:g} s"
                    raise NotConnectedError(message) from error

    @property
    def something_waits(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._waiting)

    def take(self, most: int) -> Taken:
        """All that has arrived, up to about `most` readings. Does not wait."""
        taken = Taken(lost=self._lost)
        self._lost = 0
        weight = 0
        while self._waiting and weight < most:
            arrived = self._waiting.popleft()
            weight += _weight(arrived.notification)
            self._waiting_rows -= _weight(arrived.notification)
            taken.rows += _rows(arrived.notification)
            taken.received_ns = arrived.time_ns
            if arrived.complete:
                taken.alive_ns = arrived.time_ns
            if not arrived.notification.keep_alive:
                taken.sequences.append(arrived.notification.sequence)
            taken.parts += arrived.notification.parts
            taken.broken += arrived.notification.broken
            taken.events += arrived.notification.events
        if self._waiting_rows < self._most_waiting:
            self._room.set()
        return taken

    def acknowledge(self, sequences: Sequence[int]) -> None:
        """Let the server forget these notifications; said with the next PublishRequest. Without effect once closed."""
        if self._pump_task is not None and self._error is None and sequences:
            self._acknowledged.extend(sequences)
            self._safe = sequences[-1]

    async def _pump(self) -> None:
        """Keep requests at the server and read its answers in order, until the connection ends."""
        flying: deque[asyncio.Task[Buffer]] = deque()
        try:
            async with border("publishing"):
                while True:
                    await self._top_up(flying)
                    await self._session.renew_if_due()
                    answer = await flying[0]
                    flying.popleft()
                    await self._arrived(answer)
        except ConnectorError as error:
            self._error = error
        except UndecodableError as error:
            self._error = NotConnectedError(f"the server sent what is not OPC UA: {error}")
            self._error.__cause__ = error
        finally:
            self._news.set()
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _top_up(self, flying: deque[asyncio.Task[Buffer]]) -> None:
        """Have as many requests at the server as configured, unless too much waits in memory; then wait for room."""
        if self._waiting_rows >= self._most_waiting and not flying:
            self._room.clear()
            await self._room.wait()
            self._heard = time.monotonic()
        while len(flying) < self._in_flight and (self._waiting_rows < self._most_waiting or not flying):
            flying.append(asyncio.create_task(self._publish()))

    async def _publish(self) -> Buffer:
        """One PublishRequest; asked again with fewer in flight where the server takes no more (5.13.5.2)."""
        while True:
            request = ua.PublishRequest()
            sequences, self._acknowledged = list(self._acknowledged), deque()
            request.Parameters.SubscriptionAcknowledgements = [
                ua.SubscriptionAcknowledgement(self._id, s) for s in sequences
            ]
            try:
                self._session.requests += 1
                return await self._session.send(request, timeout_s=0)
            except UaStatusCodeError as error:
                self._acknowledged.extendleft(reversed(sequences))
                if error.code == StatusCodes.BadTooManyPublishRequests and self._in_flight > 1:
                    self._in_flight -= 1
                elif error.code != StatusCodes.BadTimeout:
                    raise

    async def _arrived(self, answer: Buffer) -> None:
        """Note one answer: first what is missing before it, then itself."""
        response, now = published(answer), time.time_ns()
        self._heard = time.monotonic()
        if response.subscription != self._id:
            return
        found = response.notification
        if self._resuming:
            self._resuming = False
            await self._recover(_before(found.sequence, response.available), now)
        if self._taken_up is not None:
            # Acknowledged, and the connection broke before the server heard it: else it would come again one day.
            self._acknowledged.extend(_before(_next(self._taken_up), response.available))
            self._taken_up = None
        if self._expected is not None and found.sequence != self._expected:
            if (found.sequence - self._expected) % SEQUENCE_END >= HALF:
                return
            await self._recover(self._missing(self._expected, found.sequence), now)
        self._expected = found.sequence if found.keep_alive else _next(found.sequence)
        if found.ended is not None:
            message = f"the server ended the subscription: {get_name_and_doc(found.ended)[0]}"
            raise NotConnectedError(message)
        self._put(Arrived(found, now, not response.more))

    def _put(self, arrived: Arrived) -> None:
        self._waiting.append(arrived)
        self._waiting_rows += _weight(arrived.notification)
        self._news.set()

    def _missing(self, first: int, end: int) -> list[int]:
        """The sequence numbers from `first` to before `end`; more than a server would keep are lost at once."""
        missing, sequence = [first], _next(first)
        while sequence != end and len(missing) < MOST_REPUBLISHED:
            missing.append(sequence)
            sequence = _next(sequence)
        self._lost += (end - sequence) % SEQUENCE_END
        return missing

    async def _recover(self, sequences: Sequence[int], now: int) -> None:
        """Ask again for these notifications; those the server no longer has are lost."""
        for sequence in sequences:
            found = await self._republish(sequence)
            if found is None:
                self._lost += 1
            else:
                self._put(Arrived(found, now, complete=False))

    async def _republish(self, sequence: int) -> Notification | None:
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = self._id
        request.Parameters.RetransmitSequenceNumber = sequence
        try:
            self._session.requests += 1
            found = republished(await self._session.send(request))
        except UaStatusCodeError as error:
            if error.code == StatusCodes.BadMessageNotAvailable:
                return None
            raise
        return found if found.sequence == sequence and not found.keep_alive else None

    async def close(self) -> None:
        """Tell the server what is acknowledged already, and stop the loop."""
        if self._pump_task is not None:
            if self._acknowledged and not self._pump_task.done():
                last = asyncio.create_task(self._publish())
                await asyncio.sleep(0)
                last.cancel()
                await asyncio.gather(last, return_exceptions=True)
            self._pump_task.cancel()
            await asyncio.gather(self._pump_task, return_exceptions=True)
            self._pump_task = None


def _rows(notification: Notification) -> int:
    return sum(len(part.handles) for part in notification.parts)


def _weight(notification: Notification) -> int:
    """Its readings; one of large values counts for as many as would take its room."""
    return max(_rows(notification) + len(notification.events), notification.size // READING_BYTES)


def _before(sequence: int, available: Sequence[int]) -> list[int]:
    """Which of these come before `sequence`, oldest first, although the numbers wrap around."""
    ages = {(sequence - other) % SEQUENCE_END: other for other in available}
    return [other for age, other in sorted(ages.items(), reverse=True) if 0 < age < HALF]


def _next(sequence: int) -> int:
    """Sequence numbers go from 1 to 2**32 - 1 and begin at 1 again (IEC 62541-4, 7.8)."""
    return sequence % (SEQUENCE_END - 1) + 1
