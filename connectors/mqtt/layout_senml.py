"""SenML packs (RFC 8428, JSON): base fields are resolved, relative times become absolute."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from connectors import NO_TIME, Status
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Found, Named, Point, Reader, Strict, Tag, array_of, object_of, wrong_layout
from connectors.mqtt.times import SCALE_NS, TOO_LARGE, fitting
from connectors.mqtt.values import UnusableError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

OF_TAG: Final = frozenset({"unit"})
TAKES: Final[frozenset[str]] = frozenset({"charset"})
UNTYPED: Final = False
SPARSE: Final = True
VERSION: Final = 10
"""The version this is written for (RFC 8428, 4.4)."""
RELATIVE: Final = 2**28
"""Seconds; times below are relative to now (RFC 8428, 4.5.3)."""
VALUES: Final = ("v", "vs", "vb", "vd")
SUM: Final = "s"
T = TypeVar("T", str, str | None)


class Options(Strict):
    """What a tag expects of its records."""

    unit: str | None = None
    """The unit in which the publisher must give the value, e.g. `Cel`; a record in another is refused."""


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    del layout
    return SenmlReader(Packing.of(options))


@dataclass(slots=True)
class _Base:
    """What holds for the records to come (RFC 8428, 4.1)."""

    name: str = ""
    time: float | None = None
    unit: str | None = None
    value: float = 0
    sum: float = 0


class SenmlReader:
    """Resolves a pack into points by name; a sum stands under the name and `s`."""

    def __init__(self, packing: Packing) -> None:
        """How the payload is packed."""
        self._packing = packing

    def read(self, body: Body) -> Found:
        """See `Reader.read`. A pack whose base fields are wrong is refused whole, since records build on them."""
        base = _Base()
        points: dict[tuple[str, ...], list[Point]] = {}
        units: dict[tuple[str, ...], list[str | None]] = {}
        for item in array_of(body.json(self._packing), "the SenML pack"):
            record = object_of(item, "a SenML record")
            _rebase(base, record)
            if record and all(key.startswith("b") for key in record):
                continue
            name = base.name + _text(record, "n", "")
            if not name:
                detail = "a SenML record has neither `n` nor `bn`"
                raise wrong_layout(detail)
            unit = _text(record, "u", base.unit)
            for key, point in _resolved(base, name, record, body.received):
                points.setdefault(key, []).append(point)
                units.setdefault(key, []).append(unit)
        return Pack(points, units)


class Pack:
    """A resolved pack, whose units are held against what the tag wants."""

    def __init__(
        self, points: dict[tuple[str, ...], list[Point]], units: dict[tuple[str, ...], list[str | None]]
    ) -> None:
        """Points and units in parallel."""
        self.named, self.units = Named(points), units

    def points(self, tag: Tag) -> Iterable[Point]:
        """See `Found.points`."""
        found = list(self.named.points(tag))
        wanted = tag.layout.unit if isinstance(tag.layout, Options) else None
        if wanted is None:
            return found
        place = tuple(name for name, _ in tag.place.tokens) or next(iter(self.units))
        units = self.units.get(place, [None] * len(found))
        return [
            (time, status, value if unit == wanted or isinstance(value, UnusableError) else _other_unit(unit, wanted))
            for (time, status, value), unit in zip(found, units, strict=True)
        ]


def _other_unit(unit: object, wanted: str) -> UnusableError:
    reason = "wrong_unit"
    return UnusableError(reason, f"the record is in {unit or 'no unit'}, the tag expects {wanted}: correct `unit`")


def _rebase(base: _Base, record: dict[str, object]) -> None:
    strange = next((key for key in record if key.endswith("_")), None)
    if strange is not None:
        detail = f"the SenML field {strange!r} must be understood, and is not (RFC 8428, 4.4)"
        raise wrong_layout(detail)
    if "bver" in record and not _number(record, "bver") <= VERSION:
        detail = f"SenML version {record['bver']}, and {VERSION} is the latest known"
        raise wrong_layout(detail)
    base.name = _text(record, "bn", base.name)
    base.unit = _text(record, "bu", base.unit)
    if "bt" in record:
        base.time = _number(record, "bt")
    if "bv" in record:
        base.value = _number(record, "bv")
    if "bs" in record:
        base.sum = _number(record, "bs")


def _text(record: dict[str, object], key: str, otherwise: T) -> T:
    if key not in record:
        return otherwise
    found = record[key]
    if not isinstance(found, str):
        detail = f"the SenML field `{key}` is not text"
        raise wrong_layout(detail)
    return found


def _number(record: dict[str, object], key: str) -> float:
    found = record[key]
    if isinstance(found, bool) or not isinstance(found, int | float):
        detail = f"the SenML field `{key}` is not a number"
        raise wrong_layout(detail)
    return found


def _resolved(
    base: _Base, name: str, record: dict[str, object], received: int
) -> Iterable[tuple[tuple[str, ...], Point]]:
    """The points of one record."""
    time = _time(base.time, _number(record, "t") if "t" in record else None, received)
    given = [key for key in VALUES if key in record]
    if len(given) == 1:
        yield (name,), (time, Status.GOOD, _value(base, given[0], record[given[0]]))
    elif given or SUM not in record:
        reason = "missing_value"
        detail = f"a record with {len(given)} values instead of one: correct the publisher (RFC 8428, 4.2)"
        yield (name,), (time, Status.GOOD, UnusableError(reason, detail))
    if SUM in record:
        yield (name, SUM), (time, Status.GOOD, _sum(base.sum, record[SUM], SUM))


def _time(base: float | None, own: float | None, received: int) -> int:
    """ns; `NO_TIME` for a record that says nothing of when, received time plus a relative one otherwise."""
    if base is None and own is None:
        return NO_TIME
    if not all(-TOO_LARGE < part < TOO_LARGE for part in (base or 0, own or 0)):
        return NO_TIME
    total = (base or 0) + (own or 0)
    if total < RELATIVE:
        return fitting(received + round(total * SCALE_NS["s"]))
    whole = int(total)
    return fitting(whole * SCALE_NS["s"] + round((total - whole) * SCALE_NS["ms"]) * SCALE_NS["us"])


def _value(base: _Base, key: str, value: object) -> object:
    """The value, or why it is none."""
    if key == "v":
        return _sum(base.value, value, key)
    if key == "vd" and isinstance(value, str):
        return _bytes(value)
    if isinstance(value, bool if key == "vb" else str):
        return value
    reason = "wrong_type"
    return UnusableError(reason, f"the SenML field `{key}` holds {str(value)[:80]!r}: correct the publisher")


def _sum(base: float, value: object, key: str) -> object:
    """Base and value added up; whole numbers stay exact."""
    reason = "wrong_type"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UnusableError(reason, f"the SenML field `{key}` is not a number: correct the publisher")
    try:
        return base + value if base else value
    except OverflowError:
        return UnusableError(reason, f"the SenML field `{key}` and its base do not add up to a number")


def _bytes(text: str) -> object:
    """Data in base64 with the safe alphabet, padded or not (RFC 8428, 4.2)."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        reason = "wrong_type"
        return UnusableError(reason, f"the SenML field `vd` is not base64: {error}")
