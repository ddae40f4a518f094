"""What EMQX Neuron publishes for a group: `values` and `errors` by tag, or a list of `tags`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors import Status
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Found, Named, Point, Reader, Strict, array_of, missing, object_of, wrong_layout
from connectors.mqtt.times import time_of
from connectors.mqtt.values import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

OF_TAG: Final[frozenset[str]] = frozenset()
TAKES: Final = frozenset({"charset", "time_format", "quality_map"})
UNTYPED: Final = False
SPARSE: Final = True
USUAL_TIME: Final = "ms"


class Options(Strict):
    """None of its own."""


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    del layout
    return NeuronReader(options)


class NeuronReader:
    """Points by tag name, which node and group may precede."""

    def __init__(self, options: TagOptions) -> None:
        """`time_format` is ms unless given; `quality_map` says what an error code means."""
        self._packing = Packing.of(options)
        self._form = options.time_format or USUAL_TIME
        self._codes = options.quality_map

    def read(self, body: Body) -> Found:
        """See `Reader.read`."""
        document = object_of(body.json(self._packing), "the payload")
        if "timestamp" not in document:
            detail = "the payload has no `timestamp`, as Neuron's have"
            raise wrong_layout(detail)
        time = time_of(document["timestamp"], self._form)
        points: dict[tuple[str, ...], list[Point]] = {}
        for name, status, value in self._told(document):
            points.setdefault((name,), []).append((time, status, value))
        prefix = tuple(part for part in (document.get("node"), document.get("group")) if isinstance(part, str))
        return Named(points, prefix)

    def _told(self, document: dict[str, object]) -> Iterator[tuple[str, int, object]]:
        if "tags" in document:
            yield from self._listed(array_of(document["tags"], "`tags`"))
            return
        if "values" not in document and "errors" not in document:
            detail = "the payload has neither `tags` nor `values` and `errors`, as Neuron's have"
            raise wrong_layout(detail)
        errors = object_of(document.get("errors", {}), "`errors`")
        failed = {name: code for name, code in errors.items() if code != 0}
        for name, value in object_of(document.get("values", {}), "`values`").items():
            if name not in failed:
                yield name, Status.GOOD, value
        for name, code in failed.items():
            yield self._failure(name, code)

    def _listed(self, tags: list[object]) -> Iterator[tuple[str, int, object]]:
        for item in tags:
            tag = object_of(item, "an entry of `tags`")
            name, code = tag.get("name"), tag.get("error", 0)
            if not isinstance(name, str):
                detail = "an entry of `tags` has no `name`"
                raise wrong_layout(detail)
            if code != 0:
                yield self._failure(name, code)
            elif "value" in tag:
                yield name, Status.GOOD, tag["value"]
            else:
                yield name, Status.GOOD, missing(f"{name} has neither `value` nor `error`: correct the publisher")

    def _failure(self, name: str, code: object) -> tuple[str, int, object]:
        """A tag that the driver could not read: Bad, and without a value."""
        if isinstance(code, bool) or not isinstance(code, int):
            reason = "unknown_quality"
            problem = UnusableError(reason, f"the error of {name} is {str(code)[:80]!r}, which is no number")
            return name, Status.BAD, problem
        return name, self._codes.get(str(code), Status.BAD), None
