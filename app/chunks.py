"""The binary form of a chunk: readings of one tag over a span of time, in compressed columns, with a checksum.

Layout, version 1: msgpack of `_Block`, then its CRC-32 (little-endian). Numbers are compressed by pcodec, which is
lossless to the bit. Times that several tags share are stored once
beside the chunks, in a like form, and so are the points of a thinned past.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np
from pcodec import ChunkConfig, standalone

from app.points import Points
from app.records import pack_others, unpack_others

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.series import Series

VERSION: Final = 1
MAX_READINGS: Final = 1 << 20
"""A block that says it has more is refused: bytes from a disk are foreign too."""
CRC: Final = 4
WORD: Final = 4
BACKFILLED: Final = 1
UNTIMED: Final = 2
_CONFIG: Final = ChunkConfig()
Number = TypeVar("Number", np.int64, np.float64, np.uint32)


class ChunkError(ValueError):
    """These bytes are not what was written; the message says in which way."""


class _Block(msgspec.Struct, array_like=True, frozen=True):
    version: int
    count: int
    time: bytes
    """Of int64 (count,); empty where the axis lies beside the chunk."""
    values: bytes
    """Of float64 (count,); empty when none of the readings is a number."""
    status: bytes
    """Of uint32 (count,), or four bytes for all of them."""
    flags: bytes
    """The same: 1 read from the peer's history after a gap, 2 without a source time."""
    others: bytes


class _Whole(msgspec.Struct, array_like=True, frozen=True):
    version: int
    count: int
    numbers: bytes


class _Points(msgspec.Struct, array_like=True, frozen=True):
    version: int
    count: int
    time: bytes
    """Of int64 (count,), as `readings` and `usable`."""
    readings: bytes
    usable: bytes
    mean: bytes
    """Of float64 (count,), as `minimum` and `maximum`."""
    minimum: bytes
    maximum: bytes
    worst: bytes
    """Of uint32 (count,), or four bytes for all of them."""


def encode_points(points: Points) -> bytes:
    """The points of one tag and one length of interval, in the order of time."""
    return _sealed(_Points(
        VERSION, len(points), _packed(points.time), _packed(points.readings), _packed(points.count),
        _packed(points.mean), _packed(points.minimum), _packed(points.maximum), _packed_words(points.worst),
    ))  # fmt: skip


def decode_points(block: bytes) -> Points:
    """What `encode_points` was given. ChunkError."""
    found = _opened(block, _Points)
    count = found.count
    return Points(
        _unpacked(found.time, count, np.int64), _unpacked(found.readings, count, np.int64),
        _unpacked(found.usable, count, np.int64), _unpacked(found.mean, count, np.float64),
        _unpacked(found.minimum, count, np.float64), _unpacked(found.maximum, count, np.float64),
        _unpacked_words(found.worst, count),
    )  # fmt: skip


def encode_whole(numbers: NDArray[np.int64]) -> bytes:
    """Whole numbers, shape (n,): the times of an axis (ns) that chunks share, or numbers of batches."""
    return _sealed(_Whole(VERSION, len(numbers), _packed(numbers)))


def decode_whole(block: bytes) -> NDArray[np.int64]:
    """Shape (n,). ChunkError."""
    found = _opened(block, _Whole)
    return _unpacked(found.numbers, found.count, np.int64)


def encode(series: Series, *, with_time: bool = True) -> bytes:
    """Readings in the order of time; without their times where these lie on an axis beside."""
    flags = series.backfilled.astype(np.uint32) * BACKFILLED + series.untimed.astype(np.uint32) * UNTIMED
    textual = bool(series.others) and len(series.others) == len(series)
    return _sealed(_Block(
        VERSION,
        len(series),
        _packed(series.time) if with_time else b"",
        b"" if textual else _packed(series.values),
        _packed_words(series.status),
        _packed_words(flags),
        pack_others(series.others) if series.others else b"",
    ))  # fmt: skip


