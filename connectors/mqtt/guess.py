"""What a payload seems to be, value by value: the parts that every kind of recognition shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from connectors import NO_TIME
from connectors.mqtt.times import ISO, SCALE_NS, time_of, zone_of
from connectors.mqtt.values import QUALITIES, UnusableError

BINARY: Final = "binary"
LEAVES: Final = 200
"""Values of one message that are looked at."""
NEAR_NS: Final = 365 * 86_400 * 1_000_000_000
"""A number that is a time within a year of now is taken for one."""
CLOSE_NS: Final = 600 * 1_000_000_000
"""A local time is told to be of a zone by which it is this close to now."""
ZONES: Final = ("Asia/Shanghai", "UTC")
PATTERNS: Final = ("%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y%m%d%H%M%S", "%d.%m.%Y %H:%M:%S")
TIME_NAMES: Final = frozenset(
    {"ts", "t", "time", "timestamp", "datetime", "date", "sampletime", "时间", "时间戳", "采集时间", "epoch", "at"}
)
QUALITY_NAMES: Final = frozenset({"quality", "q", "qual", "statuscode", "质量"})
UNIT_NAMES: Final = frozenset({"unit", "units", "uom", "eu", "单位"})
VALUE_NAMES: Final = frozenset({"value", "val", "v", "值"})
LABEL_NAMES: Final = frozenset({"name", "tag", "id", "key", "metric", "n", "名称"})
OPC_DA: Final = {"192": 0, "64": 0x40000000, "0": 0x80000000}
"""Qualities as OPC DA counts them -> StatusCode."""
LONGEST_UNIT: Final = 40


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value in a message that could be a tag."""

    place: str
    """JSON Pointer; empty for the payload itself."""
    name: str
    value: object
    """As its layout reads it; None where the message says that it has none."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What a tag on it needs, `format` left out."""
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a whole message seems to be."""

    layout: str
    leaves: tuple[Leaf, ...] = ()
    note: str = ""
    cut: bool = False
    """It has more values than are looked at."""


def known(name: str, names: frozenset[str]) -> bool:
    """Whether a key is one of these, however it is written."""
    return name.lower().replace("_", "").replace("-", "") in names


def time_options(value: object, now: int, name: str = "") -> dict[str, object] | None:
    """`time_format` and `time_zone` by which this value is a time near `now` (ns since 1970 UTC), or None.

    A number of whole seconds looks like a counter too: it needs a `name` that means time.
    """
    if isinstance(value, str):
        return _written(value, now)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for form in SCALE_NS:
        if form == "s" and not known(name, TIME_NAMES):
            continue
        if _near(value, form, None, now, NEAR_NS):
            return {"time_format": form}
    return None


def _written(text: str, now: int) -> dict[str, object] | None:
    iso = ISO.fullmatch(text)
    if iso is not None and iso[3] is not None:
        return {"time_format": "iso"} if _near(text, "iso", None, now, NEAR_NS) else None
    for form in ("iso",) if iso is not None else PATTERNS:
        for zone in ZONES:
            if _near(text, form, zone, now, CLOSE_NS):
                return {"time_format": form, "time_zone": zone}
    return None


def _near(value: object, form: str, zone: str | None, now: int, most: int) -> bool:
    try:
        found = time_of(value, form, zone_of(zone) if zone is not None else None)
    except (UnusableError, ValueError):
        return False
    return found != NO_TIME and abs(int(found) - now) < most


def quality_options(value: object, place: str) -> dict[str, object] | None:
    """`quality` and `quality_map` for what stands where a quality should, or None."""
    if isinstance(value, str) and value.lower() in QUALITIES:
        return {"quality": place}
    if type(value) is int and str(value) in OPC_DA:
        return {"quality": place, "quality_map": dict(OPC_DA)}
    return None


def pointer_of(parts: Iterable[str]) -> str:
    """The JSON Pointer to a place (RFC 6901, 3)."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)
