"""Points take the place of old readings: once, whole or not at all, and everybody who reads the past is told."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import event, func, select, update

from app import settings
from app.backfill.tables import RecomputeRow
from app.compacting import Arrived
from app.db import insert_all, make_engine, reading, writing
from app.history.service import CompactedElsewhereError, bring_in, compact, merge
from app.history.tables import AxisRow, ChunkRow, ThinnedRow
from app.ledger.tables import GapRow, LedgerRow
from app.points import Points
from app.queue import HISTORY, THIN, celery
from app.readings import service as readings
from app.retention.service import removals
from app.settings import Settings
from app.sources.tables import ConnectionRow
from app.thinning import queries as thinned
from app.thinning.service import due, run, thin
from app.thinning.tasks import thin_history
from tests.app.history.past import TAGS
from tests.app.thinning.thinned import ALL, DAY, MINUTE, NOW, STEPS, newest, put, rows, run_all, store
from tests.app.works import SECOND, START

if TYPE_CHECKING:
    from tests.app.history.past import Past

def points(past: Past, tag: int, start: int = ALL[0], end: int = ALL[1]) -> dict[tuple[int, int], tuple[object, ...]]:
    """Step and time to readings, count, mean, least, greatest and worst status of each point."""
    found: dict[tuple[int, int], tuple[object, ...]] = {}
    for step, some in thinned.pages(past.works.engine, tag, start, end):
        columns = (some.readings, some.count, some.mean.round(9), some.minimum, some.maximum, some.worst)
        for at, values in zip(some.time.tolist(), zip(*(c.tolist() for c in columns), strict=True), strict=True):
            assert (step, at) not in found
            found[step, at] = values
    return found


def expected(past: Past, tag: int, step: int, before: int) -> dict[tuple[int, int], tuple[object, ...]]:
    """What an obvious reckoning makes of what arrived before a time, texts left out."""
    groups: dict[int, list[tuple[float, int]]] = {}
    for _, at, value, status, _ in sorted((one for one in past.arrived if one[0] == tag), key=lambda one: one[1]):
        if at < before and isinstance(value, float):
            groups.setdefault(at // step * step, []).append((value, status))
    made: dict[tuple[int, int], tuple[object, ...]] = {}
    for begin, some in groups.items():
        good = [value for value, status in some if status >> 30 < 2]
        worst = max((status for _, status in some), key=lambda status: status >> 30)
        made[step, begin] = (len(some), len(good), round(sum(good) / len(good), 9), min(good), max(good), worst)
    return made


def test_old_readings_become_points_and_what_is_no_number_stays(past: Past) -> None:
    """Mean, least, greatest, count and worst status of each minute; texts as they came; a tag without a class too."""
    put(past, STEPS[:1], 1)
    store(past, 0)
    store(past, 400 * SECOND)
    newest(past)
    numbers = sum(1 for tag, _, value, _, _ in past.arrived if tag == 1 and isinstance(value, float)) - 1
    assert run_all(past) == numbers
    assert points(past, 1) == expected(past, 1, MINUTE, NOW)
    assert [value for _, value, _, _ in past.read(1, *ALL)] == [f"note {n}" for n in (50, 150, 250) * 2] + [1.0]
    assert past.read(3, *ALL) == past.expected(3, *ALL)
    assert removals(past.works.engine) == {"thinned": numbers}
    assert run_all(past) == 0
    assert points(past, 1) == expected(past, 1, MINUTE, NOW)
    with reading(past.works.engine) as session:
        stored = session.scalar(select(func.sum(LedgerRow.readings)).where(LedgerRow.fate == "stored"))
    assert stored == len(past.arrived), "what became points has been stored, and counts as that"


def test_what_is_young_stays(past: Past) -> None:
    """A chunk whose last reading is not old enough, whatever its first is."""
    put(past, STEPS[:1], *TAGS)
    store(past, 0)
    newest(past)
    old = START + 299 * SECOND + 30 * DAY
    assert due(past.works.engine, old) == []
    assert {one.tag for one in due(past.works.engine, old + 1)} == {1, 3}
    put(past, [], *TAGS)
    assert due(past.works.engine, NOW) == []


def test_points_become_coarser_points(past: Past) -> None:
    """Hours of minutes, and what comes late joins the hour that it belongs to."""
    put(past, STEPS[:1], *TAGS)
    store(past, 0)
    newest(past)
    run_all(past)
    put(past, STEPS, *TAGS)
    run_all(past)
    assert points(past, 3) == expected(past, 3, 3600 * SECOND, NOW)
    store(past, 200 * SECOND + SECOND // 2, 20)
    run_all(past)
    for tag in TAGS:
        assert points(past, tag) == expected(past, tag, 3600 * SECOND, NOW)
    assert rows(past, ThinnedRow) == 2
    assert removals(past.works.engine) == {"thinned": sum(isinstance(one[2], float) for one in past.arrived) - 2}


def test_intervals_that_do_not_fit_stay_as_they_are(past: Past) -> None:
    """A minute cannot be divided between two parts of 90 s."""
    put(past, STEPS[:1], 3)
    store(past, 0)
    newest(past)
    run_all(past)
    put(past, [[30, 90]], 3)
    run_all(past)
    assert points(past, 3) == expected(past, 3, MINUTE, NOW)


def test_the_newest_reading_of_a_tag_stays(past: Past) -> None:
    """It is the value in force, however old it is."""
    put(past, STEPS, *TAGS)
    store(past, 0)
    store(past, 400 * SECOND)
    run_all(past)
    found = readings.latest(past.works.engine, TAGS)
    assert {tag: (one.time, one.value) for tag, one in found.items()} == {
        tag: (START + 699 * SECOND, float(299 * tag % 11)) for tag in TAGS
    }
    assert len(past.read(3, *ALL)) == 300


@pytest.mark.parametrize("seed", range(3))
def test_however_it_is_cut_the_points_are_the_same(past: Past, seed: int) -> None:
    """Late, repeated, odd and filled readings, in chunks of any size, merged or not, thinned in between."""
    put(past, [[1, 60]], *TAGS)
    draw = np.random.default_rng(seed)
    for part in range(4):
        past.random(seed * 10 + part, 20)
        past.applied()
        while compact(past.works.engine, most=int(draw.integers(10, 80))).batches:
            pass
        if draw.random() < 0.5:
            merge(past.works.engine, together=2)
        run_all(past)
    newest(past)
    run_all(past)
    for tag in TAGS:
        # Of its counts and means nothing is said: a repeat that came after the first had become a point counts.
        found = {key: (one[3:5], int(one[5]) >> 30) for key, one in points(past, tag).items()}  # type: ignore[call-overload]
        assert found == {
            key: (one[3:5], int(one[5]) >> 30)  # type: ignore[call-overload]
            for key, one in expected(past, tag, MINUTE, NOW).items()
        }
        texts = [one for one in past.expected(tag, *ALL) if isinstance(one[1], str)]
        assert [one for one in past.read(tag, *ALL) if isinstance(one[1], str)] == texts


def test_two_at_once_do_it_once(past: Past) -> None:
    """The second finds the chunks gone, does nothing, and says so."""
    put(past, STEPS[:1], 3)
    store(past, 0)
    newest(past)
    (one,) = due(past.works.engine, NOW)
    second, begun = make_engine(past.works.url), list[object]()

    def first_of_all(connection: object) -> None:
        begun.append(connection)
        if len(begun) == 2:
            assert thin(past.works.engine, one).readings == 300

    event.listen(second, "engine_connect", first_of_all)
    with pytest.raises(CompactedElsewhereError):
        thin(second, one)
    second.dispose()
    assert points(past, 3) == expected(past, 3, MINUTE, NOW)
    assert removals(past.works.engine) == {"thinned": 300}


def test_it_stops_in_time_and_goes_on(past: Past) -> None:
    """A piece ends after a transaction; the next does the rest, and the sums are right at any time."""
    put(past, STEPS[:1], *TAGS)
    store(past, 0)
    newest(past)
    done = []
    while (piece := run(past.works.engine, NOW, 0.0))[1]:
        done.append(piece[0])
    assert sum(done) == 600
    assert len(done) > 1
    for tag in TAGS:
        assert points(past, tag) == expected(past, tag, MINUTE, NOW)


def test_shared_times_leave_with_the_last_that_needs_them(past: Past) -> None:
    """Thinning one of two tags leaves the axis to the other."""
    past.store([(tag, n * SECOND, float(n), 0) for n in range(100) for tag in TAGS], 100 * SECOND)
    past.applied()
    compact(past.works.engine)
    newest(past)
    assert rows(past, AxisRow) == 2
    put(past, STEPS[:1], 1)
    run_all(past)
    assert rows(past, AxisRow) == 2
    assert past.read(3, *ALL) == past.expected(3, *ALL)
    put(past, STEPS[:1], 3)
    run_all(past)
    assert rows(past, AxisRow) == 1


def test_what_cannot_be_read_stays_and_holds_nothing_up(past: Past) -> None:
    """A spoilt chunk and a spoilt block are left as they are; the others become points."""
    put(past, STEPS[:1], 3)
    store(past, 0)
    store(past, 400 * SECOND)
    newest(past)
    with writing(past.works.engine) as session:
        first = select(func.min(ChunkRow.id)).where(ChunkRow.tag_id == 3).scalar_subquery()
        session.execute(update(ChunkRow).where(ChunkRow.id == first).values(block=b"spoilt"))
    assert run_all(past) == 300
    assert len(points(past, 3)) == 5
    with writing(past.works.engine) as session:
        session.execute(update(ThinnedRow).values(block=b"spoilt"))
    put(past, [[30, 3600]], 3)
    assert run_all(past) == 0
    assert rows(past, ThinnedRow) == 1


def test_what_windows_have_to_be_computed_from_stays(past: Past) -> None:
    """While a gap is open, and until the work that it has left is done."""
    put(past, STEPS[:1], 3)
    store(past, 0)
    newest(past)
    gap = {"connection_id": 1, "until": NOW, "readings": 0, "filled_until": 0, "reason": "", "lacking": [], "cause": ""}
    with writing(past.works.engine) as session:
        insert_all(session, GapRow, [{**gap, "since": START + 200 * SECOND, "state": "open", "ended_at": None}])
    assert due(past.works.engine, NOW) == []
    with writing(past.works.engine) as session:
        # A window of four seconds before the gap needs what was in force a second before it begins.
        session.execute(update(GapRow).values(since=START + 305 * SECOND))
    assert len(due(past.works.engine, NOW)) == 1
    with writing(past.works.engine) as session:
        session.execute(update(GapRow).values(since=START + 304 * SECOND - 1))
    assert due(past.works.engine, NOW) == []
    with writing(past.works.engine) as session:
        session.execute(update(GapRow).values(state="filled"))
        work = {"gap_id": 1, "version_id": past.works.version, "until": NOW, "reason": "", "windows": 0}
        insert_all(session, RecomputeRow, [
            {**work, "done_until": START + 303 * SECOND, "done_at": None, "claimed_until": 0},
        ])  # fmt: skip
    assert due(past.works.engine, NOW) == []
    with writing(past.works.engine) as session:
        session.execute(update(RecomputeRow).values(done_until=START + 305 * SECOND))
    assert len(due(past.works.engine, NOW)) == 1
    with writing(past.works.engine) as session:
        session.execute(update(GapRow).values(state="open", since=START))
        session.execute(update(ConnectionRow).values(retired_at=1))
    assert len(due(past.works.engine, NOW)) == 1, "of a connection that is retired no gap is filled any more"


def test_a_trend_takes_points_for_the_readings_that_are_gone(past: Past) -> None:
    """Out of blocks read and not read; where parts are whole minutes it is the same as before."""
    put(past, STEPS[:1], *TAGS)
    # Intervals begin at whole minutes since 1970, and the start lies 20 s after one.
    begin = START // MINUTE * MINUTE
    store(past, begin - START + 2 * MINUTE)
    store(past, begin - START + 9 * MINUTE)
    newest(past)
    spans = [(begin, begin + 20 * MINUTE, n) for n in (1, 4, 20)] + [(begin + 3 * MINUTE, begin + 12 * MINUTE, 3)]
    before = [readings.trend(past.works.engine, 3, *span) for span in spans]
    assert run_all(past)
    assert past.read(3, begin, begin + 20 * MINUTE) == []
    for span, old in zip(spans, before, strict=True):
        found = readings.trend(past.works.engine, 3, *span)
        assert found.count.tolist() == old.count.tolist()
        np.testing.assert_array_equal(found.minimum, old.minimum)
        np.testing.assert_array_equal(found.maximum, old.maximum)
        np.testing.assert_allclose(found.mean, old.mean, rtol=1e-12)


def test_where_there_are_points_is_said(past: Past) -> None:
    """By the length of their interval, from the first to the end of the last, cut to what was asked for."""
    put(past, STEPS, *TAGS)
    store(past, 0)
    newest(past)
    run(past.works.engine, START + 40 * DAY, time.monotonic() + 60)
    begin, end = START // MINUTE * MINUTE, (START + 299 * SECOND) // MINUTE * MINUTE + MINUTE
    said = thinned.spans(past.works.engine, 3, *ALL)
    assert [(one.start, one.end, one.step_ns, one.readings) for one in said] == [(begin, end, MINUTE, 300)]
    said = thinned.spans(past.works.engine, 3, begin + 5 * SECOND, begin + MINUTE)
    assert [(one.start, one.end) for one in said] == [(begin + 5 * SECOND, begin + MINUTE)]
    assert thinned.spans(past.works.engine, 3, end, NOW) == []
    assert thinned.spans(past.works.engine, 3, begin - 5, begin) == []
    assert [one.step_ns for one in thinned.spans(past.works.engine, 3, end - 1, NOW)] == [MINUTE]
    with reading(past.works.engine) as session:
        asked = [begin - 1, begin, end - 1, end]
        assert thinned.begun(session, 3, asked).tolist() == [False, True, True, False]
        assert thinned.begun(session, 3, []).tolist() == thinned.begun(session, 2, []).tolist() == []


def test_points_of_one_interval_in_several_blocks_are_one(past: Past) -> None:
    """What came late lies in a block of its own until it is thinned with others; who reads gets one point."""
    put(past, STEPS[:1], 3)
    store(past, 0)
    newest(past)
    run_all(past)
    with writing(past.works.engine) as session:
        session.execute(update(ThinnedRow).values(points=10**6))  # as if it were full
    late = np.array([START + n * SECOND + SECOND // 2 for n in (5, 100, 290)])
    none = np.zeros(3)
    bring_in(past.works.engine, Arrived(1, True, START, np.full(3, 3), late, none, {}, none.astype(np.uint32)))  # noqa: FBT003
    past.arrived += [(3, at, 0.0, 0, True) for at in late.tolist()]
    run_all(past)
    assert rows(past, ThinnedRow) == 2
    assert points(past, 3) == expected(past, 3, MINUTE, NOW)
    found: list[tuple[int, Points]] = thinned.earliest(past.works.engine, 3, *ALL, limit=2)
    assert sum(len(one) for _, one in found) == 2


def test_many_blocks_become_few(past: Past) -> None:
    """Each piece of old readings joins what is not full."""
    put(past, STEPS[:1], 3)
    newest(past)
    for part in range(6):
        store(past, part * 400 * SECOND, 60)
        run_all(past)
    assert rows(past, ThinnedRow) == 1
    assert points(past, 3) == expected(past, 3, MINUTE, NOW)


def test_beat_does_it_from_time_to_time(past: Past, tmp_path: Path) -> None:
    """In the process that keeps the calendar, never in a worker."""
    put(past, STEPS[:1], *TAGS)
    store(past, 0)
    newest(past)
    settings.use(Settings(data_dir=tmp_path, database_url=SecretStr(past.works.url)))
    thin_history()
    for tag in TAGS:
        assert points(past, tag) == expected(past, tag, MINUTE, NOW)
    importlib.import_module("app.worker")
    (entry,) = (one for one in celery.conf.beat_schedule.values() if one["task"] == THIN)
    assert (entry["schedule"], entry["options"]["queue"]) == (600.0, HISTORY)
