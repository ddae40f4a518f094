"""The frame that holds one journal record on disk; the format is described in docs/reference/journal-format.md."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from app.records import Leased, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from app.journal.remains import Remains

MAGIC: Final = b"HRJ1"
MAX_PAYLOAD: Final = 80 * 2**20
"""A length beyond this is damage: the largest batch is smaller."""

_BODY: Final = struct.Struct("<IQQqQII")
"""kind, epoch, number, connection, read_total, readings, since."""
_HEAD: Final = struct.Struct("<4sII")
"""magic, length of the payload, CRC-32 over the body fields and the payload."""
OVERHEAD: Final = _HEAD.size + _BODY.size


class Position(NamedTuple):
    """Where a record lies in the total order of one journal."""

    epoch: int
    number: int


class Kind(IntEnum):
    """What a frame holds."""

    LOST = 0
    """Never on disk: stands in the index for a record that damage took."""
    RECORD = 1
    SWITCH = 2
    """The pipeline versions whose windows are cut from here on."""
    TOTALS = 3
    """First in each segment: per connection the running count of readings before it. It has no number of its own."""


@dataclass(frozen=True, slots=True)
class Meta:
    """A frame without its payload."""

    kind: Kind
    position: Position
    connection: int
    read_total: int
    """Readings of this connection up to and with this record, refused ones included, since the journal was made."""
    readings: int
    """Of this record alone."""
    since: int = 0
    """How many records before this one were made durable by the same fsync: a group is whole or was never promised."""
    places: tuple[tuple[int, int], ...] = ()
    """How many of `readings` belong to each place of the ledger; on disk the record itself says it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One numbered frame as it is read back."""

    position: Position
    record: Record | None = None
    versions: tuple[int, ...] | None = None
    """Of a switch. All are None where damage took the record."""
    leased: Leased | None = None
    """Of a switch, where several gateways share a database."""
    remains: Remains | None = None
    """Of records that were dropped; the position is that of the last of them."""


class DamagedError(ValueError):
    """These bytes are no frame, or not the one that was written."""


class Switch(msgspec.Struct, frozen=True):
    """A switch under leases; one without them is the version ids alone."""

    versions: tuple[int, ...]
    leased: Leased


class _Outline(msgspec.Struct, array_like=True, frozen=True):
    """A record of which nothing is unpacked but its places: they are the fifteenth field of `Record`."""

    connection: msgspec.Raw
    revision: msgspec.Raw
    received_time: msgspec.Raw
    alive_until: msgspec.Raw
    count: msgspec.Raw
    first_time: msgspec.Raw
    last_time: msgspec.Raw
    lost: msgspec.Raw
    refused: msgspec.Raw
    columns: msgspec.Raw
    gap_since: msgspec.Raw = msgspec.Raw()
    fill: msgspec.Raw = msgspec.Raw()
    events: msgspec.Raw = msgspec.Raw()
    dropped: msgspec.Raw = msgspec.Raw()
    places: tuple[tuple[int, int], ...] = ()


_outline_decoder = msgspec.msgpack.Decoder(_Outline)
_record_decoder = msgspec.msgpack.Decoder(Record)
_switch_decoder = msgspec.msgpack.Decoder(tuple[int, ...] | Switch)
_totals_decoder = msgspec.msgpack.Decoder(dict[int, int])
_encode = msgspec.msgpack.encode


def frame(meta: Meta, payload: bytes) -> bytes:
    """The bytes on disk."""
    epoch, number = meta.position
    body = _BODY.pack(meta.kind, epoch, number, meta.connection, meta.read_total, meta.readings, meta.since)
    crc = zlib.crc32(payload, zlib.crc32(body))
    return b"".join((_HEAD.pack(MAGIC, len(payload), crc), body, payload))


def record_payload(record: Record) -> bytes:
    """The record in msgpack."""
    return _encode(record)


def switch_payload(versions: Sequence[int], leased: Leased | None = None) -> bytes:
    """The version ids in msgpack, with the leases where there are any."""
    return _encode(tuple(versions) if leased is None else Switch(tuple(versions), leased))


def totals_payload(totals: Mapping[int, int]) -> bytes:
    """Connection -> readings so far, in msgpack."""
    return _encode(dict(totals))


def parse(data: memoryview, offset: int) -> tuple[Meta, int]:
    """The frame at this offset and where the next one begins. Raises DamagedError."""
    if offset + OVERHEAD > len(data):
        message = "a frame ends before its head does"
        raise DamagedError(message)
    magic, length, crc = _HEAD.unpack_from(data, offset)
    end = offset + OVERHEAD + length
    if magic != MAGIC or length > MAX_PAYLOAD or end > len(data):
        message = "no frame begins here, or it is not whole"
        raise DamagedError(message)
    if zlib.crc32(data[offset + _HEAD.size : end]) != crc:
        message = "the checksum of a frame does not match"
        raise DamagedError(message)
    kind, epoch, number, connection, read_total, readings, since = _BODY.unpack_from(data, offset + _HEAD.size)
    return Meta(Kind(kind), Position(epoch, number), connection, read_total, readings, since), end


def entry(data: bytes) -> Entry:
    """One whole frame, decoded. Raises DamagedError."""
    meta, end = parse(memoryview(data), 0)
    payload = data[OVERHEAD:end]
    try:
        if meta.kind == Kind.SWITCH:
            found = _switch_decoder.decode(payload)
            if isinstance(found, Switch):
                return Entry(meta.position, versions=found.versions, leased=found.leased)
            return Entry(meta.position, versions=found)
        return Entry(meta.position, record=_record_decoder.decode(payload))
    except msgspec.MsgspecError as error:
        message = f"the record at {meta.position} is not ours: {error}"
        raise DamagedError(message) from error


def places(data: memoryview, offset: int, end: int) -> tuple[tuple[int, int], ...]:
    """Of the record in a whole frame, what belongs to which place of the ledger; nothing where it is not ours."""
    try:
        return _outline_decoder.decode(data[offset + OVERHEAD : end]).places
    except msgspec.MsgspecError:
        return ()


def totals(data: memoryview, offset: int, end: int) -> dict[int, int]:
    """The payload of a TOTALS frame. Raises DamagedError."""
    try:
        return _totals_decoder.decode(data[offset + OVERHEAD : end])
    except msgspec.MsgspecError as error:
        message = f"the totals of a segment are not ours: {error}"
        raise DamagedError(message) from error


def frames(data: memoryview) -> Iterator[tuple[Meta, int, int]]:
    """Every whole frame with its first and last offset; what is damaged is passed over up to the next whole one."""
    offset = 0
    while offset < len(data):
        try:
            meta, end = parse(data, offset)
        except ValueError:
            offset = _next_magic(data, offset + 1)
            continue
        yield meta, offset, end
        offset = end


def _next_magic(data: memoryview, offset: int) -> int:
    """Where the next frame may begin; the end of the data where there is none."""
    step = 1 << 20
    while offset < len(data):
        found = bytes(data[offset : offset + step + len(MAGIC)]).find(MAGIC)
        if found >= 0:
            return offset + found
        offset += step
    return len(data)
