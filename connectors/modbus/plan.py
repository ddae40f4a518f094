"""When to ask and for what: beats that do not drift, and neighbouring addresses joined into one request."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from connectors.modbus.address import BITS
from connectors.modbus.options import Options
from connectors.modbus.values import Span

ROUNDING: Final = 1e-6
"""Of a period, or seconds: a clock this little before a beat is at it."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A period that starts at a moment and never drifts: a beat that was missed is left out, the others stay."""

    start: float
    period: float

    def after(self, now: float) -> float:
        """The first beat later than `now`, in seconds on the clock of `start`."""
        return self.start + (math.floor((now - self.start) / self.period + ROUNDING) + 1) * self.period


def blocks(
    spans: Iterable[Span], options: Options, bad: Container[Span], cuts: Container[Span]
) -> Iterator[list[Span]]:
    """What one request each reads: neighbours within limits and gaps, none across what is bad; a cut begins another."""
    block: list[Span] = []
    end = 0
    for span in sorted(spans):
        if block and (span in bad or span in cuts or not _joins(span, block[0], end, options)):
            yield block
            block = []
        if span not in bad:
            end = max(end, span.end) if block else span.end
            block.append(span)
    if block:
        yield block


def _joins(span: Span, first: Span, end: int, options: Options) -> bool:
    """Whether a span goes into the block that starts with `first` and reaches up to `end`."""
    most = options.max_bits if span.table in BITS else options.max_registers
    beside = (span.unit, span.table) == (first.unit, first.table) and span.start - end <= options.max_gap
    return beside and max(end, span.end) - first.start <= most
