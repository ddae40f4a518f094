"""DataChangeNotification decoder (IEC 62541-6, 5.2.2.16 and 5.2.2.17): the bytes of a notification in, columns out.

Items that follow each other in one fixed layout are read as one numpy view; a lone item is read by one precompiled
struct; what has no fixed size is read one value at a time by `variant`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from asyncua.ua.uaerrors import UaError

from connectors import NO_TIME
from connectors.opcua.variant import DTYPES, FILETIME_UNIX, LARGEST_VALUE, NOT_UTF_8, TOO_LARGE, value_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILETIME_SPAN: Final = np.iinfo(np.int64).max // 100
"""So far from 1970, in 100 ns steps, int64 nanoseconds reach."""
EXACT: Final = 2**53
"""Integers beyond this are not all exact in float64."""

NOTHING: Final = 0
BOOLEAN: Final = 1
INT64: Final = 8
DATE_TIME: Final = 13
STRING: Final = 12
ARRAY: Final = 0x80
TYPE_BITS: Final = 0x3F
HANDLE: Final = 4
"""Bytes of a client handle."""
ARRAYS: Final = {kind | ARRAY: kind for kind in DTYPES if kind != BOOLEAN}
"""Encoding bytes of one-dimensional arrays of numbers."""
SMALLEST_ITEM: Final = 5
RUN: Final = 6
"""From this many items of one layout on, numpy is faster than struct."""
LOOK_AHEAD: Final = 512
EXCERPT: Final = 256
"""Bytes that are shown of a value that cannot become a reading."""
DECODING_ERRORS: Final = (
    UaError,
    ValueError,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What broken bytes make our decoder and asyncua's raise."""

FIXED: Final[dict[int, str]] = {
    BOOLEAN: "?",
    2: "b",
    3: "B",
    4: "h",
    5: "H",
    6: "i",
    7: "I",
    INT64: "q",
    9: "Q",
    10: "f",
    11: "d",
    DATE_TIME: "q",
    19: "I",
}
"""Built-in types of fixed size (IEC 62541-6, table 1) and how struct and numpy call them."""
WIDE: Final = frozenset({INT64, 9})
TAIL: Final[tuple[tuple[int, str], ...]] = ((0x02, "I"), (0x04, "q"), (0x10, "2x"), (0x08, "8x"), (0x20, "2x"))
"""What may follow the value in a DataValue, in order: status, source time, its picoseconds, server time, its own."""
VALUE: Final = 0x01
STATUS: Final = 0x02
SOURCE_TIME: Final = 0x04
KNOWN_MASK: Final = 0x3F


class UndecodableError(ValueError):
    """The bytes are not what IEC 62541-6 allows. `done` items before them are good."""

    def __init__(self, message: str, done: int = 0) -> None:
        """`done`: how many items were read before the broken one."""
        super().__init__(message)
        self.done = done


@dataclass(frozen=True, slots=True)
class Changes:
    """The monitored items of one or more notifications, in columns of length n, before any tag is known."""

    handles: NDArray[np.uint32]
    values: NDArray[np.float64]
    """NaN where there is no value or `others` holds it."""
    status: NDArray[np.uint32]
    source_time: NDArray[np.int64]
    """ns since 1970 UTC, `NO_TIME` where absent or out of range."""
    kinds: NDArray[np.uint8]
    """Built-in type of the value, plus 0x80 for an array; 0 where there is none."""
    others: dict[int, object]

    def first(self, n: int) -> Changes:
        """The first n items alone."""
        kept = {row: value for row, value in self.others.items() if row < n}
        return Changes(self.handles[:n], self.values[:n], self.status[:n], self.source_time[:n], self.kinds[:n], kept)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a monitored item with this encoding mask and this type of scalar lies in memory."""

    whole: struct.Struct
    """handle, [value], [status], [source time]"""
    dtype: np.dtype[np.void]
    kind: int
    has_status: bool
    has_time: bool


@lru_cache(maxsize=1024)
def layout_of(mask: int, variant: int) -> Layout | None:
    """The layout for a DataValue mask and a Variant encoding byte (0 without a value); None if of no fixed size."""
    code = FIXED.get(variant)
    if mask & ~KNOWN_MASK or (mask & VALUE and code is None):
        return None
    text, fields, offset = "<Ix", [("handle", "<u4", 0), ("mask", "u1", 4)], 5
    if mask & VALUE and code is not None:
        text += f"x{code}"
        fields += [("variant", "u1", 5), ("value", "u1" if code == "?" else f"<{np.dtype(code).str[1:]}", 6)]
        offset = 6 + struct.calcsize(f"<{code}")
    for bit, part in TAIL:
        if mask & bit:
            if bit in (STATUS, SOURCE_TIME):
                fields.append(("status" if bit == STATUS else "time", f"<{np.dtype(part).str[1:]}", offset))
            text, offset = text + part, offset + struct.calcsize(f"<{part}")
    names, formats, offsets = zip(*fields, strict=True)
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": offset})
    return Layout(struct.Struct(text), dtype, variant, bool(mask & STATUS), bool(mask & SOURCE_TIME))


@lru_cache(maxsize=64)
def tail_of(mask: int) -> struct.Struct:
    """What follows the value: [status], [source time]."""
    return struct.Struct("<" + "".join(part for bit, part in TAIL if mask & bit))


def unix_ns(filetime: int) -> int:
    """An OPC UA DateTime as ns since 1970 UTC; `NO_TIME` for 0 (absent) and for what int64 cannot hold."""
    steps = filetime - FILETIME_UNIX
    return steps * 100 if filetime > 0 and -FILETIME_SPAN < steps < FILETIME_SPAN else NO_TIME


def unix_ns_of_value(moment: object) -> int:
    """A DateTime that was read exactly, as ns since 1970 that int64 holds; `NO_TIME` for what is none."""
    if not isinstance(moment, int):
        return NO_TIME
    return unix_ns(moment // 100 + FILETIME_UNIX)


def unix_ns_of(filetimes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same for a column; shape (n,)."""
    low, high = FILETIME_UNIX - FILETIME_SPAN, FILETIME_UNIX + FILETIME_SPAN
    usable = (filetimes > max(low, 0)) & (filetimes < high)
    return np.where(usable, (np.where(usable, filetimes, FILETIME_UNIX) - FILETIME_UNIX) * 100, NO_TIME)


