"""Learn mode: listens to a topic filter and proposes tags, each tried on what was heard; it publishes nothing."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from pydantic import ValidationError

from connectors import Learned, NotConnectedError, Proposal, TagBinding
from connectors.mqtt.guess import BINARY
from connectors.mqtt.heard import Heard, Sketch, Topic, Values
from connectors.mqtt.link import Link, Message
from connectors.mqtt.mapping import Mapping, Rows
from connectors.mqtt.options import Broker

PEER_TOPIC: Final = "$SYS/broker/version"
LONGEST_PEER: Final = 120
UNTRIED: Final = "not tried: there was no room for a message"
JSON: Final = "json"


class Listener:
    """A connection that only listens, and what it heard."""

    def __init__(self, url: str, **credentials: object) -> None:
        """Nothing is opened yet. ValueError for credentials that `Broker` refuses."""
        given = {key: value for key, value in credentials.items() if key != "data_dir"}
        self.broker = Broker.model_validate({**given, "url": url})
        self.heard = Heard()
        self.peer = ""
        self.began = 0.0
        self._link: Link | None = None
        self._news = asyncio.Event()

    @property
    def called(self) -> str:
        """What the broker calls itself, and how it was reached."""
        secured = "TLS" if self.secured else "unsecured"
        return f"{self.peer or 'MQTT broker'} (MQTT {self.broker.version}, {secured})"

    @property
    def secured(self) -> bool:
        """Whether nobody listens to us."""
        return self.broker.url.startswith("mqtts:")

    @property
    def bytes_received(self) -> int:
        """Bytes received on this connection."""
        return self._link.bytes_received if self._link is not None else 0

    async def open(self) -> None:
        """Connect; nothing is subscribed to yet. Raises NotConnectedError, RefusedError."""
        await self.close()
        client = self.broker.client_id or f"headrace-learn-{secrets.token_hex(4)}"
        self._link = link = Link(self.broker, client, clean=True)
        link.on_message = self._message
        link.on_oversize = lambda topic, _mid, _qos, _size: self.heard.oversize.update([topic[:LONGEST_PEER]])
        link.on_alive = self._news.set
        await link.open()

    def _message(self, message: Message) -> None:
        if message.topic == PEER_TOPIC:
            self.peer = bytes(message.payload).decode(errors="replace")[:LONGEST_PEER]
        else:
            self.heard.message(message.topic, bytes(message.payload), time.time_ns(), retained=message.retain)

    async def listen(self, wanted: Sequence[str], seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Subscribe at QoS 0 to these filters and listen, until it is `enough` at most. Raises as `open` does."""
        if self._link is None:
            message = "not connected"
            raise NotConnectedError(message)
        await self._link.subscribe([(one, 0) for one in (*wanted, PEER_TOPIC)])
        self.began = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not enough():
                    self._news.clear()
                    self._link.check()
                    await self._news.wait()

    async def close(self) -> None:
        """Let go of the broker; safe to call twice."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()


async def learn(url: str, wanted: str, seconds: float, **credentials: object) -> Learned:
    """Listen to the filter `wanted` for `seconds`; `credentials` are those of a connection.

    Raises NotConnectedError, RefusedError, and ValueError for credentials that are not valid.
    """
    listener = Listener(url, **credentials)
    try:
        await listener.open()
        await listener.listen([wanted], seconds)
    finally:
        await listener.close()
    spent = time.monotonic() - listener.began
    return Learned(
        listener.called,
        tuple(proposals(listener.heard, spent)),
        spent,
        listener.heard.messages,
        tuple(notes(listener, spent)),
    )


def notes(listener: Listener, seconds: float) -> Iterator[str]:
    """What the engineer should know of what was heard."""
    heard = listener.heard
    rate = heard.messages / max(seconds, 1e-9)
    yield f"{heard.messages} messages on {len(heard.topics)} topics, {rate:.1f} per second"
    if not listener.secured:
        yield "the connection was not encrypted"
    if heard.cut:
        yield f"cut off at {len(heard.topics)} topics and {heard.leaves} values: narrow the filter"
    for large, often in heard.oversize.most_common(5):
        yield f"{large}: {often} messages were too large to be looked at"
    for name, topic in heard.in_order():
        if len(topic.sketches) > 1:
            said = ", ".join(f"{layout} {sketch.messages}" for layout, sketch in topic.sketches.items())
            yield f"{name}: messages of several layouts: {said}"


def proposals(heard: Heard, seconds: float) -> Iterator[Proposal]:
    """A tag for each value that was heard, by topic; what nobody can read is proposed as not usable."""
    for name, topic in heard.in_order():
        layout, sketch = topic.usual
        for values in sketch.values.values():
            yield _proposal(name, topic, layout, sketch, values, seconds)
        if not sketch.values:
            rate = topic.fresh / max(seconds, 1e-9)
            yield Proposal(name, _last(name), layout, "any", {}, "", (), rate, usable=False, note=sketch.note)


def _last(topic: str) -> str:
    return topic.rstrip("/").rpartition("/")[2] or topic


def _proposal(name: str, topic: Topic, layout: str, sketch: Sketch, values: Values, seconds: float) -> Proposal:
    leaf, datatype = values.usual, values.datatype
    options = dict(leaf.options) if layout == JSON else {"format": layout, **leaf.options}
    if values.count < sketch.messages and layout in {JSON, "csv"}:
        options["optional"] = True
    address = f"{name}#{leaf.place}" if leaf.place else name
    rate = topic.fresh / max(seconds, 1e-9) * values.count / max(topic.looked_at, 1)
    why = sketch.note if layout == BINARY else _tried(address, datatype, options, name, sketch)
    if values.empty == values.count:
        why = "no value was heard"
    return Proposal(
        address,
        leaf.name or _last(name),
        layout,
        datatype,
        {} if layout == BINARY else options,
        leaf.unit,
        tuple(values.samples),
        rate,
        usable=not why,
        note=why or leaf.note,
    )


def _tried(address: str, datatype: str, options: dict[str, object], topic: str, sketch: Sketch) -> str:
    """Why the connector would not read the last message so; empty when it does."""
    if sketch.payload is None:
        return UNTRIED
    try:
        rows = taken(address, datatype, options, topic, sketch)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    except ValueError as error:
        return str(error)
    refused = [one for one in rows.refusals() if not (options.get("optional") and one.reason == "missing_value")]
    return refused[0].detail if refused else ""


def taken(address: str, datatype: str, options: dict[str, object], topic: str, sketch: Sketch) -> Rows:
    """What a tag takes of the last message of a topic. ValueError for an address or options that are not valid."""
    rows = Rows()
    Mapping([TagBinding(1, address, datatype, options)]).add(topic, sketch.payload or b"", rows, sketch.received)
    return rows
