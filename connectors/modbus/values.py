"""Registers and bits to readings: types, byte and word order, scale, and what a tag's datatype does not take."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np

from connectors import Batch, Refusal, Status, TagBinding
from connectors.modbus.address import BITS, Address, parse
from connectors.modbus.options import Options, TagOptions

EXACT: Final = 2**53
WIDEST: Final = 2**64
EXCERPT: Final = 256
ACCEPTED: Final[dict[str, frozenset[str]]] = {
    "float": frozenset({"a number"}),
    "integer": frozenset({"a number"}),
    "boolean": frozenset({"a boolean"}),
    "string": frozenset({"a string"}),
    "array": frozenset(),
    "any": frozenset({"a number", "a boolean", "a string"}),
}

Answer = tuple[int, ...] | int
"""Registers or bits as they came, or the StatusCode that stands for them."""


class Span(NamedTuple):
    """Neighbouring addresses of one table and unit."""

    unit: int
    table: str
    start: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Point:
    """One tag, ready to be read out of what a device answers."""

    tag: TagBinding
    where: Address
    span: Span
    options: TagOptions
    """With the connection's orders where the tag has none."""
    linear: tuple[int, int, int]
    """(a, b, d): an integer's value is (raw · a + b) / d."""

    @classmethod
    def of(cls, tag: TagBinding, options: Options) -> Point:
        """What a tag means on this connection. ValueError for an address or options that cannot be."""
        where, own = parse(tag.address), TagOptions.model_validate(tag.options)
        wrong = _misfit(where, own, options)
        if wrong:
            message = f"{tag.address!r}: {wrong}"
            raise ValueError(message)
        orders = {key: getattr(own, key) or getattr(options, key) for key in ("word_order", "byte_order")}
        unit = options.unit if own.unit is None else own.unit
        # The decimal that was written, not the binary number nearest to it.
        (a, over), (b, under) = (Decimal(str(number)).as_integer_ratio() for number in (own.scale, own.offset))
        d = math.lcm(over, under)
        span = Span(unit, where.table, where.start, where.count)
        return cls(tag, where, span, own.model_copy(update=orders), (a * (d // over), b * (d // under), d))

    def value(self, raw: tuple[int, ...]) -> tuple[float | str | None, int]:
        """What these registers or this bit say, and the status; None with a Bad one."""
        if self.span.table in BITS:
            return bool(raw[0]), Status.GOOD
        code, order = self.where.code, "<" if self.options.byte_order == "little" else ">"
        words = raw[::-1] if self.options.word_order == "little" and code != "string" else raw
        data = struct.pack(f"{order}{len(words)}H", *words)
        if code == "bit":
            return bool(int.from_bytes(data, "big") >> self.where.part & 1), Status.GOOD
        if code == "string":
            return self._text(data[: self.where.part])
        (number,) = struct.unpack(f">{code}", data)
        return self._whole(number) if isinstance(number, int) else self._real(number)

    def _text(self, data: bytes) -> tuple[str | None, int]:
        try:
            return data.split(b"\0")[0].decode(self.options.encoding).rstrip(), Status.GOOD
        except UnicodeDecodeError:
            return None, Status.BAD_TYPE_MISMATCH

    def _whole(self, number: int) -> tuple[float | None, int]:
        a, b, d = self.linear
        value = number * a + b
        if value % d:
            return value / d, Status.GOOD
        fits = -WIDEST // 2 <= value // d < WIDEST
        return (value // d, Status.GOOD) if fits else (None, Status.BAD_OUT_OF_RANGE)

    def _real(self, number: float) -> tuple[float | None, int]:
        """NaN is how devices say that there is no value; it must not leave the last one in force."""
        value = number * self.options.scale + self.options.offset
        if math.isfinite(value):
            return value, Status.GOOD
        return None, Status.BAD_DATA_UNAVAILABLE if math.isnan(value) else Status.BAD_OUT_OF_RANGE


def _misfit(where: Address, own: TagOptions, options: Options) -> str:
    """What does not go together, or nothing."""
    if own.group is not None and own.group not in options.groups:
        return f"the connection has no group {own.group!r}"
    if where.code in {"bit", "string"} and (own.scale, own.offset) != (1, 0):
        return "only numbers have a scale or an offset"
    if where.count > options.max_registers:
        return f"it takes {where.count} registers, more than one request may read (`max_registers`)"
    return ""


@dataclass(slots=True)
class Rows:
    """Readings under construction."""

    tags: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    others: dict[int, object] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)

    def put(self, point: Point, answer: Answer, when: int) -> None:
        """A reading of this tag, or a refusal where the tag is configured to hold something else."""
        value, status = (None, answer) if isinstance(answer, int) else point.value(answer)
        kind = _kind(value, point.tag.datatype)
        if value is not None and kind not in ACCEPTED[point.tag.datatype]:
            detail = f"the address gives {kind}, the tag is configured as {point.tag.datatype}: change one of them"
            shown = str(value).encode()[:EXCERPT]
            self.refused.append(Refusal(point.tag.address, "wrong_type", detail, shown))
            return
        if isinstance(value, str) or (isinstance(value, int) and abs(value) > EXACT):
            self.others[len(self.tags)] = value
            value = None
        self.tags.append(point.tag.id)
        self.times.append(when)
        self.values.append(math.nan if value is None else float(value))
        self.status.append(status)

    def batch(self, revision: int) -> Batch:
        """All of it. Every tag whose beat it was has been asked, so the connection is alive up to now."""
        now = time.time_ns()
        return Batch(
            np.array(self.tags, dtype=np.int64),
            np.array(self.times, dtype=np.int64),
            np.array(self.values, dtype=np.float64),
            self.others,
            np.array(self.status, dtype=np.uint32),
            now,
            now,
            revision,
            tuple(self.refused),
        )


def _kind(value: float | str | None, datatype: str) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    return "a fraction" if datatype == "integer" and isinstance(value, float) and not value.is_integer() else "a number"