class _Reader:
    """One pass over the items of one notification."""

    def __init__(self, body: bytes, position: int, count: int, shared: int = 0) -> None:
        """`count` items start at `position` of `body`. `shared`: bytes that each has in common with the one before."""
        self._shared = shared
        self.body, self.position, self.row, self.count = body, position, 0, count
        self.handles = np.zeros(count, dtype=np.uint32)
        self.values = np.full(count, np.nan)
        self.status = np.zeros(count, dtype=np.uint32)
        self.times = np.zeros(count, dtype=np.int64)
        self.kinds = np.zeros(count, dtype=np.uint8)
        self.others: dict[int, object] = {}
        self._cells = tuple(memoryview(c) for c in (self.handles, self.values, self.status, self.times, self.kinds))  # type: ignore[arg-type]

    def step(self) -> None:
        """Read one item, or as many as share its layout."""
        mask = self.body[self.position + 4]
        variant = self.body[self.position + 5] if mask & VALUE else NOTHING
        layout = layout_of(mask, variant)
        if layout is None:
            self._odd(mask, variant)
        elif self._worth_a_view(layout, mask, variant):
            self._run(layout, mask, variant)
        else:
            self._one(layout)

    def _worth_a_view(self, layout: Layout, mask: int, variant: int) -> bool:
        """Whether the item `RUN` further on looks alike, so that a numpy view is likely to pay."""
        ahead = self.position + RUN * (layout.whole.size - self._shared)
        if self.row + RUN >= self.count or ahead + SMALLEST_ITEM >= len(self.body) or self.body[ahead + 4] != mask:
            return False
        return not mask & VALUE or self.body[ahead + 5] == variant

    def _one(self, layout: Layout) -> None:
        handles, values, status, times, kinds = self._cells
        found = layout.whole.unpack_from(self.body, self.position)
        row, at = self.row, 1
        handles[row] = found[0]
        if layout.kind != NOTHING:
            kinds[row], at = layout.kind, 2
            number = found[1]
            if layout.kind == DATE_TIME or (layout.kind in WIDE and not -EXACT <= number <= EXACT):
                self._exactly(row, layout.kind, number)
            else:
                values[row] = number
        if layout.has_status:
            status[row], at = found[at], at + 1
        if layout.has_time:
            times[row] = found[at]
        self.position += layout.whole.size - self._shared
        self.row += 1

    def _run(self, layout: Layout, mask: int, variant: int) -> None:
        size = layout.dtype.itemsize - self._shared
        most = min(self.count - self.row, (len(self.body) - self.position - self._shared) // size, LOOK_AHEAD)
        items = np.ndarray(most, layout.dtype, self.body, self.position, (size,))
        alike = items["mask"] == mask
        if variant:
            alike &= items["variant"] == variant
        n = most if alike.all() else int(alike.argmin())
        rows = slice(self.row, self.row + n)
        self.handles[rows] = items["handle"][:n]
        if variant:
            self.kinds[rows] = layout.kind
            self._numbers(layout.kind, items["value"][:n], rows)
        if layout.has_status:
            self.status[rows] = items["status"][:n]
        if layout.has_time:
            self.times[rows] = items["time"][:n]
        self.row, self.position = self.row + n, self.position + n * size

    def _numbers(self, kind: int, numbers: NDArray[Any], rows: slice) -> None:
        if kind == DATE_TIME:
            for row, number in enumerate(numbers.tolist(), rows.start):
                self._exactly(row, kind, number)
            return
        self.values[rows] = numbers != 0 if kind == BOOLEAN else numbers
        if kind in WIDE:
            for at in np.flatnonzero(
                (numbers > EXACT) | (numbers < -EXACT) if kind == INT64 else numbers > EXACT
            ).tolist():
                self._exactly(rows.start + at, kind, int(numbers[at]))

    def _exactly(self, row: int, kind: int, number: int) -> None:
        """Keep what float64 would round: a wide integer, or a DateTime as ns since 1970."""
        self.values[row] = np.nan
        self.others[row] = (number - FILETIME_UNIX) * 100 if kind == DATE_TIME else number

    def _odd(self, mask: int, variant: int) -> None:
        """A value of variable size: a string, an array, a structure."""
        if mask & ~KNOWN_MASK:
            message = f"a DataValue with the encoding mask {mask:#x}"
            raise UndecodableError(message)
        row = self.row
        (self.handles[row],) = struct.unpack_from("<I", self.body, self.position)
        value, end, kind = _variable(self.body, self.position + 5, variant)
        tail = tail_of(mask)
        found = list(tail.unpack_from(self.body, end))
        if mask & STATUS:
            self.status[row] = found.pop(0)
        if mask & SOURCE_TIME:
            self.times[row] = found.pop(0)
        self._keep(row, kind, value)
        self.position, self.row = end + tail.size - self._shared, row + 1

    def _keep(self, row: int, kind: int, value: object) -> None:
        """Put a value from the slow way where the fast way would have put it."""
        self.kinds[row] = NOTHING if value is None else kind
        if value is None:
            return
        if isinstance(value, int | float) and -EXACT <= value <= EXACT and kind != DATE_TIME:
            self.values[row] = value
        else:
            self.others[row] = value

    def changes(self) -> Changes:
        """What has been read so far."""
        whole = Changes(self.handles, self.values, self.status, unix_ns_of(self.times), self.kinds, self.others)
        return whole if self.row == self.count else whole.first(self.row)


def _variable(body: bytes, start: int, variant: int) -> tuple[object, int, int]:
    """Value, end position and kind of a Variant that begins at `start`; see `variant.value_at`."""
    if variant in ARRAYS:
        return _array(body, start + 1, ARRAYS[variant])
    if variant != STRING:
        return value_at(body, start)
    (length,) = struct.unpack_from("<i", body, start + 1)
    end = start + 5 + max(length, 0)
    if length < 0:
        return None, end, STRING
    value, kind = _text(body, start + 5, end)
    return value, end, kind


def _array(body: bytes, start: int, kind: int) -> tuple[object, int, int]:
    """The most frequent of what has no fixed size, read with as few steps as a text; `variant` reads the same."""
    (length,) = struct.unpack_from("<i", body, start)
    if length < 0:
        return None, start + 4, kind | ARRAY
    dtype = DTYPES[kind]
    end = start + 4 + length * dtype.itemsize
    if end > len(body):
        message = "an array longer than its message"
        raise UndecodableError(message)
    if end - start > LARGEST_VALUE:
        return body[start : start + EXCERPT], end, TOO_LARGE
    return np.frombuffer(body, dtype=dtype, count=length, offset=start + 4).copy(), end, kind | ARRAY


def _text(body: bytes, start: int, end: int) -> tuple[object, int]:
    if end > len(body):
        message = "a string longer than its message"
        raise UndecodableError(message)
    if end - start > LARGEST_VALUE:
        return body[start : start + EXCERPT], TOO_LARGE
    try:
        return body[start:end].decode(), STRING
    except UnicodeDecodeError:
        return body[start : min(end, start + EXCERPT)], NOT_UTF_8


def decode_items(body: bytes, start: int = 0, on_broken: Callable[[UndecodableError], None] | None = None) -> Changes:
    """The MonitoredItems of a DataChangeNotification whose array length is at `start`.

    Raises UndecodableError, unless `on_broken` takes it: then the items before the broken one are returned.
    """
    return _decoded(body, start, 0, on_broken)


def decode_values(body: bytes, start: int = 0, on_broken: Callable[[UndecodableError], None] | None = None) -> Changes:
    """The DataValues of a ReadResponse whose array length is at `start`; their handles mean nothing. The same errors.

    A monitored item is a handle and a DataValue: without handles each begins four bytes before the last one ends.
    """
    return _decoded(body, start, HANDLE, on_broken)


def _decoded(body: bytes, start: int, shared: int, on_broken: Callable[[UndecodableError], None] | None) -> Changes:
    (count,) = struct.unpack_from("<i", body, start)
    room = (len(body) - start - 4) // (SMALLEST_ITEM - shared)
    if count > room:
        message = f"{count} items announced, room for {room}"
        raise UndecodableError(message)
    reader = _Reader(body, start + 4 - shared, max(count, 0), shared)
    try:
        while reader.row < reader.count:
            reader.step()
    except DECODING_ERRORS as error:
        broken = UndecodableError(f"item {reader.row} of {reader.count}: {error}", reader.row)
        if on_broken is None:
            raise broken from error
        on_broken(broken)
    return reader.changes()
