"""The contract of a payload layout: each file `layout_NAME.py` beside this one is one, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pydantic import BaseModel, ConfigDict

from connectors.mqtt.address import MissingValueError, Pointer
from connectors.mqtt.values import UnusableError, is_bad

if TYPE_CHECKING:
    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

PREFIX: Final = "layout_"
SHOWN: Final = 5

Point = tuple[int, int, object]
"""Source time in ns or `NO_TIME`, StatusCode, and the value, or the UnusableError that says why there is none."""


class Strict(BaseModel):
    """Options whose unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tag(Protocol):
    """What a layout sees of a tag."""

    @property
    def place(self) -> Pointer:
        """Where its value is."""

    @property
    def layout(self) -> BaseModel:
        """Its `layout` options, of the layout's own class."""


class Found(Protocol):
    """One message as a layout has read it, ready to be asked for each tag."""

    def points(self, tag: Tag) -> Iterable[Point]:
        """What it holds for a tag, oldest first as sent. Raises UnusableError, `missing_value` when there is none."""


class Reader(Protocol):
    """A layout as some tags of one topic configure it."""

    def read(self, body: Body) -> Found:
        """Take a message apart. Raises UnusableError for one that is not of this layout."""


class Layout(Protocol):
    """What a layout's module offers."""

    Options: type[Strict]
    """What stands under a tag's `layout`."""
    OF_TAG: frozenset[str]
    """Which of these options are a tag's own; tags that agree on all others share one reading of a message."""
    TAKES: frozenset[str]
    """Which options of a tag mean something to this layout."""
    UNTYPED: bool
    """Its values are text, to be read by the tag's datatype."""
    SPARSE: bool
    """A message usually holds some of the topic's tags only."""

    def reader(self, options: TagOptions, layout: BaseModel) -> Reader:
        """Make ready. Raises ValueError for options that contradict each other."""


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Every layout's name, sorted."""
    beside = pkgutil.iter_modules([str(Path(__file__).parent)])
    return tuple(sorted(m.name.removeprefix(PREFIX) for m in beside if m.name.startswith(PREFIX)))


@lru_cache(maxsize=64)
def load(name: str) -> Layout:
    """The layout of this name. Raises ValueError that names those that exist."""
    if name not in names():
        message = f"there is no format {name!r}; there are: {', '.join(names())}"
        raise ValueError(message)
    return importlib.import_module(f"connectors.mqtt.{PREFIX}{name}")  # held to the contract by its tests


def wrong_layout(detail: str) -> UnusableError:
    """The refusal of a message that is not of the layout its tags are configured with."""
    reason = "wrong_layout"
    return UnusableError(reason, f"{detail}: set `format` to what this topic carries, or correct the publisher")


def missing(detail: str) -> UnusableError:
    """The refusal of a tag that a message says nothing about."""
    reason = "missing_value"
    return UnusableError(reason, detail)


def object_of(value: object, what: str) -> dict[str, object]:
    """A JSON object. Raises UnusableError."""
    if not isinstance(value, dict):
        detail = f"{what} is not an object"
        raise wrong_layout(detail)
    return value


def array_of(value: object, what: str) -> list[object]:
    """A JSON array. Raises UnusableError."""
    if not isinstance(value, list):
        detail = f"{what} is not an array"
        raise wrong_layout(detail)
    return value


class Named:
    """Points by name. A tag's pointer begins with the name; what follows leads into the value."""

    def __init__(self, points: Mapping[tuple[str, ...], Sequence[Point]], prefix: tuple[str, ...] = ()) -> None:
        """`prefix` may stand before every name, and need not."""
        self._points = points
        self._prefix = prefix

    @property
    def found(self) -> Mapping[tuple[str, ...], Sequence[Point]]:
        """Every name and its points."""
        return self._points

    def points(self, tag: Tag) -> Iterable[Point]:
        """See `Found.points`; a tag without a pointer means the only name there is."""
        place = tag.place
        if not place.tokens:
            return self._only()
        wanted = tuple(name for name, _ in place.tokens)
        found = self._under(wanted, place)
        if found is None and self._prefix and wanted[: len(self._prefix)] == self._prefix:
            cut = len(self._prefix)
            found = self._under(wanted[cut:], Pointer(place.text, place.tokens[cut:]))
        if found is None:
            detail = f"nothing named {place.text} in the message, which has {self._names()}"
            raise missing(detail)
        return found

    def _under(self, wanted: tuple[str, ...], place: Pointer) -> Iterable[Point] | None:
        for size in range(len(wanted), 0, -1):
            points = self._points.get(wanted[:size])
            if points is not None:
                rest = place.tokens[size:]
                return points if not rest else [_inside(point, Pointer(place.text, rest)) for point in points]
        return None

    def _only(self) -> Sequence[Point]:
        if len(self._points) != 1:
            detail = f"the message has {self._names()}: write the tag's name behind `#/` in its address"
            raise missing(detail)
        return next(iter(self._points.values()))

    def _names(self) -> str:
        shown = [f"/{'/'.join(name)}"[:80] for name, _ in zip(self._points, range(SHOWN), strict=False)]
        more = len(self._points) - len(shown)
        return (", ".join(shown) or "no name") + (f" and {more} more" if more else "")


def _inside(point: Point, place: Pointer) -> Point:
    time, status, value = point
    if isinstance(value, UnusableError) or (value is None and is_bad(status)):
        return point
    try:
        return time, status, place.find(value)
    except MissingValueError as error:
        return time, status, missing(str(error))


class Single:
    """One value, which is the whole payload."""

    def __init__(self, point: Point) -> None:
        """The one there is."""
        self._point = point

    def points(self, tag: Tag) -> Iterable[Point]:
        """See `Found.points`."""
        if tag.place.tokens:
            detail = f"the payload is one value, so nothing is at {tag.place.text}: write the topic alone"
            raise missing(detail)
        return (self._point,)
