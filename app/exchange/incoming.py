"""Readings of a file into the history: what is there already is left out, what is wrong is reported row by row."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from app import times
from app.compacting import Arrived
from app.db import snapshot
from app.exchange import files
from app.exchange.rows import Item, Reader, Refused, layout
from app.field.repeats import marks_of
from app.history.service import bring_in
from app.readings import service as readings
from app.thinning import queries as thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import tzinfo
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from app.series import Series

TOGETHER: Final = 50_000
"""Readings that are stored in one transaction."""
WAS_THINNED: Final = "the readings of this time have become a point: whether it was one of them cannot be told"


@dataclass(frozen=True, slots=True)
class Target:
    """A tag that readings may be imported for."""

    id: int
    connection: int


@dataclass(slots=True)
class Report:
    """What became of a file: rows read = those below, counted by readings where a row holds several."""

    rows: int = 0
    stored: int = 0
    repeated: int = 0
    """In the history already, or twice in the file."""
    backwards: int = 0
    """Stored, though earlier than the reading of the same tag before it."""
    refused: Counter[str] = field(default_factory=Counter)
    first: int = 0
    last: int = 0
    """ns: the span of what was stored; 0 where nothing was."""


def run(
    engine: Engine,
    path: Path,
    known: Mapping[str, Target],
    refused: Callable[[Refused], None],
    *,
    zone: tzinfo | None = None,
    classic: bool = False,
    outputs: Collection[str] = (),
    dry: bool = False,
) -> Report:
    """Read the whole file; `refused` is told of each row that is none. FileError, OSError: what came before is stored.

    `zone`, `classic` and `outputs` as `Reader` takes them. `dry`: nothing is stored, the report says what would be.
    """
    names, rows = files.read(path)
    reader = Reader(layout(names, {*known, *outputs}), known, zone, classic=classic, outputs=outputs)
    report = Report()
    newest: dict[str, int] = {}
    waiting: list[Item] = []
    for row in rows:
        report.rows += 1
        for one in reader.items(row):
            if isinstance(one, Refused):
                report.refused[one.reason] += 1
                refused(one)
                continue
            report.backwards += one.time < newest.get(one.tag, one.time)
            newest[one.tag] = max(one.time, newest.get(one.tag, one.time))
            waiting.append(one)
        if len(waiting) >= TOGETHER:
            _store(engine, known, _whole(engine, known, waiting, report, refused), report, dry=dry)
            waiting.clear()
    if waiting:
        _store(engine, known, _whole(engine, known, waiting, report, refused), report, dry=dry)
    return report


def _whole(
    engine: Engine, known: Mapping[str, Target], items: list[Item], report: Report, refused: Callable[[Refused], None]
) -> list[Item]:
    """Those of times of which there are still readings: of others nobody can tell whether they were there already."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(items):
        rows[one.tag].append(row)
    gone = set[int]()
    with snapshot(engine) as session:
        for tag, mine in rows.items():
            lies_in_a_point = thinned.begun(session, known[tag].id, [items[row].time for row in mine])
            gone.update(row for row, there in zip(mine, lies_in_a_point.tolist(), strict=True) if there)
    for row in sorted(gone):
        report.refused["thinned"] += 1
        refused(Refused(items[row].line, items[row].tag, "thinned", WAS_THINNED))
    return [one for row, one in enumerate(items) if row not in gone]


def _store(engine: Engine, known: Mapping[str, Target], items: list[Item], report: Report, *, dry: bool) -> None:
    by_connection: dict[int, list[Item]] = defaultdict(list)
    for one in items:
        by_connection[known[one.tag].connection].append(one)
    for connection, some in sorted(by_connection.items()):
        arrived = _arrived(connection, [known[one.tag].id for one in some], some)
        new = _new(engine, arrived)
        report.repeated += len(some) - len(new.tags)
        report.stored += len(new.tags)
        if len(new.tags):
            first, last = int(new.source_time.min()), int(new.source_time.max())
            report.first, report.last = min(report.first or first, first), max(report.last, last)
            if not dry:
                bring_in(engine, new)


def _arrived(connection: int, tags: list[int], items: list[Item]) -> Arrived:
    others = {row: one.value for row, one in enumerate(items) if not isinstance(one.value, float)}
    return Arrived(
        connection=connection,
        backfilled=True,
        received_time=times.now(),
        tags=np.array(tags, dtype=np.int64),
        source_time=np.array([one.time for one in items], dtype=np.int64),
        values=np.array([one.value if isinstance(one.value, float) else np.nan for one in items], dtype=np.float64),
        others=others,
        status=np.array([one.status for one in items], dtype=np.uint32),
    )


def _new(engine: Engine, arrived: Arrived) -> Arrived:
    """What of it is not in the history, each once."""
    marks = marks_of(arrived.tags, arrived.source_time, arrived.values, arrived.others, arrived.status)
    _, first = np.unique(marks, return_index=True)
    known = [part for tag in np.unique(arrived.tags).tolist() for part in _known(engine, arrived, tag)]
    if known:
        first = first[~np.isin(marks[first], np.concatenate(known))]
    rows = np.sort(first)
    others = {new: arrived.others[old] for new, old in enumerate(rows.tolist()) if old in arrived.others}
    return Arrived(
        arrived.connection, arrived.backfilled, arrived.received_time, arrived.tags[rows], arrived.source_time[rows],
        arrived.values[rows], others, arrived.status[rows],
    )  # fmt: skip


def _known(engine: Engine, arrived: Arrived, tag: int) -> Iterator[NDArray[np.uint64]]:
    mine = arrived.source_time[arrived.tags == tag]
    for part in readings.pages(engine, tag, int(mine.min()), int(mine.max()) + 1):
        yield _marks(tag, part)


def _marks(tag: int, part: Series) -> NDArray[np.uint64]:
    tags = np.full(len(part), tag, dtype=np.int64)
    return marks_of(tags, part.time, part.values, part.others, part.status.astype(np.uint32))


def export(engine: Engine, path: Path, tags: Iterable[tuple[int, str]], start: int, end: int) -> tuple[int, int]:
    """Readings and points of these tags (id and name) and span (ns) into a file; returns how many of each.

    Points of a tag come after its readings: what becomes a point meanwhile is rather there twice than not at all.
    FileError, OSError.
    """
    count = points = 0
    with files.writing(path) as writer:
        for tag, name in tags:
            for part in readings.pages(engine, tag, start, end):
                writer.add(name, part)
                count += len(part)
            for step, some in thinned.pages(engine, tag, start, end):
                writer.add_points(name, step, some)
                points += len(some)
    return count, points
