"""A past that is stored through the worker, beside a slow and obvious record of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from app.db import writing
from app.journal.service import advance
from app.readings import service as readings
from app.records import FillRecord, to_record
from app.sources.tables import TagRow
from connectors import NO_TIME, Batch
from tests.app.works import SECOND, START, Works

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors import Value

Row = tuple[int, int, "Value", int]
"""Tag, ns after the start (or NO_TIME), value, status."""
TAGS = (1, 3)
"""Of the connection; 2 is a pipeline's output."""


@dataclass
class Past:
    """What was stored, in order of arrival."""

    works: Works
    arrived: list[tuple[int, int, object, int, bool]] = field(default_factory=list)
    """Tag, time (ns), value, status, backfilled."""

    def __post_init__(self) -> None:
        """A second tag."""
        with writing(self.works.engine) as session:
            session.add(TagRow(name="t3", connection_id=1, address="ns=2;s=3", datatype="float", options={}))

    def store(self, rows: Sequence[Row], received: int, gap: int | None = None) -> None:
        """One batch, received so many ns after the start; `gap`: it fills one."""
        self.works.number += 1
        others = {at: value for at, (_, _, value, _) in enumerate(rows) if not isinstance(value, float)}
        at = START + received
        batch = Batch(
            tags=np.array([tag for tag, *_ in rows], dtype=np.int64),
            source_time=np.array([t if t == NO_TIME else START + t for _, t, _, _ in rows], dtype=np.int64),
            values=np.array([value if isinstance(value, float) else np.nan for _, _, value, _ in rows]),
            others=others, status=np.array([s for *_, s in rows], dtype=np.uint32),
            received_time=at, alive_until=at, revision=1,
        )  # fmt: skip
        of = to_record(1, batch, fill=None if gap is None else FillRecord(gap))
        assert self.works.scorer.apply(self.works.message(self.works.number, of=of))
        for tag, time, value, status in rows:
            self.arrived.append((tag, at if time == NO_TIME else START + time, value, status, gap is not None))

    def random(self, seed: int, batches: int) -> None:
        """Batches of few readings: late ones, ties, repeats, texts, bad ones, ones without a time, filled in ones."""
        draw = np.random.default_rng(seed)
        for _ in range(batches):
            received = (self.works.number + 1) * SECOND
            self.store([self._row(draw, received) for _ in range(draw.integers(1, 12))], received,
                       7 if draw.random() < 0.1 else None)  # fmt: skip

    def _row(self, draw: np.random.Generator, received: int) -> Row:
        late = int(draw.integers(0, 4)) * SECOND if draw.random() < 0.8 else int(draw.integers(0, 200)) * SECOND
        time = NO_TIME if draw.random() < 0.1 else received - late
        value: Value = f"text {draw.integers(3)}" if draw.random() < 0.1 else float(draw.integers(5)) / 2
        return int(draw.choice(TAGS)), time, value, int(draw.choice([0, 0, 0, 0x40000000, 0x80000000]))

    def applied(self) -> None:
        """The gateway learns that all of it is applied."""
        advance(self.works.engine, "gw", 1, ())

    def expected(self, tag: int, start: int, end: int) -> list[tuple[int, object, int, bool]]:
        """Time, value, status and backfilled of each reading, in order, repeats left out."""
        found = [(time, value, status, filled) for of, time, value, status, filled in self.arrived if of == tag]
        found = sorted((one for one in found if start <= one[0] < end), key=lambda one: one[0])
        seen: set[tuple[int, str, int]] = set()
        kept = []
        for time, value, status, filled in found:
            if (key := (time, repr(value), status)) not in seen:
                seen.add(key)
                kept.append((time, value, status, filled))
        return kept

    def read(self, tag: int, start: int, end: int, limit: int = 100_000) -> list[tuple[int, object, int, bool]]:
        """What the history says of it."""
        found = readings.history(self.works.engine, tag, start, end, limit)
        return [(one.time, one.value, one.status, one.backfilled) for one in found]
