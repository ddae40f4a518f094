"""Readings of one tag come out of the batches exactly, in the order of source time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.readings.schemas import Reading
from app.readings.service import counts, history, latest
from app.records import FillRecord, to_record
from connectors import NO_TIME, Batch
from tests.app.works import SECOND, START, Works

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors import Value

Row = tuple[int, int, float | str]
"""Tag, seconds after the start (or NO_TIME), value."""


def store(works: Works, rows: Sequence[Row], received: int) -> None:
    """One batch through the worker, received so many seconds after the start."""
    works.number += 1
    others: dict[int, Value] = {at: value for at, (_, _, value) in enumerate(rows) if isinstance(value, str)}
    batch = Batch(
        tags=np.array([tag for tag, _, _ in rows], dtype=np.int64),
        source_time=np.array([s if s == NO_TIME else START + s * SECOND for _, s, _ in rows], dtype=np.int64),
        values=np.array([float("nan") if isinstance(value, str) else value for _, _, value in rows]),
        others=others,
        status=np.zeros(len(rows), dtype=np.uint32),
        received_time=START + received * SECOND,
        alive_until=START + received * SECOND,
        revision=1,
    )
    assert works.scorer.apply(works.message(works.number, of=to_record(1, batch)))


def read(works: Works, since: int, until: int, limit: int = 1000, tag: int = 1) -> list[tuple[float, object]]:
    """Seconds after the start and values."""
    found = history(works.engine, tag, START + since * SECOND, START + until * SECOND, limit)
    return [((one.time - START) / SECOND, one.value) for one in found]


def test_a_range_holds_its_start_and_not_its_end(works: Works) -> None:
    """From inclusive, to exclusive; other tags stay out; texts come as texts."""
    store(works, [(1, 1, 1.0), (2, 2, 9.0), (1, 2, 2.0)], 3)
    store(works, [(1, 4, "four"), (1, 5, 5.0)], 5)
    assert read(works, 1, 5) == [(1, 1.0), (2, 2.0), (4, "four")]
    assert read(works, 2, 3) == [(2, 2.0)]
    assert read(works, 6, 60) == []
    assert read(works, 0, 60, tag=99) == []


def test_a_reading_without_source_time_counts_at_its_received_time(works: Works) -> None:
    """It is there, at the time the gateway took it."""
    store(works, [(1, NO_TIME, 7.0)], 3)
    assert read(works, 3, 4) == [(3, 7.0)]


def test_the_same_time_twice_keeps_the_order_of_arrival(works: Works) -> None:
    """Coarse stamps of a PLC: two values at one time are two readings, the earlier arrival first."""
    store(works, [(1, 1, 2.0), (1, 1, 1.0)], 5)
    store(works, [(1, 1, 3.0)], 6)
    assert read(works, 0, 9) == [(1, 2.0), (1, 1.0), (1, 3.0)]


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_an_answer_is_the_earliest_of_all(works: Works, limit: int) -> None:
    """Whatever the order of batches and however far their times reach, an answer holds the earliest in the range."""
    draw = np.random.default_rng(7)
    written: list[tuple[float, object]] = []
    for number in range(40):
        seconds = number * 4 + draw.permutation(300 if number % 5 == 0 else 10)[:6]
        rows = [(1, int(second), float(number * 1000 + at)) for at, second in enumerate(seconds)]
        store(works, rows, 1000 + number)
        written += [(second, value) for _, second, value in rows]
    expected = sorted(written, key=lambda one: one[0])
    for since in range(0, 200, 23):
        assert read(works, since, 400, limit) == [one for one in expected if since <= one[0] < 400][:limit]


def test_the_newest_reading_is_by_source_time(works: Works) -> None:
    """A late batch with old times does not hide the newest value; every tag is looked for in one go."""
    store(works, [(1, 10, 10.0), (2, 9, 90.0)], 11)
    store(works, [(1, 5, 5.0), (1, 4, 4.0)], 12)
    newest = latest(works.engine, [1, 77])
    assert newest == {1: Reading(START + 10 * SECOND, 10.0, 0)}


def test_outputs_are_tags_too(works: Works) -> None:
    """A prediction's value is a reading of the output's tag, with its status; a tombstone has none and says Bad."""
    refused = works.block([1.0, 2.0, 3.0], 1, refused=((2, "gap:1"),))
    works.scorer.apply(works.message(1, refused))
    assert [(one.value, one.status) for one in history(works.engine, 2, START, START + 60 * SECOND, 10)] == [
        (1.0, 0), (2.0, 0), (None, 0),
    ]
    assert latest(works.engine, [2])[2].time == START + 3 * SECOND
    assert history(works.engine, 2, START, START + 60 * SECOND, 1)[0].value == 1.0


def test_counts_are_of_what_is_stored(works: Works) -> None:
    """Per connection, batch by batch."""
    assert counts(works.engine) == {}
    store(works, [(1, 1, 1.0), (2, 1, 1.0)], 1)
    store(works, [(1, 2, 1.0)], 2)
    assert counts(works.engine) == {1: 3}


def test_the_same_reading_twice_is_one(works: Works) -> None:
    """What a history brings again shows as it had arrived; another value or status of the same time is another."""
    store(works, [(1, 1, 1.0), (1, 2, 2.0)], 3)
    works.number += 1
    rows, again = [(1, 1.0, 0), (1, 1.5, 0), (2, 2.0, 0x80000000), (3, 3.0, 0)], np.ones(4, np.int64)
    batch = Batch(
        again, START + np.array([s for s, _, _ in rows]) * SECOND, np.array([value for _, value, _ in rows]), {},
        np.array([status for *_, status in rows], np.uint32), START + 9 * SECOND, 0, 1,
    )  # fmt: skip
    assert works.scorer.apply(works.message(works.number, of=to_record(1, batch, fill=FillRecord(7))))
    assert read(works, 0, 9) == [(1, 1.0), (1, 1.5), (2, 2.0), (2, 2.0), (3, 3.0)]
    found = history(works.engine, 1, START, START + 9 * SECOND, 100)
    assert [one.backfilled for one in found] == [False, True, False, True, True]
    assert read(works, 0, 9, limit=3) == [(1, 1.0), (1, 1.5), (2, 2.0)]
