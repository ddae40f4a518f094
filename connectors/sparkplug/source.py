"""The Source of a Sparkplug connection: a host application that hears edge nodes and acknowledges what is safe."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from connectors import Batch, ConnectionConfig, ConnectorError, NotConnectedError, RefusedError
from connectors._continuity import Continuity
from connectors.mqtt.link import FAILURE, Link
from connectors.mqtt.mapping import columns
from connectors.mqtt.naming import client_id
from connectors.mqtt.values import UnusableError
from connectors.sparkplug.address import command_topic
from connectors.sparkplug.codec import rebirth_request
from connectors.sparkplug.host import JSON, Host
from connectors.sparkplug.options import Options
from connectors.sparkplug.plant import Plant, Taken, Wanted
from connectors.sparkplug.scope import Arrival

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectors.mqtt.link import Message

MOST_READINGS: Final = 20_000
MOST_BYTES: Final = 8_388_608
"""Of payloads in one batch, which has to fit into a journal record."""
MOST_WAITING_BYTES: Final = 67_108_864
HEARTBEAT_NS: Final = 500_000_000
FAREWELL_S: Final = 2.0


class _Change(NamedTuple):
    """What comes after it in the order of arrival is for these tags."""

    wanted: Wanted
    revision: int


_Oversize: TypeAlias = tuple[str, int, int]


class SparkplugSource:
    """Readings out of births and data, and a Bad reading for every tag of what has died."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options or an address that `Options`, `check_address` refuse."""
        self._options = Options.model_validate(config.options)
        self._client_id = client_id(self._options, config.name)
        self._host = Host(self._options.host_id or self._client_id)
        self._plant = Plant(config.tags, self._options)
        self._link: Link | None = None
        self._online = False
        self._revision = config.revision
        self._waiting: deque[Arrival | _Oversize | _Change] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._beat_ns = 0
        self._alive_ns = 0
        self._told_ns = 0
        """Up to when a batch has said that all were alive; 0 before the first one."""
        self._continuity = Continuity()

    async def connect(self) -> None:
        """Log in with our will, subscribe, say that we are online. Raises NotConnectedError, RefusedError."""
        await self.close()
        for entry in self._waiting:
            if isinstance(entry, _Change):
                self._take_over(entry, Taken())
        self._waiting.clear()
        self._waiting_bytes = 0
        link = Link(
            self._options,
            self._client_id,
            clean=True,
            receive_maximum=self._options.max_waiting,
            most_payload=self._options.max_payload_bytes,
            will=self._host.begin(),
        )
        link.on_message, link.on_oversize, link.on_alive = self._arrived, self._oversize, self._news.set
        self._link = link
        try:
            await link.open()
            self._alive_ns = self._alive_ns or time.time_ns()
            self._plant.connected(time.monotonic(), self._alive_ns)
            await link.subscribe([(self._host.topic, 1), *((one, 1) for one in self._options.filters())])
            self._online = True
            await self._say(link, self._host.online(), self._options.timeout_s)
            # A broker keeps nothing for a host: what nodes sent while we were away is missing.
            self._continuity.connected(took_up=False)
        except BaseException:
            self._online = False
            await self.close()
            raise

    async def _say(self, link: Link, body: bytes, within_s: float) -> None:
        """Publish our state and wait until the broker has it."""
        said = link.publish(self._host.topic, body, JSON, retain=True)
        try:
            async with asyncio.timeout(within_s):
                await link.wait_all([said])
        except TimeoutError as error:
            message = f"{self._options.url}: the broker did not take our state within {within_s:g} s"
            raise NotConnectedError(message) from error
        if said.result()[0].value >= FAILURE:
            message = f"the broker does not let us publish on {self._host.topic!r}: {said.result()[0]}"
            raise RefusedError(message)

    def _arrived(self, message: Message) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        payload = bytes(message.payload)
        if topic == self._host.topic and self._host.set_offline(payload):
            self._answer()
        self._waiting_bytes += len(payload)
        self._put(Arrival(topic, payload, message.mid, message.qos, message.retain, time.time_ns()))

    def _answer(self) -> None:
        """Somebody set us offline: we are not."""
        if self._online and self._link is not None and not self._host.outdone:
            with suppress(ConnectorError):
                self._link.publish(self._host.topic, self._host.online(), JSON, retain=True)

    def _oversize(self, topic: str, mid: int, qos: int, size: int) -> None:
        del size
        self._put((topic, mid, qos))

    async def rebind(self, config: ConnectionConfig) -> bool:
        """See `connectors.Rebindable`. We hear all nodes anyway; a new tag's value comes with its node's births."""
        wanted = self._plant.wanted(config.tags)
        if self._link is None:
            return False
        self._waiting.append(_Change(wanted, config.revision))
        return True

    def _take_over(self, change: _Change, taken: Taken) -> None:
        self._plant.rebind(change.wanted, time.monotonic(), taken)
        self._revision = change.revision

    def _put(self, entry: Arrival | _Oversize) -> None:
        self._waiting.append(entry)
        self._news.set()
        full = len(self._waiting) >= self._options.max_waiting or self._waiting_bytes >= MOST_WAITING_BYTES
        if full and self._link is not None:
            self._link.pause()

    async def read(self) -> Batch:
        """Wait for the next batch; see `Source.read`. Raises NotConnectedError."""
        link = self._link
        if link is None:
            message = "not connected"
            raise NotConnectedError(message)
        while True:
            if not self._waiting:
                self._check(link)
            taken, last = self._taken()
            self._ask(link)
            if taken.tells_something or self._beats(link):
                return self._batch(link, taken, last)
            link.ack(taken.acks)
            if not self._waiting:
                await self._something(link)

    async def _something(self, link: Link) -> None:
        """Wait for a message, a sign of life, or until something is overdue."""
        self._news.clear()
        self._check(link)
        link.resume()
        moments = (self._plant.next_time(), self._plant.rebirths.next_time())
        waits = [max(0.0, moment - time.monotonic()) for moment in moments if moment is not None]
        with suppress(TimeoutError):
            async with asyncio.timeout(min(waits, default=None)):
                await self._news.wait()

    def _beats(self, link: Link) -> bool:
        """Whether it is time for a heartbeat: never while we do not know what became of some tag."""
        certain = self._plant.certain_until()
        return link.heard_ns - self._beat_ns >= HEARTBEAT_NS and (certain is None or certain > self._alive_ns)

    def _check(self, link: Link) -> None:
        link.check()
        if self._host.outdone:
            message = f"{self._host.topic} has a newer time than ours, which nodes would not believe: connecting again"
            raise NotConnectedError(message)

    def _batch(self, link: Link, taken: Taken, last: int) -> Batch:
        drained = not self._waiting
        known = max(last, link.heard_ns) if drained else last
        certain = self._plant.certain_until()
        self._alive_ns = max(self._alive_ns, known if certain is None else min(known, certain))
        received = self._beat_ns = max(time.time_ns(), self._alive_ns)
        if drained:
            link.resume()
        # What comes before the births is refused, for nobody knows its aliases: the gap goes on until they have come.
        untold = self._continuity.broken and self._plant.waits()
        continues = untold or self._continuity.say()
        self._told_ns = self._told_ns if untold else self._alive_ns
        tags, times, values, status = columns(taken.rows)
        return Batch(
            tags,
            times,
            values,
            taken.rows.others,
            status,
            received,
            self._told_ns,
            self._revision,
            taken.rows.refusals(),
            taken.lost,
            continues,
            ack=_acknowledger(link, taken.acks),
        )

    def _taken(self) -> tuple[Taken, int]:
        """What has arrived, up to a few thousand readings; and when the last of it came, in ns."""
        taken, now, size = Taken(), time.monotonic(), 0
        last = self._alive_ns
        while self._waiting and len(taken.rows.tags) < MOST_READINGS and size < MOST_BYTES:
            if isinstance(self._waiting[0], _Change) and taken.acks:
                # What came before it belongs to the revision before.
                break
            entry = self._waiting.popleft()
            if isinstance(entry, _Change):
                self._take_over(entry, taken)
            elif isinstance(entry, Arrival):
                size += len(entry.payload)
                last = max(last, entry.received)
                self._plant.take(entry, now, taken)
            else:
                topic, mid, qos = entry
                limit = f"the payload is larger than {self._options.max_payload_bytes} bytes (`max_payload_bytes`)"
                taken.rows.refuse(topic, UnusableError("too_large", limit), b"")
                taken.acks.append((mid, qos))
        self._waiting_bytes -= size
        if not self._waiting:
            self._plant.expire(now, time.time_ns(), taken)
        return taken, last

    def _ask(self, link: Link) -> None:
        """Ask nodes for their births, as far as it is time to."""
        while (node := self._plant.rebirths.due(time.monotonic())) is not None:
            with suppress(ConnectorError):
                link.tell(command_topic(node), rebirth_request(time.time_ns() // 1_000_000))

    async def close(self) -> None:
        """Say that we are offline and let go of the broker; acknowledgements not yet given are void."""
        link, self._link = self._link, None
        online, self._online = self._online, False
        self._news.set()
        if link is None:
            return
        if online and link.alive:
            with suppress(ConnectorError):
                await self._say(link, self._host.offline(), FAREWELL_S)
        await link.close()


def _acknowledger(link: Link, acks: list[tuple[int, int]]) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        link.ack(acks)

    return acknowledge
