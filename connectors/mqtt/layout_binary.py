"""Packed binary: each tag says where its bytes lie and what they are, once or in each record of equal size."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, Field

from connectors import NO_TIME, Status
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Point, Reader, Strict, Tag, missing, wrong_layout
from connectors.mqtt.times import time_of
from connectors.mqtt.values import UnusableError

if TYPE_CHECKING:
    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

Kind = Literal["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
CODES: Final[dict[Kind, str]] = {
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
ORDERS: Final = {"big": ">", "little": "<"}
OF_TAG: Final = frozenset({"at", "type", "order", "words_swapped", "bit", "scale", "offset", "count"})
TAKES: Final = frozenset({"time_format"})
UNTYPED: Final = False
SPARSE: Final = False
LARGEST: Final = 268_435_455
WORD: Final = 2
SIZES: Final[dict[Kind, int]] = {kind: struct.calcsize("<" + code) for kind, code in CODES.items()}
TIME_TOGETHER: Final = "`time_at`, `time_type` and the tag's `time_format` go together"


class Options(Strict):
    """Where a tag's bytes are and what they mean."""

    at: int = Field(ge=0, le=LARGEST)
    """The first byte, from 0, in the payload or in its record."""
    type: Kind
    order: Literal["big", "little"] | None = None
    """Must be given for what has more than one byte."""
    words_swapped: bool = False
    """Its 16-bit words come last word first, as from many Modbus devices."""
    bit: int | None = Field(default=None, ge=0, le=63)
    """The tag is this bit, from 0 for the least significant: a boolean."""
    count: int | None = Field(default=None, ge=1, le=LARGEST)
    """So many of them in a row make one array."""
    scale: float = 1
    offset: float = 0
    """value = raw * scale + offset; without both, whole numbers stay exact."""
    start: int = Field(default=0, ge=0, le=LARGEST)
    """Bytes before the first record."""
    stride: int | None = Field(default=None, ge=1, le=LARGEST)
    """Size of a record; from `start` on the payload is nothing but records."""
    length: int | None = Field(default=None, ge=0, le=LARGEST)
    """Size of the payload; another is refused."""
    time_at: int | None = Field(default=None, ge=0, le=LARGEST)
    """Where the time is, counted like `at`."""
    time_type: Kind | None = None
    time_order: Literal["big", "little"] | None = None


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    own = Options.model_validate(layout)
    problem = _problem(own, timed=options.time_format is not None)
    if problem is not None:
        raise ValueError(problem)
    return BinaryReader(options, own)


def _problem(own: Options, *, timed: bool) -> str | None:
    """What contradicts itself, or None."""
    size = SIZES[own.type]
    ends = [own.at + size * (own.count or 1)]
    if own.time_at is not None and own.time_type is not None:
        ends.append(own.time_at + SIZES[own.time_type])
    rules = (
        (size > 1 and own.order is None, f"`order` of {own.type}: big or little"),
        (own.words_swapped and size < WORD * 2, f"`words_swapped` needs two words, {own.type} has fewer"),
        (own.bit is not None and not own.type.startswith("uint"), "`bit` needs an unsigned type"),
        (own.bit is not None and own.bit >= size * 8, f"{own.type} has no bit {own.bit}"),
        (own.bit is not None and own.count is not None, "`bit` and `count` exclude each other"),
        (own.bit is not None and (own.scale, own.offset) != (1, 0), "a `bit` is neither scaled nor offset"),
        (own.stride is None and own.start > 0, "`start` needs `stride`"),
        (own.stride is not None and max(ends) > own.stride, "`at` and its type reach beyond `stride`"),
        (len({own.time_at is None, own.time_type is None, not timed}) > 1, TIME_TOGETHER),
        (own.time_type is not None and SIZES[own.time_type] > 1 and own.time_order is None, "`time_order` is missing"),
    )
    return next((text for broken, text in rules if broken), None)


class BinaryReader:
    """Checks the size of a message, and reads the time of each record."""

    def __init__(self, options: TagOptions, layout: Options) -> None:
        """As configured."""
        self._packing, self._layout = Packing.of(options), layout
        self._form = options.time_format or ""
        kind, order = layout.time_type, layout.time_order
        self._clock = None if kind is None else struct.Struct(ORDERS[order or "little"] + CODES[kind])

    def read(self, body: Body) -> Packed:
        """See `Reader.read`."""
        content, layout = body.unpacked(self._packing), self._layout
        if layout.length is not None and len(content) != layout.length:
            detail = f"the payload has {len(content)} bytes, `length` is {layout.length}"
            raise wrong_layout(detail)
        starts: range = range(1)
        if layout.stride is not None:
            if len(content) < layout.start or (len(content) - layout.start) % layout.stride:
                detail = f"{len(content)} bytes are not {layout.start} and records of {layout.stride}"
                raise wrong_layout(detail)
            starts = range(layout.start, len(content), layout.stride)
        return Packed(content, [(start, *self._time(content, start)) for start in starts])

    def _time(self, content: bytes, start: int) -> tuple[int, UnusableError | None]:
        if self._clock is None or self._layout.time_at is None:
            return NO_TIME, None
        try:
            (said,) = self._clock.unpack_from(content, start + self._layout.time_at)
            return time_of(said, self._form), None
        except struct.error as error:
            return NO_TIME, UnusableError("bad_time", f"the payload ends before its time: {error}; check `time_at`")
        except UnusableError as problem:
            return NO_TIME, problem


class Packed:
    """The bytes of a message, and where its records begin, with their times."""

    def __init__(self, content: bytes, records: list[tuple[int, int, UnusableError | None]]) -> None:
        """As `BinaryReader` made them."""
        self._content, self._records = content, records

    def points(self, tag: Tag) -> Iterable[Point]:
        """See `Found.points`."""
        if tag.place.tokens:
            detail = f"bytes have no {tag.place.text}: write the topic alone, and `at` under `layout`"
            raise missing(detail)
        own = tag.layout
        if not isinstance(own, Options):
            message = f"{type(own).__name__} is no layout of packed binary"
            raise TypeError(message)
        form = struct.Struct(f"{ORDERS[own.order or 'little']}{own.count or 1}{CODES[own.type]}")
        return [
            (time, Status.GOOD, problem or _value(self._content, start + own.at, own, form))
            for start, time, problem in self._records
        ]


def _value(content: bytes, at: int, own: Options, form: struct.Struct) -> object:
    part = content[at : at + form.size]
    if len(part) < form.size:
        reason = "too_short"
        return UnusableError(reason, f"the payload ends at byte {len(content)}, before the tag's: check `at`")
    if own.words_swapped:
        part = _unswapped(part, SIZES[own.type])
    raw = form.unpack(part)
    if own.bit is not None:
        return bool(int(raw[0]) >> own.bit & 1)
    values = list(raw) if (own.scale, own.offset) == (1, 0) else [one * own.scale + own.offset for one in raw]
    return values if own.count is not None else values[0]


def _unswapped(content: bytes, size: int) -> bytes:
    """Each value's 16-bit words in the reverse order."""
    values = (content[at : at + size] for at in range(0, len(content), size))
    return b"".join(value[at : at + WORD] for value in values for at in range(size - WORD, -1, -WORD))
