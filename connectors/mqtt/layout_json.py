"""Any JSON: a pointer to each value, to the time and to the quality, once or in each record of an array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from connectors import NO_TIME, Status
from connectors.mqtt.address import MissingValueError, Pointer, pointer
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Point, Reader, Strict, Tag, missing
from connectors.mqtt.times import time_of, zone_of
from connectors.mqtt.values import UnusableError, is_bad, status_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

OF_TAG: Final[frozenset[str]] = frozenset()
TAKES: Final = frozenset({"charset", "time", "time_format", "time_zone", "quality", "quality_map", "each"})
UNTYPED: Final = False
SPARSE: Final = False


class Options(Strict):
    """None of its own."""


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    del layout
    return JsonReader(options)


def _pointer(text: str | None) -> Pointer | None:
    return None if text is None else pointer(text)


class JsonReader:
    """Finds the records of a document, and the time and quality of each."""

    def __init__(self, options: TagOptions) -> None:
        """Raises ValueError for a zone that does not exist."""
        self._packing = Packing.of(options)
        self._time, self._quality = _pointer(options.time), _pointer(options.quality)
        self._each = _pointer(options.each)
        self._form = options.time_format or ""
        self._zone = zone_of(options.time_zone) if options.time_zone else None
        self._quality_map = options.quality_map

    def read(self, body: Body) -> Records:
        """See `Reader.read`."""
        document = body.json(self._packing)
        records = [document] if self._each is None else self._list(self._each, document)
        return Records(document, [(record, *self._stamp(document, record)) for record in records])

    def _list(self, each: Pointer, document: object) -> list[object]:
        try:
            found = each.find(document)
        except MissingValueError as error:
            raise missing(str(error)) from error
        if not isinstance(found, list):
            reason = "wrong_type"
            raise UnusableError(reason, f"{each.text} is not an array: correct `each`")
        return found

    def _stamp(self, document: object, record: object) -> tuple[int, int, UnusableError | None]:
        """Time and status of a record, or why it has none."""
        if self._quality is None and self._time is None:
            return NO_TIME, Status.GOOD, None
        time, status = NO_TIME, Status.GOOD
        try:
            if self._quality is not None:
                said = _find(self._quality, document, record, "unknown_quality")
                status = status_of(said, self._quality_map)
            if self._time is not None:
                time = time_of(_find(self._time, document, record, "bad_time"), self._form, self._zone)
        except UnusableError as problem:
            return NO_TIME, Status.BAD, problem
        return time, status, None


def _find(place: Pointer, document: object, record: object, reason: str) -> object:
    try:
        return place.find(document if place.from_message else record)
    except MissingValueError as error:
        raise UnusableError(reason, str(error)) from error


class Records:
    """A document, and its records with time, status and what is wrong with either."""

    def __init__(self, document: object, records: list[tuple[object, int, int, UnusableError | None]]) -> None:
        """As `JsonReader` made them."""
        self._document = document
        self._records = records

    def points(self, tag: Tag) -> Iterable[Point]:
        """See `Found.points`."""
        place = tag.place
        return [self._point(place, *record) for record in self._records]

    def _point(self, place: Pointer, record: object, time: int, status: int, problem: UnusableError | None) -> Point:
        if problem is not None:
            return time, status, problem
        try:
            return time, status, place.find(self._document if place.from_message else record)
        except MissingValueError as error:
            return time, status, None if is_bad(status) else missing(str(error))
