"""Lines of delimited text (RFC 4180 and its neighbours): a column for each tag, one of them perhaps the time."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, Field

from connectors import NO_TIME, Status
from connectors.mqtt.address import Pointer, pointer
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Point, Reader, Strict, Tag, missing
from connectors.mqtt.times import time_of_text, zone_of
from connectors.mqtt.values import UnusableError, is_bad, status_of

if TYPE_CHECKING:
    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

OF_TAG: Final[frozenset[str]] = frozenset()
TAKES: Final = frozenset({"charset", "time", "time_format", "time_zone", "quality", "quality_map", "decimal_comma"})
UNTYPED: Final = True
SPARSE: Final = False
CODE: Final = re.compile(r"\d{1,10}", re.ASCII)
Stamp = tuple[int, int, UnusableError | None]


class Options(Strict):
    """How the lines are made."""

    delimiter: str = Field(default=",", pattern=r'^[^\r\n"\w]$')
    header: bool = False
    """The first line of each message names the columns."""
    columns: tuple[str, ...] = ()
    """Their names, where messages come without; otherwise columns are numbered from 0."""


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    own = Options.model_validate(layout)
    if own.header and own.columns:
        message = "`columns` are for messages without a `header`"
        raise ValueError(message)
    if own.delimiter == "," and options.decimal_comma:
        message = "with `decimal_comma` the `delimiter` is another, e.g. `;`"
        raise ValueError(message)
    if any(place is not None and _column(pointer(place)) is None for place in (options.time, options.quality)):
        message = "`time` and `quality` name a column: `/Time` or `/0`"
        raise ValueError(message)
    return CsvReader(options, own)


def _column(place: Pointer) -> tuple[str, int | None] | None:
    return place.tokens[0] if len(place.tokens) == 1 and not place.from_message else None


class CsvReader:
    """Splits a message into rows, and stamps each with its time and status."""

    def __init__(self, options: TagOptions, layout: Options) -> None:
        """Raises ValueError for a zone that does not exist."""
        self._packing, self._layout = Packing.of(options), layout
        self._time = pointer(options.time) if options.time is not None else None
        self._quality = pointer(options.quality) if options.quality is not None else None
        self._form = options.time_format or ""
        self._zone = zone_of(options.time_zone) if options.time_zone else None
        self._quality_map = options.quality_map

    def read(self, body: Body) -> Table:
        """See `Reader.read`."""
        text = io.StringIO(body.text(self._packing), newline="")
        try:
            rows = [row for row in csv.reader(text, delimiter=self._layout.delimiter, strict=True) if row]
        except csv.Error as error:
            reason = "broken_csv"
            raise UnusableError(reason, f"the lines cannot be split: {error}; check `delimiter` and quotes") from error
        if not rows:
            detail = "the payload has no line: correct the publisher"
            raise missing(detail)
        names: Sequence[str] = self._layout.columns
        if self._layout.header:
            names, rows = [name.strip() for name in rows[0]], rows[1:]
        table = Table({name: index for index, name in reversed(list(enumerate(names)))}, rows)
        table.stamps = [self._stamp(table, row) for row in rows]
        return table

    def _stamp(self, table: Table, row: list[str]) -> Stamp:
        time, status = NO_TIME, Status.GOOD
        try:
            if self._quality is not None:
                said = table.cell(self._quality, row, "unknown_quality").strip()
                known = said in self._quality_map or not CODE.fullmatch(said)
                status = status_of(said if known else int(said), self._quality_map)
            if self._time is not None:
                time = time_of_text(table.cell(self._time, row, "bad_time"), self._form, self._zone)
        except UnusableError as problem:
            return NO_TIME, Status.BAD, problem
        return time, status, None


class Table:
    """Rows, their columns' names, and each row's time and status."""

    def __init__(self, columns: dict[str, int], rows: list[list[str]]) -> None:
        """The stamps come once the table is there to be asked."""
        self._columns, self._rows = columns, rows
        self.stamps: list[Stamp] = []

    def index(self, place: Pointer) -> int:
        """The column of this name or number. Raises UnusableError."""
        column = _column(place)
        if column is None:
            detail = f"{place.text!r} is no column: write `#/NAME` or `#/0`"
            raise missing(detail)
        name, number = column
        found = self._columns.get(name, number)
        if found is None:
            detail = f"no column {name!r} among {', '.join(self._columns)[:200] or 'columns without a name'}"
            raise missing(detail)
        return found

    def cell(self, place: Pointer, row: list[str], reason: str) -> str:
        """What a row has in a column. Raises UnusableError for this reason."""
        try:
            return row[self.index(place)]
        except (IndexError, UnusableError) as error:
            raise UnusableError(reason, f"a line without {place.text}: {error}") from error

    def points(self, tag: Tag) -> Iterable[Point]:
        """See `Found.points`."""
        index = self.index(tag.place)
        return [_point(row, index, *stamp) for row, stamp in zip(self._rows, self.stamps, strict=True)]


def _point(row: list[str], index: int, time: int, status: int, problem: UnusableError | None) -> Point:
    if problem is not None:
        return time, status, problem
    if index < len(row) and (row[index] or not is_bad(status)):
        return time, status, row[index]
    return time, status, None if is_bad(status) else missing(f"a line has {len(row)} columns, the tag's is {index}")
