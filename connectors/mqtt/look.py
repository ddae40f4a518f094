"""A look at a foreign broker: which topics speak, what their JSON holds, how often; it publishes nothing."""

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
from connectors.mqtt.options import Broker
from connectors.mqtt.times import SCALE_NS, time_of
from connectors.mqtt.values import UnusableError

MOST_TOPICS: Final = 2000
MOST_LEAVES: Final = 20_000
LEAVES_PER_TOPIC: Final = 200
DEEPEST: Final = 8
LONGEST_VALUE: Final = 120
PEER_TOPIC: Final = "$SYS/broker/version"
NEAR_NS: Final = 365 * 86_400 * 1_000_000_000
"""A number that is a time within a year of now is proposed as the source time."""


@dataclass(slots=True)
class _Leaf:
    datatype: str
    value: str
    changes: int = 1


@dataclass(slots=True)
class _Seen:
    topics: dict[str, dict[str, _Leaf]] = field(default_factory=dict)
    times: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Topic -> where its time seems to be, and in which format."""
    leaves: int = 0
    messages: int = 0
    broken: int = 0
    peer: str = ""
    cut: bool = False


async def look(url: str, seconds: float, **credentials: object) -> Look:
    """Listen for `seconds`; `credentials` are those of `Options`, and `filter` for what to listen to (`#` by default).

    Raises NotConnectedError, RefusedError, and ValueError for credentials that are not valid.
    """
    given = dict(credentials)
    wanted = str(given.pop("filter", "#"))
    given.pop("data_dir", None)
    broker = Broker.model_validate({**given, "url": url})
    link, seen, start = (
        Link(broker, broker.client_id or f"headrace-look-{secrets.token_hex(4)}", clean=True),
        _Seen(),
        time.monotonic(),
    )
    link.on_message = lambda message: _note(message, seen)
    try:
        await link.open()
        await link.subscribe([(wanted, 0), (PEER_TOPIC, 0)])
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await link.until_lost()
    finally:
        await link.close()
    spent = time.monotonic() - start
    return Look(
        f"{seen.peer or 'MQTT broker'} (MQTT {broker.version}{', TLS' if url.startswith('mqtts:') else ', unsecured'})",
        tuple(_found(seen)),
        None,
        spent,
        3,
        link.bytes_received,
        tuple(_notes(seen, url, spent)),
    )


def _found(seen: _Seen) -> Iterator[Found]:
    for topic, leaves in sorted(seen.topics.items()):
        for place, leaf in leaves.items():
            address = f"{topic}#{place}" if place else topic
            name = place.rpartition("/")[2] or topic.rpartition("/")[2]
            yield Found(address, name, leaf.datatype, leaf.value, Status.GOOD, NO_TIME, "", leaf.changes)


def _notes(seen: _Seen, url: str, seconds: float) -> list[str]:
    notes = [
        f"{seen.messages} messages on {len(seen.topics)} topics, {seen.messages / max(seconds, 1e-9):.1f} per second"
    ]
    if url.startswith("mqtt:"):
        notes.append("the connection was not encrypted")
    if seen.broken:
        notes.append(f"{seen.broken} payloads are not JSON: `format: text` takes them as strings")
    if seen.cut:
        notes.append(f"cut off at {len(seen.topics)} topics and {seen.leaves} values: narrow the filter")
    notes += [
        f"{topic}: {place} looks like the source time, `time_format: {form}`"
        for topic, (place, form) in sorted(seen.times.items())
    ]
    return notes


def _note(message: Message, seen: _Seen) -> None:
    topic, payload = message.topic, bytes(message.payload)
    if topic == PEER_TOPIC:
        seen.peer = payload.decode(errors="replace")[:LONGEST_VALUE]
        return
    seen.messages += 1
    leaves = seen.topics.get(topic)
    if leaves is None:
        if len(seen.topics) >= MOST_TOPICS:
            seen.cut = True
            return
        leaves = seen.topics[topic] = {}
    try:
        document = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        seen.broken += 1
        document = payload.decode(errors="replace")[:LONGEST_VALUE]
    for place, value in _walk(document, "", 0):
        _leaf(topic, place, value, leaves, seen)


def _walk(value: object, place: str, depth: int) -> Iterator[tuple[str, object]]:
    """The leaves of a document; an array is one leaf, since its length may change."""
    if not isinstance(value, dict) or depth >= DEEPEST:
        yield place, value
        return
    for key, inner in value.items():
        yield from _walk(inner, f"{place}/{str(key).replace('~', '~0').replace('/', '~1')}", depth + 1)


def _leaf(topic: str, place: str, value: object, leaves: dict[str, _Leaf], seen: _Seen) -> None:
    known = leaves.get(place)
    shown = msgspec.json.encode(value).decode()[:LONGEST_VALUE]
    if known is not None:
        known.value, known.changes = shown, known.changes + 1
        return
    if len(leaves) >= LEAVES_PER_TOPIC or seen.leaves >= MOST_LEAVES:
        seen.cut = True
        return
    seen.leaves += 1
    leaves[place] = _Leaf(_datatype(value), shown)
    form = _time_format(value)
    if form is not None:
        seen.times.setdefault(topic, (place, form))


def _datatype(value: object) -> str:
    names = ((bool, "boolean"), (int, "integer"), (float, "float"), (str, "string"), (list, "array"))
    return next((name for kind, name in names if isinstance(value, kind)), "any")


def _time_format(value: object) -> str | None:
    """The format in which this value would be a time near now, if any."""
    forms = ("iso",) if isinstance(value, str) else tuple(SCALE_NS) if type(value) in (int, float) else ()
    now = time.time_ns()
    for form in forms:
        with suppress(UnusableError):
            found = time_of(value, form)
            if found != NO_TIME and abs(int(np.int64(found)) - now) < NEAR_NS:
                return form
    return None
