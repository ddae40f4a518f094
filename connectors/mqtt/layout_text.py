"""The whole payload as one text, whatever it says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from connectors import NO_TIME, Status
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Found, Point, Reader, Strict, Tag

if TYPE_CHECKING:
    from pydantic import BaseModel

    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

OF_TAG: Final[frozenset[str]] = frozenset()
TAKES: Final = frozenset({"charset", "quality_map"})
UNTYPED: Final = False
SPARSE: Final = False


class Options(Strict):
    """None of its own."""


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    del layout
    return TextReader(Packing.of(options))


class TextReader:
    """Decodes."""

    def __init__(self, packing: Packing) -> None:
        """How the payload is packed."""
        self._packing = packing

    def read(self, body: Body) -> Found:
        """See `Reader.read`."""
        return Text(body.text(self._packing))


class Text:
    """A text, which every tag takes whole."""

    def __init__(self, text: str) -> None:
        """The payload."""
        self._text = text

    def points(self, tag: Tag) -> Iterable[Point]:
        """See `Found.points`."""
        del tag
        return ((NO_TIME, Status.GOOD, self._text),)
