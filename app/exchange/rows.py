"""Rows of a foreign file become readings, or are refused with a reason; nothing is guessed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

import msgspec

from app.exchange.files import JSON, NUMBER, POINT, TEXT, FileError, Row
from app.times import NANOS, parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

ALIASES: Final = {
    "tag": "tag", "name": "tag", "tagname": "tag", "point": "tag", "点位": "tag", "名称": "tag", "位号": "tag",
    "time": "time", "timestamp": "time", "ts": "time", "datetime": "time", "date": "time", "时间": "time",
    "时间戳": "time", "采集时间": "time",
    "value": "value", "val": "value", "值": "value", "数值": "value",
    "status": "status", "quality": "status", "质量": "status", "状态": "status",
    "type": "type", "类型": "type", "text": "text", "json": "json", "backfilled": "backfilled",
    **{name: name for name in POINT},
}  # fmt: skip
"""Names of columns that historians use; a column with the name of a tag holds that tag's values."""
STATUSES: Final = {
    "good": 0, "uncertain": 0x40000000, "bad": 0x80000000, "": 0, "优": 0, "好": 0, "良好": 0, "不确定": 0x40000000,
    "坏": 0x80000000, "差": 0x80000000,
}  # fmt: skip
BAD: Final = 0x80000000
MOST_CLASSIC: Final = 0xFF
OPC_DA: Final = {0xC0: 0, 0x40: 0x40000000}
"""The two upper bits of a quality of OPC Classic (OPC Data Access 3.0, 6.8): good and uncertain; others are bad."""
_LOCAL: Final = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T ](\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?")
_DIGITS: Final = re.compile(r"-?\d{1,19}(?:\.\d{1,9})?")
UNITS: Final = ((10**11, NANOS), (10**14, 10**6), (10**17, 10**3))
"""Below which a whole number of the time is in seconds, ms, us; else in ns: all four mean dates from 1973 to 5138."""
MAX_TEXT: Final = 65_536
A_POINT: Final = "a point was calculated of readings that are gone, and is none itself"
AN_OUTPUT: Final = "outputs of pipelines are computed here and are not imported"


@dataclass(frozen=True, slots=True)
class Item:
    """One reading of a file."""

    line: int
    tag: str
    time: int
    """ns."""
    value: object
    status: int


@dataclass(frozen=True, slots=True)
class Refused:
    """One row, or one cell of it, that is no reading."""

    line: int
    tag: str
    reason: str
    """A code: `unknown_tag`, `no_time`, `bad_time`, `needs_zone`, `bad_value`, `bad_status`, `bad_row`;
    `output_of_a_pipeline`; `thinned`, of a point, and of a time whose readings have become one."""
    detail: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of a file mean what."""

    fields: Mapping[str, str]
    """Our word to the column's name."""
    tags: Mapping[str, str]
    """Column to tag, where each tag has a column of its own."""


def layout(names: Sequence[str], known: Collection[str]) -> Layout:
    """By the names of columns. FileError when there is no time, or nothing to be read."""
    fields: dict[str, str] = {}
    tags: dict[str, str] = {}
    for name in names:
        word = ALIASES.get(name.strip().lower())
        if word is not None and word not in fields:
            fields[word] = name
        elif name in known:
            tags[name] = name
        elif name.strip():
            message = "column {column} is neither the name of a tag of this plant nor one of: tag, time, value, status"
            raise FileError(message, column=repr(name))
    values = any(word in fields for word in ("value", "text", "json"))
    if "time" not in fields or not (tags or ("tag" in fields and values)):
        message = "there have to be the columns time, tag and value, or time and one column for each tag"
        raise FileError(message)
    return Layout(fields, tags)


class Reader:
    """Reads rows."""

    def __init__(
        self,
        found: Layout,
        known: Mapping[str, object],
        zone: tzinfo | None = None,
        *,
        classic: bool = False,
        outputs: Collection[str] = (),
    ) -> None:
        """`known`: tags of the plant by name; `zone`: of times that say none; `classic`: statuses of OPC Classic.

        `outputs`: names of tags that are outputs of pipelines.
        """
        self._layout, self._known, self._zone, self._classic = found, known, zone, classic
        self._outputs = outputs

    def items(self, row: Row) -> Iterator[Item | Refused]:
        """The readings of one row; empty cells are none."""
        if "" in row.cells:
            yield Refused(row.line, "", "bad_row", str(row.cells[""]))
            return
        get = {word: row.cells.get(name) for word, name in self._layout.fields.items()}
        if get.get(POINT[0]) is not None:
            yield Refused(row.line, str(get.get("tag") or "")[:200], "thinned", A_POINT)
            return
        time = self._time(row.line, get["time"])
        status = self._status(row.line, get.get("status"))
        if isinstance(time, Refused):
            yield time
        elif isinstance(status, Refused):
            yield status
        else:
            for tag, value in self._values(row, get):
                yield self._item(row.line, tag, time, value, status)

    def _values(self, row: Row, get: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
        for column, tag in self._layout.tags.items():
            if column in row.cells:
                yield tag, row.cells[column]
        if "tag" in get:
            value = next((get[word] for word in ("value", "text", "json") if get.get(word) is not None), None)
            kind = next((word for word in ("text", "json") if get.get(word) is not None), get.get("type") or "")
            if value is not None or get["tag"]:
                yield str(get["tag"] or ""), _Typed(value, str(kind)) if kind else value

    def _item(self, line: int, tag: str, time: int, value: object, status: int) -> Item | Refused:
        if tag in self._outputs:
            return Refused(line, tag[:200], "output_of_a_pipeline", AN_OUTPUT)
        if tag not in self._known:
            return Refused(line, tag[:200], "unknown_tag", "no tag of this plant has this name")
        if isinstance(value, _Typed):
            return _of_type(line, tag, time, value, status)
        if isinstance(value, str):
            number = _number(value)
            return Item(line, tag, time, value if number is None else number, status) if value else _no(line, tag)
        if isinstance(value, (bool, int, float)):
            return Item(line, tag, time, float(value) if abs(value) <= 2**53 else value, status)
        return _no(line, tag)

    def _status(self, line: int, value: object) -> int | Refused:
        """A StatusCode, a quality of OPC Classic, or a word; without one it is Good."""
        text = str(0 if value is None else value).strip().lower()
        if text in STATUSES:
            return STATUSES[text]
        try:
            code = int(text, 0)
        except ValueError:
            code = -1
        if self._classic and 0 <= code <= MOST_CLASSIC:
            return OPC_DA.get(code & 0xC0, BAD)
        if code == 0 or MOST_CLASSIC < code < 2**32:
            return code
        why = f"{text[:60]!r} is no status: write Good, Uncertain, Bad or a StatusCode; --opc-classic where 192 is Good"
        return Refused(line, "", "bad_status", why)

    def _time(self, line: int, value: object) -> int | Refused:
        if isinstance(value, int):
            return value
        if value is None or value == "":
            return Refused(line, "", "no_time", "the row has no time")
        text = str(value).strip()
        try:
            return _moment(text, self._zone)
        except LookupError:
            return Refused(line, "", "needs_zone", f"{text[:60]!r} says no zone: give --zone, e.g. Asia/Shanghai")
        except (ValueError, OverflowError):
            return Refused(line, "", "bad_time", f"{text[:60]!r} is no time")


@dataclass(frozen=True, slots=True)
class _Typed:
    value: object
    kind: str


def _of_type(line: int, tag: str, time: int, typed: _Typed, status: int) -> Item | Refused:
    value = typed.value
    if typed.kind == TEXT and isinstance(value, str) and len(value) <= MAX_TEXT:
        return Item(line, tag, time, value, status)
    if typed.kind == JSON and isinstance(value, str) and len(value) <= MAX_TEXT:
        try:
            return Item(line, tag, time, msgspec.json.decode(value), status)
        except (msgspec.MsgspecError, RecursionError):
            return Refused(line, tag, "bad_value", "the value is no JSON")
    number = _number(value) if typed.kind == NUMBER and isinstance(value, str) else None
    return _no(line, tag) if number is None else Item(line, tag, time, number, status)


def _no(line: int, tag: str) -> Refused:
    return Refused(line, tag, "bad_value", "there is no value that a reading can hold")


def _number(text: str) -> float | None:
    """None where a text is no number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) or text.strip().lower() in {"nan", "inf", "-inf"} else None


def _moment(text: str, zone: tzinfo | None) -> int:
    """Ns since 1970 UTC. LookupError where a zone is needed, ValueError where it is no time."""
    if _DIGITS.fullmatch(text):
        whole, _, fraction = text.partition(".")
        unit = next((ns for limit, ns in UNITS if abs(int(whole)) < limit), 1)
        part = int(fraction.ljust(9, "0")) * unit // NANOS if fraction else 0
        return int(whole) * unit + (-part if whole.startswith("-") else part)
    found = _LOCAL.fullmatch(text)
    if found is None:
        return parse_time(text)
    if zone is None:
        raise LookupError
    year, month, day, hour, minute, second, fraction = found.groups()
    local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=zone)
    return int(local.timestamp()) * NANOS + int((fraction or "").ljust(9, "0"))
