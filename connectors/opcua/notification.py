"""PublishResponse and NotificationMessage (IEC 62541-4, 5.13.5 and 7.26): sequence, items, status."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError

from connectors.opcua.decode import DECODING_ERRORS, Changes, UndecodableError, decode_items, decode_values
from connectors.opcua.variant import BrokenError, Reader

DATA_CHANGE: Final = ObjectIds.DataChangeNotification_Encoding_DefaultBinary
STATUS_CHANGE: Final = ObjectIds.StatusChangeNotification_Encoding_DefaultBinary
EVENTS: Final = ObjectIds.EventNotificationList_Encoding_DefaultBinary
MOST_PARTS: Final = 1000
MOST_FIELDS: Final = 100
"""Of one event; we ask for fewer."""
SMALLEST_EVENT: Final = 8
MOST_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class EventFields:
    """What was asked for of one event, in that order (IEC 62541-4, 7.25.3)."""

    handle: int
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Notification:
    """One NotificationMessage; without parts it is a keep-alive, and the sequence number is the next one's."""

    sequence: int
    parts: tuple[Changes, ...] = ()
    ended: int | None = None
    """The StatusCode with which the server ended the subscription."""
    broken: tuple[tuple[str, int], ...] = ()
    """What could not be decoded: why, and how many items went with it."""
    size: int = 0
    """Bytes of its parts."""
    events: tuple[EventFields, ...] = ()

    @property
    def keep_alive(self) -> bool:
        """Whether it carries nothing and uses up no sequence number."""
        return not self.parts and self.ended is None and not self.broken and not self.events


@dataclass(frozen=True, slots=True)
class Published:
    """A PublishResponse."""

    subscription: int
    more: bool
    notification: Notification
    available: tuple[int, ...] = ()
    """Sequence numbers the server still keeps for us."""


class _Cursor:
    """Reads little-endian fields one after the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def take(self, code: str) -> int:
        found: int
        (found,) = struct.unpack_from(f"<{code}", self.data, self.position)
        self.position += struct.calcsize(f"<{code}")
        return found

    def skip(self, size: int) -> None:
        self.position += max(size, 0)


def published(answer: Buffer) -> Published:
    """Read a PublishResponse. Raises UaStatusCodeError for a bad service result, UndecodableError for broken bytes."""
    data = bytes(answer)
    with _whole("PublishResponse"):
        cursor = _after_header(data)
        subscription, count = cursor.take("I"), cursor.take("i")
        available = struct.unpack_from(f"<{min(max(count, 0), MOST_KEPT)}I", data, cursor.position)
        cursor.skip(4 * count)
        more = bool(cursor.take("B"))
        return Published(subscription, more, _notification(cursor), available)


def republished(answer: Buffer) -> Notification:
    """Read a RepublishResponse; the same errors."""
    with _whole("RepublishResponse"):
        return _notification(_after_header(bytes(answer)))


def read(answer: Buffer) -> tuple[Changes, tuple[tuple[str, int], ...]]:
    """Read a ReadResponse (IEC 62541-4, 5.10.2): its values, and what could not be decoded; the same errors."""
    data = bytes(answer)
    broken: list[tuple[str, int]] = []
    with _whole("ReadResponse"):
        cursor = _after_header(data)
        count = cursor.take("i")
        start = cursor.position - 4
        found = decode_values(data, start, lambda error: broken.append((str(error), count - error.done)))
    return found, tuple(broken)


@contextmanager
def _whole(what: str) -> Iterator[None]:
    """Turn whatever broken bytes raise into one error; a service's own bad result passes."""
    try:
        yield
    except (UaStatusCodeError, UndecodableError):
        raise
    except DECODING_ERRORS as error:
        message = f"a {what} that cannot be read: {error}"
        raise UndecodableError(message) from error


def _after_header(data: bytes) -> _Cursor:
    buffer = Buffer(data)
    nodeid_from_binary(buffer)
    struct_from_binary(ua.ResponseHeader, buffer).ServiceResult.check()
    return _Cursor(data, buffer.cur_pos)


def _notification(cursor: _Cursor) -> Notification:
    sequence, _publish_time, count = cursor.take("I"), cursor.take("q"), cursor.take("i")
    if count > MOST_PARTS:
        message = f"a notification of {count} parts"
        raise UndecodableError(message)
    parts: list[Changes] = []
    broken: list[tuple[str, int]] = []
    events: list[EventFields] = []
    ended: int | None = None
    size = 0
    for _ in range(count):
        kind, body = _part(cursor)
        size += len(body)
        if kind == DATA_CHANGE:
            parts.append(_items(body, broken))
        elif kind == EVENTS:
            events += _events_or_none(body, broken)
        elif kind == STATUS_CHANGE:
            (ended,) = struct.unpack_from("<I", body)
    return Notification(sequence, tuple(parts), ended, tuple(broken), size, tuple(events))


def _items(body: bytes, broken: list[tuple[str, int]]) -> Changes:
    (count,) = struct.unpack_from("<i", body)
    return decode_items(body, on_broken=lambda error: broken.append((str(error), count - error.done)))


def _events_or_none(body: bytes, broken: list[tuple[str, int]]) -> list[EventFields]:
    """Events are no readings: those that cannot be read take none with them."""
    try:
        return _events(body)
    except DECODING_ERRORS as error:
        broken.append((f"events that cannot be read: {error}", 0))
        return []


def _events(body: bytes) -> list[EventFields]:
    """An EventNotificationList. Raises BrokenError: where one event ends is known only from its fields."""
    reader = Reader(body, keeps_locales=True)
    found = []
    for _ in range(reader.count(SMALLEST_EVENT)):
        handle = reader.unsigned()
        count = reader.count(1)
        if count > MOST_FIELDS:
            message = f"an event of {count} fields"
            raise BrokenError(message)
        found.append(EventFields(handle, tuple(reader.variant()[0] for _ in range(count))))
    return found


def _part(cursor: _Cursor) -> tuple[int, bytes]:
    """The type and the body of one ExtensionObject (IEC 62541-6, 5.2.2.15)."""
    buffer = Buffer(cursor.data, cursor.position)
    node = nodeid_from_binary(buffer)
    cursor.position = buffer.cur_pos
    encoding = cursor.take("B")
    if encoding != 1:
        return 0, b""
    length = cursor.take("i")
    body = cursor.data[cursor.position : cursor.position + max(length, 0)]
    if len(body) < length:
        message = "a notification longer than its message"
        raise UndecodableError(message)
    cursor.skip(length)
    return (node.Identifier if node.NamespaceIndex == 0 and isinstance(node.Identifier, int) else 0), body
