"""ThingsBoard's telemetry: key and value with or without `ts`, one or many, of one device or of a gateway's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from connectors import NO_TIME, Status
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Found, Named, Point, Reader, Strict, array_of, object_of
from connectors.mqtt.times import time_of
from connectors.mqtt.values import UnusableError

if TYPE_CHECKING:
    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

OF_TAG: Final[frozenset[str]] = frozenset()
TAKES: Final = frozenset({"charset", "time_format"})
UNTYPED: Final = False
SPARSE: Final = True
USUAL_TIME: Final = "ms"
Points = dict[tuple[str, ...], list[Point]]


class Options(Strict):
    """Whose telemetry it is."""

    gateway: bool = False
    """Devices by name, each with an array: addresses then are `#/DEVICE/KEY`."""


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    return ThingsboardReader(options, gateway=Options.model_validate(layout).gateway)


class ThingsboardReader:
    """Points by key, or by device and key."""

    def __init__(self, options: TagOptions, *, gateway: bool) -> None:
        """`time_format` is ms unless given."""
        self._packing = Packing.of(options)
        self._form = options.time_format or USUAL_TIME
        self._gateway = gateway

    def read(self, body: Body) -> Found:
        """See `Reader.read`."""
        document, points = body.json(self._packing), Points()
        if self._gateway:
            for device, entries in object_of(document, "a gateway's telemetry").items():
                for entry in array_of(entries, f"the telemetry of {device[:80]!r}"):
                    self._take((device,), entry, points)
            return Named(points)
        for entry in document if isinstance(document, list) else [document]:
            self._take((), entry, points)
        return Named(points)

    def _take(self, device: tuple[str, ...], entry: object, points: Points) -> None:
        """Add one entry. A wrong `ts` loses that entry alone."""
        values, time = object_of(entry, "telemetry"), NO_TIME
        problem: UnusableError | None = None
        if "ts" in values and "values" in values:
            try:
                time = time_of(values["ts"], self._form)
            except UnusableError as error:
                problem = error
            values = object_of(values["values"], "`values`")
        for key, value in values.items():
            points.setdefault((*device, key), []).append((time, Status.GOOD, problem or value))
