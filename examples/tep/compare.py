"""Holds what a gateway stored against the plant's own log: nothing missing, nothing invented, nothing changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from examples.ownlog import Entry, Scalar, read_log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between the plant's log and the stored readings, tag by tag; equal when both lists are empty."""

    compared: int
    """How many values of the log were looked for."""
    missing: tuple[tuple[str, Entry], ...]
    """Published by the plant, not stored."""
    extra: tuple[tuple[str, Entry], ...]
    """Stored, never published so."""

    @property
    def equal(self) -> bool:
        """Whether every value of the span is there exactly as published."""
        return self.compared > 0 and not self.missing and not self.extra


def compare(
    log: Mapping[str, Sequence[Entry]],
    stored: Mapping[str, Sequence[Entry]],
    start: int | None = None,
    end: int | None = None,
) -> Comparison:
    """Compare by tag, source time, value and status, for the tags that were stored.

    `start` and `end` (ns, inclusive) bound the span. Without `start`, a tag's span begins with its first stored
    reading, because a plant that ran before its gateway published values that nobody was there to read.
    """
    missing: list[tuple[str, Entry]] = []
    extra: list[tuple[str, Entry]] = []
    compared = 0
    for tag, readings in stored.items():
        first = min((entry[0] for entry in readings), default=0) if start is None else start
        published = _span(log.get(tag, ()), first, end)
        kept = _span(readings, first, end)
        compared += len(published)
        missing += [(tag, entry) for entry in published if entry not in kept]
        extra += [(tag, entry) for entry in kept if entry not in published]
    return Comparison(compared, tuple(missing), tuple(extra))


def _span(entries: Sequence[Entry], start: int, end: int | None) -> dict[Entry, None]:
    """The entries within the span, each once, in order."""
    return {entry: None for entry in entries if entry[0] >= start and (end is None or entry[0] <= end)}


__all__ = ["Comparison", "Entry", "Scalar", "compare", "read_log"]
