"""Who goes next to the workers: the newest records, and what waits behind them where a pipeline may catch up so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.field.windowing import Windowing
from app.journal.damage import DAMAGED, MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from app.journal import Entry, Journal, Position
    from app.pipelines.service import Version
    from app.records import Record, WindowBlock

BEHIND: Final = 4
"""Records that are behind, in full flights, from which on the newest go first."""
SHARE: Final = 8
"""What waits takes at most this part of a flight: whatever is new finds a short queue."""
MOST_LANES: Final = 16
"""Backlogs at a time: beyond that the newest wait like the others."""
MOST_AHEAD: Final = 10_000
"""Records applied ahead of others: the database is asked for each of them at each look. Then the oldest go first."""


@dataclass(slots=True)
class Lane:
    """Records in their order, and the windows that they close."""

    windowing: Windowing
    end: Position | None = None
    """Of a backlog: the last record that goes this way."""
    taken: Position | None = None
    """No record after it was read to be sent."""
    hole: Position | None = None
    """The last place that damage took and the database had not."""
    owed: list[WindowBlock] = field(default_factory=list)
    """Closed by records that are applied, where the one that had closed them is gone."""

    @property
    def position(self) -> Position:
        """The last record that was fed. RuntimeError before the windowing was started."""
        if self.windowing.position is None:
            message = "the windowing was not started"
            raise RuntimeError(message)
        return self.windowing.position

    def feed(self, entry: Entry, known: Mapping[int, Version], mark: int) -> list[WindowBlock]:
        """What the next record closed. `known` has the versions that it names; `mark`: the epoch's watermark."""
        versions = versions_of(entry)
        if entry.remains is not None:
            self.windowing.lose(entry.remains)
            if entry.remains.reason in {DAMAGED, MISSING} and entry.position.number > mark:
                self.hole = entry.position
        if versions is not None:
            leased = entry.leased if entry.remains is None else entry.remains.leased
            self.windowing.switch(entry.position, versions, known, leased)
        return [] if entry.remains is not None else self.windowing.feed(entry)

    def behind(self) -> Lane:
        """A lane that goes on from here, for what this one passes over."""
        made = Windowing()
        made.resume(self.windowing)
        return Lane(made, taken=self.taken)


def versions_of(entry: Entry) -> tuple[int, ...] | None:
    """The pipeline versions that are in force after it, where it says so."""
    return entry.versions if entry.remains is None else entry.remains.versions


def newest_first(versions: Iterable[int], known: Mapping[int, Version]) -> bool:
    """Whether all of these may be answered in any order; a record goes to all pipelines in one message."""
    there = [known[one].spec.catch_up for one in versions if one in known]
    return bool(there) and set(there) == {"newest_first"}


def target(journal: Journal, position: Position, flight: int) -> Position | None:
    """Up to where records are passed over, so that the newest go first; None while too few are behind for that.

    `flight`: records under way at most. Damage is gone past in order.
    """
    damaged = any(stub.path is None for stub in journal.dropped())
    if damaged or journal.waiting(position) <= BEHIND * flight:
        return None
    head = journal.head
    wanted = head._replace(number=max(0, head.number - flight))
    return wanted if wanted > position else None


def matters(record: Record, windows: Sequence[WindowBlock]) -> bool:
    """Whether a worker has anything to do with it."""
    beside = record.fill is not None or record.dropped is not None or bool(record.events)
    return beside or bool(windows or record.count or record.refused or record.lost or record.gap_since)
