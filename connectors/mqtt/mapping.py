"""Payload to readings: what a message on a topic means for each tag, and what in it cannot be taken."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from connectors import NO_TIME, Refusal, Status, TagBinding
from connectors.mqtt.address import MissingValueError, Pointer, pointer, split
from connectors.mqtt.options import TagOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT: Final = 2**53
INT64: Final = np.iinfo(np.int64)
WIDEST: Final = 2**64
EXCERPT: Final = 256
SCALE_NS: Final[dict[str, int]] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
QUALITIES: Final[dict[str, int]] = {"good": Status.GOOD, "uncertain": Status.UNCERTAIN, "bad": Status.BAD}
ISO: Final = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|z|[+-]\d\d:?\d\d)")
BAD: Final = 2
LARGEST_CODE: Final = 0xFFFFFFFF
WHOLE: Final = pointer("")


class UnusableError(ValueError):
    """Something in a payload that cannot become a reading; `reason` is the ledger's word for it."""

    def __init__(self, reason: str, detail: str) -> None:
        """`detail` is for the operator."""
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Binding:
    """One tag, ready to be looked up in a payload."""

    tag: int
    address: str
    place: Pointer
    datatype: str
    options: TagOptions
    time: Pointer | None
    quality: Pointer | None
    each: Pointer | None

    @classmethod
    def of(cls, tag: TagBinding) -> tuple[str, Binding]:
        """The topic and the binding of a tag. Raises ValueError for options that `TagOptions` refuses."""
        options = TagOptions.model_validate(tag.options)
        topic, place = split(tag.address)
        places = (pointer(text) if text is not None else None for text in (options.time, options.quality, options.each))
        return topic, cls(tag.id, tag.address, place, tag.datatype, options, *places)


@dataclass(slots=True)
class Rows:
    """Readings under construction, and what was refused, merged by address and reason."""

    tags: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    others: dict[int, object] = field(default_factory=dict)
    refused: dict[tuple[str, str], tuple[str, bytes, int]] = field(default_factory=dict)

    def refuse(self, address: str, problem: UnusableError, payload: bytes, readings: int = 1) -> None:
        """Count something that cannot be taken; the first excerpt is kept."""
        detail, excerpt, n = self.refused.get((address, problem.reason), (str(problem), payload[:EXCERPT], 0))
        self.refused[address, problem.reason] = (detail, excerpt, n + readings)

    def refusals(self) -> tuple[Refusal, ...]:
        """All that was refused."""
        return tuple(
            Refusal(a, reason, detail, excerpt, n) for (a, reason), (detail, excerpt, n) in self.refused.items()
        )


class Mapping:
    """All tags of a connection, by topic."""

    def __init__(self, tags: Iterable[TagBinding]) -> None:
        """Raises ValueError for an address or options that are not valid."""
        self._topics: dict[str, list[Binding]] = {}
        for tag in tags:
            topic, binding = Binding.of(tag)
            self._topics.setdefault(topic, []).append(binding)

    @property
    def topics(self) -> Sequence[str]:
        """Every topic a tag is on."""
        return tuple(self._topics)

    def add(self, topic: str, payload: bytes, rows: Rows) -> None:
        """Put the readings of one message into `rows`, and refuse there what cannot be one."""
        bindings = self._topics.get(topic)
        if bindings is None:
            rows.refuse(
                topic,
                UnusableError("unknown_topic", "no tag is on this topic: add one, or narrow the subscription"),
                payload,
            )
            return
        try:
            document = _document(payload) if any(b.options.format == "json" for b in bindings) else None
        except UnusableError as problem:
            rows.refuse(topic, problem, payload, len(bindings))
            return
        for binding in bindings:
            if binding.options.format == "text":
                _text(binding, payload, rows)
            else:
                _records(binding, document, payload, rows)


def _document(payload: bytes) -> object:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "broken_json"
        raise UnusableError(reason, f"the payload is not JSON: {error}") from error


def _text(binding: Binding, payload: bytes, rows: Rows) -> None:
    try:
        _put(binding, rows, NO_TIME, Status.GOOD, payload.decode())
    except UnicodeDecodeError as error:
        rows.refuse(binding.address, UnusableError("wrong_type", f"the payload is not UTF-8 text: {error}"), payload)
    except UnusableError as problem:
        rows.refuse(binding.address, problem, payload)


def _records(binding: Binding, document: object, payload: bytes, rows: Rows) -> None:
    """One reading of this message for this tag, or one per record."""
    records: list[object] = [document]
    if binding.each is not None:
        try:
            found = binding.each.find(document)
        except MissingValueError as error:
            rows.refuse(binding.address, UnusableError("missing_value", str(error)), payload)
            return
        if not isinstance(found, list):
            rows.refuse(binding.address, UnusableError("wrong_type", f"{binding.each.text} is not an array"), payload)
            return
        records = found
    for record in records:
        try:
            _reading(binding, document, record, rows)
        except UnusableError as problem:
            rows.refuse(binding.address, problem, payload)


