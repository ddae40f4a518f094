"""The times of payloads: epoch numbers, ISO 8601 and patterns, with a zone where the text has none."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from connectors import NO_TIME
from connectors.mqtt.values import NUMBER, UnusableError

INT64: Final = np.iinfo(np.int64)
SCALE_NS: Final[dict[str, int]] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
FORMATS: Final = ("iso", *SCALE_NS)
HOW: Final = f"write one of {', '.join(FORMATS)}, or a pattern such as `%Y/%m/%d %H:%M:%S`"
ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|z|[+-]\d\d:?\d\d)?", re.ASCII
)
TOO_LARGE: Final = 2**63
PROBE: Final = datetime(2026, 11, 24, 15, 4, 5, tzinfo=UTC)
BAD_TIME: Final = "bad_time"


def check_format(form: str) -> str | None:
    """What is wrong with a `time_format`, or None."""
    if form in FORMATS:
        return None
    if "%" not in form:
        return f"{form!r} is no format of a time: {HOW}"
    try:
        said = datetime.strptime(PROBE.strftime(form), form)  # noqa: DTZ007 - a pattern without a zone is meant
    except (ValueError, re.error) as error:
        return f"{form!r} is no pattern of a time: {error}"
    return None if said.date() == PROBE.date() else f"{form!r} does not say year, month and day"


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The zone of this name. Raises ValueError when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"there is no time zone {name!r} on this machine: write a name such as Asia/Shanghai"
        raise ValueError(message) from error


def time_of(value: object, form: str, zone: ZoneInfo | None = None) -> int:
    """A payload's time as ns since 1970 UTC; `NO_TIME` when int64 cannot hold it. Raises UnusableError.

    `zone` is that of texts that name none; without it they are refused.
    """
    scale = SCALE_NS.get(form)
    if scale is None:
        found = _iso(value, zone) if form == "iso" else _patterned(value, form, zone)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableError(BAD_TIME, f"{str(value)[:80]!r} is not a number of {form} since 1970: check `time_format`")
    elif not -TOO_LARGE < value < TOO_LARGE:
        return NO_TIME
    else:
        whole = int(value)
        found = whole * scale + round((value - whole) * scale)
    return fitting(found)


def time_of_text(text: str, form: str, zone: ZoneInfo | None = None) -> int:
    """The same where numbers too are written as text; no digit of it is lost."""
    word = text.strip()
    if form not in SCALE_NS:
        return time_of(word, form, zone)
    if not NUMBER.fullmatch(word):
        raise UnusableError(BAD_TIME, f"{text[:80]!r} is not a number of {form} since 1970: check `time_format`")
    try:
        number = Decimal(word)
    except InvalidOperation as error:
        raise UnusableError(BAD_TIME, f"{text[:80]!r} is no number: {error}") from error
    return fitting(int(number * SCALE_NS[form])) if abs(number) < TOO_LARGE else NO_TIME


def fitting(ns: int) -> int:
    """A time, or `NO_TIME` when int64 cannot hold it."""
    return ns if INT64.min < ns <= INT64.max else NO_TIME


def _iso(value: object, zone: ZoneInfo | None) -> int:
    found = ISO.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise UnusableError(BAD_TIME, f"{str(value)[:80]!r} is not an ISO 8601 time: check `time` and `time_format`")
    try:
        if found[3] is None:
            moment = _local(datetime.fromisoformat(found[1]), zone)
        else:
            moment = datetime.fromisoformat(found[1] + found[3].upper().replace("Z", "+00:00"))
        return _seconds(moment) * SCALE_NS["s"] + int((found[2] or "0").ljust(9, "0"))
    except (ValueError, OverflowError) as error:
        if isinstance(error, UnusableError):
            raise
        raise UnusableError(BAD_TIME, f"{value!r} is no time: {error}") from error


def _patterned(value: object, form: str, zone: ZoneInfo | None) -> int:
    if not isinstance(value, str):
        raise UnusableError(BAD_TIME, f"{str(value)[:80]!r} is no text like {form}: check `time` and `time_format`")
    try:
        moment = datetime.strptime(value, form)  # noqa: DTZ007 - the zone is looked at next
        if moment.tzinfo is None:
            moment = _local(moment, zone)
        return _seconds(moment) * SCALE_NS["s"] + moment.microsecond * 1000
    except (ValueError, OverflowError) as error:
        if isinstance(error, UnusableError):
            raise
        raise UnusableError(BAD_TIME, f"{value[:80]!r} is no time like {form}: check `time_format`") from error


def _seconds(moment: datetime) -> int:
    """Whole seconds since 1970, rounded down."""
    past = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return past.days * 86_400 + past.seconds


def _local(moment: datetime, zone: ZoneInfo | None) -> datetime:
    """A clock's time in its zone; one that the clock shows twice or never is refused (PEP 495)."""
    if zone is None:
        raise UnusableError(BAD_TIME, f"{moment} names no time zone: set `time_zone`, e.g. Asia/Shanghai")
    first, second = moment.replace(tzinfo=zone), moment.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    if before is not None and after is not None and before != after:
        twice = before > after
        reason = "ambiguous_time" if twice else "nonexistent_time"
        raise UnusableError(
            reason,
            f"{moment} comes {'twice' if twice else 'never'} in {zone.key}, where clocks were changed: let the device "
            "send UTC or an offset",
        )
    return first
