"""What is read of the history to compute windows again: the readings of some tags, in order, and what was in force."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from app.db import snapshot
from app.readings import service as readings
from app.recomputing import Past, begins, ends
from app.sources.tables import TagRow
from app.thinning import queries as thinned
from app.times import LAST
from connectors import NO_TIME

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from app.readings.schemas import Stored
    from inference.window import Spec

_Age: TypeAlias = tuple[int, bool, int]
"""Time (ns), whether it arrived by itself, when: of two values of one time the greater is in force."""
MOST_BATCHES: Final = 1000
"""Batches of a connection that are searched for what was in force."""


def past(engine: Engine, spec: Spec, context_connection: int, first: int, last: int) -> Past:
    """What the windows that end from `first` to `last` (ns) are made of: see `recomputing.again`."""
    start, end = begins(spec, first), ends(spec, last)
    homes: dict[int, set[int]] = defaultdict(set)
    received = {one.tag for one in spec.inputs if one.use_received_time}
    for one in spec.inputs:
        homes[one.connection].add(one.tag)
    if spec.context:
        homes[context_connection] |= {tag for _, tag in spec.context}
    parts = [
        _part(one, tags, received, start, end + 1)
        for connection, tags in homes.items()
        for one in readings.between(engine, [connection], start, end + 1, tags)
    ]
    for connection, tags in homes.items():
        parts += _in_force(engine, connection, tags, received, start)
    # What was filled in comes first, so that of two values of one time the one that arrived by itself is in force.
    parts.sort(key=lambda part: (not part.backfilled, part.received_time))
    return _joined(parts)


@dataclass(frozen=True, slots=True)
class Gone:
    """Readings that windows need, and in whose place there are points."""

    tag: str
    until: int
    """ns: windows that end by then need them."""


def gone(engine: Engine, spec: Spec, first: int, last: int) -> Gone | None:
    """Whether the windows that end from `first` to `last` (ns) need readings that were thinned; of which tag most.

    Points are no readings. What was in force when a window begins is known again from the first reading after them.
    """
    tags = {one.tag for one in spec.inputs} | {tag for _, tag in spec.context or ()}
    begin = begins(spec, first)
    with snapshot(engine) as session:
        ends_of = thinned.ends_of(session, tags, ends(spec, last) + 1)
        names = {tag: session.get_one(TagRow, tag).name for tag in ends_of}
    found = []
    for tag, end in ends_of.items():
        after = readings.history(engine, tag, end, LAST, 1)
        known = after[0].time if after else LAST
        if known > begin:
            found.append(Gone(names[tag], min(known + first - begin - 1, LAST)))
    return max(found, key=lambda one: one.until, default=None)


class _Part:
    """Some readings of one batch."""

    __slots__ = ("backfilled", "others", "received_time", "status", "tags", "time", "values")

    def __init__(self, stored: Stored, rows: NDArray[np.intp], time: NDArray[np.int64]) -> None:
        tags, _, values, others, status = stored.columns
        self.backfilled, self.received_time = stored.backfilled, stored.received_time
        self.tags, self.time, self.values, self.status = tags[rows], time[rows], values[rows], status[rows]
        self.others = {new: others[old] for new, old in enumerate(rows.tolist()) if old in others} if others else {}


def _timed(stored: Stored, tags: set[int], received: set[int]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which readings are of these tags and have a time, and the time of each."""
    mine, source_time, *_ = stored.columns
    wanted = np.isin(mine, np.fromiter(tags, np.int64))
    absent = source_time == NO_TIME
    if absent.any():
        wanted &= ~absent | np.isin(mine, np.fromiter(received, np.int64))
    return wanted, stored.time


def _part(stored: Stored, tags: set[int], received: set[int], start: int, end: int) -> _Part:
    wanted, time = _timed(stored, tags, received)
    return _Part(stored, np.flatnonzero(wanted & (time > start) & (time < end)), time)


def _in_force(engine: Engine, connection: int, tags: set[int], received: set[int], at: int) -> list[_Part]:
    """The newest reading of each tag at or before a time, as far as it is found.

    A value that has not changed since came again with the next subscription, in a batch that reaches back to it.
    """
    found: dict[int, tuple[_Age, _Part]] = {}
    for stored in readings.between(engine, [connection], at, at + 1, tags):
        _note(found, stored, tags, received, at)
    for stored in readings.before(engine, connection, at, MOST_BATCHES):
        oldest = min((found[tag][0][0] for tag in tags if tag in found), default=-1)
        if len(found) == len(tags) and oldest > int(stored.time.max()):
            break
        _note(found, stored, tags, received, at)
    for stored in readings.newest_chunks(engine, tags, at):
        _note(found, stored, tags, received, at)
    return [part for _, part in found.values()]


def _note(
    found: dict[int, tuple[_Age, _Part]], stored: Stored, tags: set[int], received: set[int], at: int
) -> None:
    """Keep the newest reading of each tag that is newer than what was found."""
    wanted, time = _timed(stored, tags, received)
    rows = np.flatnonzero(wanted & (time <= at))
    newest = {int(stored.columns[0][row]): row for row in rows[np.argsort(time[rows], kind="stable")].tolist()}
    for tag, row in newest.items():
        age = int(time[row]), not stored.backfilled, stored.received_time
        if tag not in found or age > found[tag][0]:
            found[tag] = age, _Part(stored, np.array([row], dtype=np.intp), time)


def _joined(parts: list[_Part]) -> Past:
    """In the order of time; of the same time, in the order of the parts."""
    if not parts:
        return Past(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), {}, np.empty(0, np.uint32))
    time = np.concatenate([part.time for part in parts])
    order = time.argsort(kind="stable")
    others: dict[int, object] = {}
    offset = 0
    for part in parts:
        others.update((offset + row, value) for row, value in part.others.items())
        offset += len(part.time)
    if others:
        others = {new: others[old] for new, old in enumerate(order.tolist()) if old in others}
    tags, values = np.concatenate([part.tags for part in parts]), np.concatenate([part.values for part in parts])
    status = np.concatenate([part.status for part in parts])
    return Past(tags[order], time[order], values[order], others, status[order])
