"""A bare value as the whole payload: `23.5`, `true`, `RUNNING`, read by the tag's datatype and `value_map`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors import NO_TIME, Status
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Found, Reader, Single, Strict

if TYPE_CHECKING:
    from pydantic import BaseModel

    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

OF_TAG: Final[frozenset[str]] = frozenset()
TAKES: Final = frozenset({"charset", "decimal_comma"})
UNTYPED: Final = True
SPARSE: Final = False


class Options(Strict):
    """None of its own."""


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    del layout
    return ScalarReader(Packing.of(options))


class ScalarReader:
    """Decodes; what the word means is the tag's to say."""

    def __init__(self, packing: Packing) -> None:
        """How the payload is packed."""
        self._packing = packing

    def read(self, body: Body) -> Found:
        """See `Reader.read`."""
        return Single((NO_TIME, Status.GOOD, body.text(self._packing)))
