"""The Source of an MQTT connection: messages to readings, acknowledged only when the caller has them safe."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from connectors import Batch, ConnectionConfig, ConnectorError, NotConnectedError
from connectors._continuity import Continuity
from connectors._durable import write
from connectors.mqtt.change import Change, change
from connectors.mqtt.link import Link, Will
from connectors.mqtt.mapping import Mapping, Rows, columns
from connectors.mqtt.naming import client_id
from connectors.mqtt.options import Options
from connectors.mqtt.values import UnusableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectors.mqtt.link import Message

    Entry: TypeAlias = tuple[Message | None, str, int, int, int]

MOST_READINGS: Final = 20_000
EXACTLY_ONCE: Final = 2
AS_ONE: Final = (
    "QoS 2 is asked for and subscribed as 1: a message that comes twice is stored once, and QoS 2 would lose what was "
    "handed over but not yet safe"
)
TEXT: Final = "text/plain; charset=utf-8"
HEARTBEAT_NS: Final = 500_000_000
FILTERS_FILE: Final = "mqtt-filters.json"
GIVES_S: Final = 1.0
"""A broker gives what a session has kept right behind its answer."""
MORE: Final = 4
"""So many times `max_waiting` may wait while a broker is asked something, whose answer comes behind it all."""


class MqttSource:
    """Readings out of the messages on the tags' topics."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options or an address that `Options`, `check_address` refuse."""
        self._config = config
        self._options = Options.model_validate(config.options)
        self._change = Change(Mapping(config.tags), config.revision, {}, frozenset())
        """The newest."""
        self._begin()
        self._link: Link | None = None
        self._waiting: deque[Entry | Change] = deque()
        self._most_waiting = self._options.max_waiting
        self._news = asyncio.Event()
        self._beat_ns = 0
        self._alive_ns = 0
        self._continuity = Continuity(config.data_dir)

    def _begin(self) -> None:
        """Read with the newest tags."""
        self._mapping, self._revision = self._change.mapping, self._change.revision
        self._fresh: dict[str, Mapping] = {}
        self._left: set[str] = set()

    def _take_over(self, change: Change) -> None:
        """From here on messages are read with other tags."""
        self._mapping, self._revision = change.mapping, change.revision
        self._fresh = {t: m for t, m in self._fresh.items() if t not in change.left} | dict(change.fresh)
        self._left = (self._left | change.left) - set(change.mapping.topics)

    async def connect(self) -> None:
        """Log in, resume or make the session, subscribe. Raises NotConnectedError, RefusedError."""
        await self.close()
        self._waiting.clear()
        self._begin()
        options = self._options
        link = Link(
            options,
            client_id(options, self._config.name),
            clean=options.clean_session,
            session_expiry_s=options.session_expiry_s,
            receive_maximum=options.max_waiting,
            most_payload=options.max_payload_bytes,
            will=Will(options.will.topic, options.will.offline.encode()) if options.will is not None else None,
        )
        link.on_message, link.on_oversize, link.on_alive = self._arrived, self._oversize, self._news.set
        link.on_login = self._continuity.asks
        self._link = link
        try:
            kept = await self._opened(link)
            ours = kept and (not self._continuity.doubtful or await self._gives(link))
            # Before we subscribe: from then on the broker keeps what a later connection would take up.
            self._continuity.connected(took_up=ours and all(self._wanted().values()))
            await self._subscribe(link, kept=kept)
            await self._say_online(link)
        except BaseException:
            await self.close()
            raise

    async def _opened(self, link: Link) -> bool:
        """See `Link.open`."""
        try:
            return await link.open()
        except ConnectorError:
            if link.refused:
                self._continuity.refused()
            raise

    async def _gives(self, link: Link) -> bool:
        """Whether the broker gives something of a session before we have subscribed to anything in this connection.

        Then it is the one that we had. One that the broker has made at a login whose answer we never saw has no
        subscriptions; and where nothing comes, nobody can tell the two apart.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVES_S):
                while not self._waiting:
                    link.check()
                    self._news.clear()
                    await self._news.wait()
        return bool(self._waiting)

    async def _say_online(self, link: Link) -> None:
        """After the subscriptions: who hears it may count on us."""
        will = self._options.will
        if will is not None:
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    await link.wait_all([link.publish(will.topic, will.online.encode(), TEXT, retain=True)])
            except TimeoutError as error:
                message = f"{self._options.url}: the broker has not taken {will.topic!r} in time"
                raise NotConnectedError(message) from error

    @property
    def _qos(self) -> int:
        """Of a tag's topic: 2 is subscribed as 1, see `AS_ONE`."""
        return min(self._options.qos, 1)

    def tend(self) -> tuple[str, ...]:
        """See `connectors.Tended`."""
        options = self._options
        asked = {f.qos for f in options.subscriptions} or {options.qos}
        return (AS_ONE,) if EXACTLY_ONCE in asked else ()

    def mended(self) -> bool:
        """See `connectors.Tended`. Nothing here is mended without a change of the configuration."""
        return False

    def _wanted(self) -> dict[str, int]:
        """Filter to QoS: at 0 a broker keeps nothing of what comes while we are away."""
        given: dict[str, int] = {f.filter: min(f.qos, 1) for f in self._options.subscriptions}
        return given or dict.fromkeys(self._mapping.topics, self._qos)

    async def _subscribe(self, link: Link, *, kept: bool) -> None:
        """Subscribe to what is wanted now; let go of what a kept session still has from an earlier configuration."""
        wanted = self._wanted()
        if kept:
            await link.unsubscribe([f for f in self._filters_before() if f not in wanted])
        await link.subscribe(list(wanted.items()))
        self._note_filters(list(wanted))
        self._alive_ns = time.time_ns()

    async def rebind(self, config: ConnectionConfig) -> bool:
        """See `connectors.Rebindable`. Subscribes to topics with new tags, where the broker then gives what it retains.

        Under `subscriptions` there is no topic to subscribe to: new tags take a new connection.
        """
        link, wanted = self._link, change(self._config.tags, config.tags, config.revision)
        if link is None or (wanted.fresh and self._options.subscriptions):
            return False
        before, self._config, self._change = self._change, config, wanted
        self._waiting.append(wanted)
        if not self._options.subscriptions:
            self._most_waiting = MORE * self._options.max_waiting
            link.resume()
            try:
                # Noted first: a session keeps a subscription that nobody remembers.
                self._note_filters([*before.mapping.topics, *wanted.fresh])
                await link.subscribe([(topic, self._qos) for topic in wanted.fresh])
                await link.unsubscribe(sorted(wanted.left))
                self._note_filters(list(wanted.mapping.topics))
            finally:
                self._most_waiting = self._options.max_waiting
        return True

    def _filters_before(self) -> list[str]:
        path = Path(self._config.data_dir) / FILTERS_FILE
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text())
            return [f for f in found if isinstance(f, str)] if isinstance(found, list) else []
        return []

    def _note_filters(self, filters: list[str]) -> None:
        write(Path(self._config.data_dir) / FILTERS_FILE, json.dumps(sorted(set(filters))).encode())

    def _arrived(self, message: Message) -> None:
        self._put((message, "", message.mid, message.qos, time.time_ns()))

    def _oversize(self, topic: str, mid: int, qos: int, size: int) -> None:
        del size
        self._put((None, topic, mid, qos, time.time_ns()))

    def _put(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._news.set()
        if len(self._waiting) >= self._most_waiting and self._link is not None:
            self._link.pause()

    async def read(self) -> Batch:
        """Wait for the next batch; see `Source.read`. Raises NotConnectedError."""
        link = self._link
        if link is None:
            message = "not connected"
            raise NotConnectedError(message)
        while not self._waiting:
            link.check()
            if link.heard_ns - self._beat_ns >= HEARTBEAT_NS:
                break
            self._news.clear()
            await self._news.wait()
        return self._batch(link)

    def _batch(self, link: Link) -> Batch:
        rows, acks = Rows(), list[tuple[int, int]]()
        received = max(link.heard_ns, self._alive_ns)
        while self._waiting and len(rows.tags) < MOST_READINGS:
            entry = self._waiting[0]
            if isinstance(entry, Change) and acks:
                # What came before it belongs to the revision before.
                break
            self._waiting.popleft()
            if isinstance(entry, Change):
                self._take_over(entry)
                continue
            message, topic, mid, qos, received = entry
            acks.append((mid, qos))
            if message is not None:
                self._map(message, rows, received)
            else:
                limit = f"the payload is larger than {self._options.max_payload_bytes} bytes (`max_payload_bytes`)"
                rows.refuse(topic, UnusableError("too_large", limit), b"")
        self._alive_ns = max(self._alive_ns, received if self._waiting else max(received, link.heard_ns))
        received = self._beat_ns = max(received, self._alive_ns) if not self._waiting else received
        if not self._waiting:
            link.resume()
        tags, times, values, status = columns(rows)
        if self._options.use_received_time:
            times = np.full(len(tags), received, dtype=np.int64)
        return Batch(
            tags,
            times,
            values,
            rows.others,
            status,
            received,
            self._alive_ns,
            self._revision,
            rows.refusals(),
            continues=self._continuity.say(),
            ack=_acknowledger(link, acks, self._continuity),
        )

    def _map(self, message: Message, rows: Rows, received: int) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            rows.refuse("", UnusableError("unknown_topic", "the topic is not UTF-8"), bytes(message.payload))
            return
        mapping = self._mapping
        if message.retain and topic in self._fresh:
            mapping = self._fresh.pop(topic)
        elif topic in self._left:
            return
        mapping.add(topic, bytes(message.payload), rows, received)

    async def close(self) -> None:
        """Let go of the broker, which keeps the session; acknowledgements not yet given are void."""
        link, self._link = self._link, None
        self._news.set()
        if link is not None:
            will = self._options.will
            if will is not None and link.alive:
                # A broker publishes no will for whom says goodbye.
                with contextlib.suppress(NotConnectedError):
                    link.publish(will.topic, will.offline.encode(), TEXT, retain=True)
            await link.close()


def _acknowledger(
    link: Link, acks: list[tuple[int, int]], continuity: Continuity
) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        continuity.told()
        link.ack(acks)

    return acknowledge
