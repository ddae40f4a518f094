"""Times as people and JSON write them: ns since 1970 UTC to RFC 3339 and back, to the nanosecond."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
NANOS: Final = 1_000_000_000
LAST: Final = (1 << 63) - 1
"""ns: the last time, in the year 2262; 64 bits hold no more."""


def now() -> int:
    """The clock of this box, ns since 1970 UTC."""
    return time.time_ns()


def rfc3339(nanos: int) -> str:
    """`2026-11-24T08:00:00.000000000Z`: nine digits, always UTC, so that texts sort as times do (RFC 3339, 5.6)."""
    seconds, rest = divmod(nanos, NANOS)
    return f"{_second(seconds)}.{rest:09d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """Times of one message share few seconds, and strftime costs as much as all else of a publication."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def optional_rfc3339(nanos: int | None) -> str | None:
    """None stays None."""
    return None if nanos is None else rfc3339(nanos)


def parse_time(text: str) -> int:
    """Ns since 1970 UTC from RFC 3339 with an offset, or from a whole number of ns. ValueError says how to write it."""
    if re.fullmatch(r"-?\d{1,19}", text) and -LAST <= int(text) <= LAST:
        return int(text)
    found = _RFC3339.fullmatch(text)
    if found is None:
        message = f"{text!r} is no time: write 2026-11-24T08:00:00Z, or ns since 1970 UTC"
        raise ValueError(message)
    day, clock, fraction, offset = found.groups()
    seconds = datetime.fromisoformat(f"{day}T{clock}{offset.upper().replace('Z', '+00:00')}").timestamp()
    return int(seconds) * NANOS + int((fraction or "0").ljust(9, "0"))