class Chunk:
    """A chunk that is read: its times first, the rest when it is asked for."""

    __slots__ = ("_axis", "_block")

    def __init__(self, block: bytes, axis: NDArray[np.int64] | None = None) -> None:
        """`axis`: its times (ns), where they lie beside it. ChunkError."""
        self._block = _opened(block, _Block)
        self._axis = axis
        if axis is not None and len(axis) != self._block.count:
            message = f"a chunk of {self._block.count} readings has an axis of {len(axis)}"
            raise ChunkError(message)

    def time(self) -> NDArray[np.int64]:
        """Ns, shape (n,). ChunkError."""
        return _unpacked(self._block.time, self._block.count, np.int64) if self._axis is None else self._axis

    def values(self) -> NDArray[np.float64]:
        """Shape (n,); NaN where the value is no number. ChunkError."""
        if not self._block.values:
            return np.full(self._block.count, np.nan)
        return _unpacked(self._block.values, self._block.count, np.float64)

    def status(self) -> NDArray[np.uint32]:
        """StatusCodes, shape (n,). ChunkError."""
        return _unpacked_words(self._block.status, self._block.count)

    def flagged(self, flag: int) -> NDArray[np.bool_]:
        """Which readings have `BACKFILLED`, or `UNTIMED`, shape (n,). ChunkError."""
        flags, count = self._block.flags, self._block.count
        if len(flags) == WORD:
            return np.broadcast_to(np.bool_(int.from_bytes(flags, "little") & flag), count)
        return (_unpacked_words(flags, count) & np.uint32(flag)) > 0

    def others(self) -> Mapping[int, object]:
        """Row to value, of what is no number. ChunkError."""
        if not self._block.others:
            return {}
        try:
            others = unpack_others(self._block.others)
        except ValueError as error:
            raise ChunkError(str(error)) from error
        if not all(0 <= row < self._block.count for row in others):
            message = "a chunk has a value outside its rows"
            raise ChunkError(message)
        return others


def _packed(array: NDArray[Number]) -> bytes:
    packed: bytes = standalone.simple_compress(np.ascontiguousarray(array), _CONFIG)
    return packed


def _packed_words(words: NDArray[np.uint32]) -> bytes:
    """Four bytes when all are alike; pcodec never makes so few, its head is longer."""
    uniform = len(words) > 0 and bool((words == words[0]).all())
    return words[:1].astype("<u4").tobytes() if uniform else _packed(words)


def _unpacked_words(packed: bytes, count: int) -> NDArray[np.uint32]:
    if len(packed) == WORD:
        return np.broadcast_to(np.uint32(int.from_bytes(packed, "little")), count)
    return _unpacked(packed, count, np.uint32)


def _unpacked(packed: bytes, count: int, kind: type[Number]) -> NDArray[Number]:
    array = np.empty(count, dtype=kind)
    try:
        progress = standalone.simple_decompress_into(packed, array)
    except (RuntimeError, TypeError) as error:
        message = f"a column of a chunk cannot be read: {error}"
        raise ChunkError(message) from error
    if progress.n_processed != count or not progress.finished:
        message = f"a column of a chunk holds other than {count} numbers"
        raise ChunkError(message)
    return array


Struct = TypeVar("Struct", _Block, _Whole, _Points)


def _sealed(block: _Block | _Whole | _Points) -> bytes:
    packed = msgspec.msgpack.encode(block)
    return packed + zlib.crc32(packed).to_bytes(CRC, "little")


def _opened(block: bytes, kind: type[Struct]) -> Struct:
    content, crc = block[:-CRC], block[-CRC:]
    if zlib.crc32(content).to_bytes(CRC, "little") != crc:
        message = "the checksum of a chunk does not fit: the disk gave back other bytes than were written"
        raise ChunkError(message)
    try:
        found = msgspec.msgpack.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        message = f"these bytes are no chunk: {error}"
        raise ChunkError(message) from error
    if found.version != VERSION or not 0 <= found.count <= MAX_READINGS:
        message = f"a chunk of version {found.version} with {found.count} readings; this reads version {VERSION}"
        raise ChunkError(message)
    return found