def _reading(binding: Binding, document: object, record: object, rows: Rows) -> None:
    status = Status.GOOD
    if binding.quality is not None:
        status = status_of(_find(binding.quality, document, record, "unknown_quality"), binding.options)
    time = NO_TIME
    if binding.time is not None:
        time = time_of(_find(binding.time, document, record, "bad_time"), binding.options.time_format)
    try:
        value = binding.place.find(document if binding.place.from_message else record)
    except MissingValueError as error:
        if min(status >> 30, BAD) != BAD:
            reason = "missing_value"
            raise UnusableError(reason, str(error)) from error
        value = None
    _put(binding, rows, time, status, value)


def _find(place: Pointer, document: object, record: object, reason: str) -> object:
    try:
        return place.find(document if place.from_message else record)
    except MissingValueError as error:
        raise UnusableError(reason, str(error)) from error


def _put(binding: Binding, rows: Rows, time: int, status: int, value: object) -> None:
    number, other = value_of(value, binding.datatype, bad=min(status >> 30, BAD) == BAD)
    if other is not None:
        rows.others[len(rows.tags)] = other
    rows.tags.append(binding.tag)
    rows.times.append(time)
    rows.values.append(number)
    rows.status.append(status)


def value_of(value: object, datatype: str, *, bad: bool) -> tuple[float, object | None]:
    """A JSON value as a number, or NaN and what `others` holds. UnusableError; a Bad reading may lack its value."""
    if value is None:
        if bad:
            return math.nan, None
        reason, detail = "missing_value", "null with a quality that is not Bad"
        raise UnusableError(reason, detail)
    kind = _kind(value)
    if kind not in ACCEPTED[datatype] or (
        datatype == "integer" and isinstance(value, float) and not value.is_integer()
    ):
        reason = "wrong_type"
        raise UnusableError(reason, f"the payload has {kind}, the tag is configured as {datatype}")
    if isinstance(value, bool):
        return float(value), None
    if isinstance(value, int | float):
        return _number(value)
    return math.nan, _array(value) if isinstance(value, list) else value


ACCEPTED: Final[dict[str, frozenset[str]]] = {
    "float": frozenset({"a number"}),
    "integer": frozenset({"a number"}),
    "boolean": frozenset({"a boolean"}),
    "string": frozenset({"a string"}),
    "array": frozenset({"an array"}),
    "any": frozenset({"a number", "a boolean", "a string", "an array", "an object"}),
}


def _kind(value: object) -> str:
    names = ((bool, "a boolean"), (int, "a number"), (float, "a number"), (str, "a string"), (list, "an array"))
    return next((name for kind, name in names if isinstance(value, kind)), "an object")


def _number(value: float) -> tuple[float, object | None]:
    if isinstance(value, int) and not -EXACT <= value <= EXACT:
        if not -WIDEST // 2 <= value < WIDEST:
            reason, detail = "wrong_type", "an integer of more than 64 bits"
            raise UnusableError(reason, detail)
        return math.nan, value
    if not math.isfinite(value):
        reason, detail = "not_finite", "a number that is not finite"
        raise UnusableError(reason, detail)
    return float(value), None


def _array(value: list[object]) -> object:
    if value and all(type(item) in (int, float) for item in value):
        try:
            return np.array(value, dtype=np.float64)
        except OverflowError:
            return value
    return value


def status_of(value: object, options: TagOptions) -> int:
    """The StatusCode a payload's quality means. Raises UnusableError."""
    mapped = options.quality_map.get(value if isinstance(value, str) else str(value)) if options.quality_map else None
    if mapped is not None:
        return mapped
    if isinstance(value, str) and value.lower() in QUALITIES:
        return QUALITIES[value.lower()]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_CODE:
        return value
    reason = "unknown_quality"
    raise UnusableError(
        reason, f"{str(value)[:80]!r} is neither Good, Uncertain, Bad nor a StatusCode: set `quality_map`"
    )


def time_of(value: object, form: str | None) -> int:
    """A payload's time as ns since 1970 UTC; `NO_TIME` when int64 cannot hold it. Raises UnusableError."""
    if form == "iso":
        found = _iso(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        whole = int(value)
        found = whole * SCALE_NS[str(form)] + round((value - whole) * SCALE_NS[str(form)])
    else:
        reason = "bad_time"
        raise UnusableError(reason, f"{str(value)[:80]!r} is not a number of {form} since 1970")
    return found if INT64.min < found <= INT64.max else NO_TIME


def _iso(value: object) -> int:
    reason = "bad_time"
    found = ISO.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise UnusableError(reason, f"{str(value)[:80]!r} is not an ISO 8601 time with a time zone")
    try:
        moment = datetime.fromisoformat(found[1] + found[3].upper().replace("Z", "+00:00"))
        return int(moment.astimezone(UTC).timestamp()) * SCALE_NS["s"] + int((found[2] or "0").ljust(9, "0"))
    except (ValueError, OverflowError) as error:
        raise UnusableError(reason, f"{value!r}: {error}") from error


def columns(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.uint32]]:
    """Tags, source times, values and status of these rows."""
    return (
        np.array(rows.tags, dtype=np.int64),
        np.array(rows.times, dtype=np.int64),
        np.array(rows.values, dtype=np.float64),
        np.array(rows.status, dtype=np.uint32),
    )
