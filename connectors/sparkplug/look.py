"""A look at the edge nodes of a foreign broker: devices, metrics, types; it publishes nothing, not even our state."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from connectors import NO_TIME, Found, Look, Status
from connectors.mqtt.link import Link, Message
from connectors.mqtt.look import PEER_TOPIC
from connectors.mqtt.times import fitting
from connectors.mqtt.values import UnusableError
from connectors.sparkplug import codec
from connectors.sparkplug.address import BIRTHS, NAMESPACE, Key, Topic, topic_of, written
from connectors.sparkplug.options import Access
from connectors.sparkplug.scope import MS
from connectors.sparkplug.values import DATATYPES, plain, quality_of

MOST_METRICS: Final = 20_000
MOST_IN_MESSAGE: Final = 50_000
LONGEST_VALUE: Final = 120
UNITS: Final = (b"engunit", b"engineering units", b"unit")
"""Properties in which programs say a metric's unit, in lower case; the standard names none."""


@dataclass(slots=True)
class _Metric:
    name: str
    code: int
    """Sparkplug's number of its datatype, as its birth said; 0 while unknown."""
    status: int = Status.GOOD
    value: str = ""
    time: int = NO_TIME
    unit: str = ""
    changes: int = 0


@dataclass(slots=True)
class _Place:
    """A node or a device."""

    metrics: dict[str, _Metric] = field(default_factory=dict)
    aliases: dict[int, str] = field(default_factory=dict)
    nameless: bool = False
    """It sends aliases that no birth has explained to us."""
    dead: bool = False


@dataclass(slots=True)
class _Seen:
    places: dict[tuple[Key, str], _Place] = field(default_factory=dict)
    count: int = 0
    messages: int = 0
    broken: int = 0
    peer: str = ""
    cut: bool = False


async def look(url: str, seconds: float, **credentials: object) -> Look:
    """Listen for `seconds`; `credentials` are those of `Options`, and `group` for one to listen to (all by default).

    Raises NotConnectedError, RefusedError, and ValueError for credentials that are not valid.
    """
    given = dict(credentials)
    group = str(given.pop("group", "+"))
    given.pop("data_dir", None)
    broker = Access.model_validate({**given, "url": url})
    link = Link(broker, broker.client_id or f"headrace-look-{secrets.token_hex(4)}", clean=True)
    seen, start = _Seen(), time.monotonic()
    link.on_message = lambda message: _note(message, seen)
    try:
        await link.open()
        await link.subscribe([(f"{NAMESPACE}/{group}/#", 0), (PEER_TOPIC, 0)])
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await link.until_lost()
    finally:
        await link.close()
    safe = broker.url.startswith("mqtts:")
    return Look(
        f"{seen.peer or 'MQTT broker'} (MQTT {broker.version}{', TLS' if safe else ', unsecured'})",
        tuple(_found(seen)),
        None,
        time.monotonic() - start,
        3,
        link.bytes_received,
        tuple(_notes(seen, safe=safe)),
    )


def _found(seen: _Seen) -> Iterator[Found]:
    for (node, device), place in sorted(seen.places.items()):
        for one in place.metrics.values():
            address = written(node, device, one.name)
            status = Status.BAD_NO_COMMUNICATION if place.dead else one.status
            datatype = DATATYPES[one.code].tag if one.code in DATATYPES else "any"
            yield Found(address, one.name, datatype, one.value, status, one.time, one.unit, one.changes)


def _notes(seen: _Seen, *, safe: bool) -> list[str]:
    nodes = {node for node, _ in seen.places}
    devices = sum(bool(device) for _, device in seen.places)
    notes = [f"{seen.messages} messages of {len(nodes)} edge nodes and {devices} devices, {seen.count} metrics"]
    if not safe:
        notes.append("the connection was not encrypted")
    if seen.broken:
        notes.append(f"{seen.broken} payloads cannot be read")
    if seen.cut:
        notes.append(f"cut off at {seen.count} metrics: look at one `group`")
    for (node, device), place in sorted(seen.places.items()):
        where = "/".join((*node, device) if device else node)
        if place.nameless:
            notes.append(f"{where} sends metrics that only its birth names: look while it starts, or longer")
        if place.dead:
            notes.append(f"{where} has died")
    return notes


def _note(message: Message, seen: _Seen) -> None:
    try:
        name = message.topic
    except UnicodeDecodeError:
        return
    if name == PEER_TOPIC:
        seen.peer = bytes(message.payload).decode(errors="replace")[:LONGEST_VALUE]
        return
    topic = topic_of(name)
    if topic is None or (topic.kind in BIRTHS and not message.payload):
        return
    seen.messages += 1
    key = (topic.node, topic.device)
    if key not in seen.places:
        if len(seen.places) >= MOST_METRICS:
            seen.cut = True
            return
        seen.places[key] = _Place()
    try:
        payload = codec.decode(bytes(message.payload), MOST_IN_MESSAGE)
    except UnusableError:
        seen.broken += 1
        return
    _take(topic, payload, seen)


def _take(topic: Topic, payload: codec.Message, seen: _Seen) -> None:
    place = seen.places[topic.node, topic.device]
    if topic.kind.endswith("DEATH"):
        _die(topic, seen)
        return
    place.dead = False
    born = topic.kind in BIRTHS
    if born:
        place.aliases.clear()
        place.nameless = False
    for metric in payload.metrics:
        name = metric.name.decode(errors="replace") or place.aliases.get(metric.alias, "")
        place.nameless = place.nameless or not name
        one = _metric(place, name, metric, seen) if name else None
        if one is not None:
            _update(one, metric, payload)
            if born and metric.HasField("alias"):
                place.aliases[metric.alias] = name


def _die(topic: Topic, seen: _Seen) -> None:
    """The device, or the node with all of its devices."""
    for (node, device), place in seen.places.items():
        if node == topic.node and topic.device in ("", device):
            place.dead = True


def _metric(place: _Place, name: str, metric: codec.Message, seen: _Seen) -> _Metric | None:
    """That of this name, new if there is room."""
    found = place.metrics.get(name)
    if found is None:
        if seen.count >= MOST_METRICS:
            seen.cut = True
            return None
        found = place.metrics[name] = _Metric(name, metric.datatype)
        seen.count += 1
    return found


def _update(one: _Metric, metric: codec.Message, payload: codec.Message) -> None:
    one.changes += 1
    one.code = metric.datatype or one.code
    one.status = quality_of(metric)
    stamped = metric if metric.HasField("timestamp") else payload
    one.time = fitting(stamped.timestamp * MS) if stamped.HasField("timestamp") else NO_TIME
    for key, value in zip(metric.properties.keys, metric.properties.values, strict=False):
        if key.lower() in UNITS:
            one.unit = value.string_value.decode(errors="replace")[:LONGEST_VALUE]
    try:
        one.value = _shown(plain(metric, one.code))
    except UnusableError as problem:
        one.value = f"({problem.reason})"


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, np.ndarray):
        value = value[:LONGEST_VALUE].tolist()
    return msgspec.json.encode(value).decode()[:LONGEST_VALUE]
