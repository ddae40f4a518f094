"""A filled gap leaves work, and the work leaves late predictions: once, in pieces, touching no rule and no count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import delete, select, update

from app import times
from app.backfill import service
from app.backfill.tables import RecomputeRow
from app.backfill.tasks import Recomputer
from app.db import reading, table, writing
from app.events.tables import EventRow, RuleStateRow
from app.history.service import compact
from app.history.tables import HistoryClassRow
from app.ledger.service import gaps
from app.ledger.tables import GapRow
from app.northbound.tables import OutboxRow
from app.pipelines.tables import PipelineRow
from app.readings.service import history
from app.readings.tables import BatchRow, WatermarkRow
from app.records import FillRecord, to_record
from app.scoring.service import apply_late
from app.scoring.tables import PredictionRow
from app.sources.tables import TagRow
from app.thinning.service import due, thin
from connectors import Batch
from tests.app.works import INPUTS, LENGTH, SECOND, START, Works

if TYPE_CHECKING:
    from app.db import Base

SINCE, UNTIL = START + 100 * SECOND, START + 130 * SECOND
NEWEST = START + 150 * SECOND
DAY = 86_400 * SECOND


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """A pipeline with an alarm; values are the seconds since the start."""
    rules = [{"name": "high", "output": "score", "above": 110.0}]
    inputs = [{"tag": 1, "connection": 1, "max_gap_s": 2.0}] * INPUTS
    made = Works(database_url, tmp_path, spec={"rules": rules, "inputs": inputs})
    yield made
    made.close()


def rows(works: Works, row: type[Base]) -> list[Any]:
    """Every row of a table, in the order of its key."""
    with reading(works.engine) as session:
        found = list(session.scalars(select(row).order_by(*table(row).primary_key)))
        session.expunge_all()
        return found


def seconds(first: int, last: int) -> Batch:
    """A reading of tag 1 every second from START + first to START + last: its value is the second."""
    at = np.arange(first, last + 1, dtype=np.int64)
    return Batch(
        np.ones(len(at), np.int64), START + at * SECOND, at.astype(np.float64), {}, np.zeros(len(at), np.uint32),
        START + (last + 1) * SECOND, START + (last + 1) * SECOND, 1,
    )  # fmt: skip


def live(works: Works) -> None:
    """What came by itself: up to the gap and from its end on, each second with its window; those inside are refused."""
    works.scorer.apply(works.message(1, of=to_record(1, seconds(0, 100))))
    works.scorer.apply(works.message(2, of=to_record(1, replace(seconds(130, 150), received_time=UNTIL), SINCE)))
    ends = np.arange(90, 151)
    refused = tuple((n, "gap:1") for n, end in enumerate(ends) if 102 <= end < 134)
    block = works.block([0.5] * len(ends), 1, at=START + 89 * SECOND, refused=refused)
    works.scorer.apply(works.message(3, block, of=to_record(1, seconds(151, 151))))
    with writing(works.engine) as session:
        session.add(WatermarkRow(journal="gw", epoch=1, number=3))


def fill(works: Works, end: str = "filled", *, until: int = UNTIL, **said: Any) -> None:  # noqa: ANN401 - of a FillRecord
    """The gap's own seconds, then how it ended."""
    last = (until - START) // SECOND
    works.scorer.apply(works.message(4, of=to_record(1, seconds(101, last), fill=FillRecord(1))))
    nothing = to_record(1, seconds(1, 0), fill=FillRecord(1, until))
    works.scorer.apply(works.message(5, of=nothing))
    works.scorer.apply(works.message(6, of=msgspec.structs.replace(nothing, fill=FillRecord(1, until, end, **said))))


def all_of_it(works: Works) -> int:
    """Work until there is none; how many pieces."""
    recomputer = Recomputer(works.engine, works.scorer.sessions, works.scorer.tell)
    pieces = 0
    while recomputer.once():
        pieces += 1
        assert pieces < 100
    return pieces


def late(works: Works) -> dict[int, PredictionRow]:
    """Those that were computed again, by the second they end in."""
    return {(one.end_time - START) // SECOND: one for one in rows(works, PredictionRow) if one.late}


def test_a_filled_gap_has_its_windows_computed_again(works: Works) -> None:
    """Every window that touches it: a further revision, late, without a number, from the readings that were missed."""
    live(works)
    fill(works)
    (work,) = rows(works, RecomputeRow)
    assert (work.version_id, work.done_until, work.until) == (works.version, SINCE - 1, UNTIL + 3 * SECOND)
    events, states = rows(works, EventRow), [(r.sequence, r.active, r.streak) for r in rows(works, RuleStateRow)]
    told = len(rows(works, OutboxRow))
    all_of_it(works)
    found = late(works)
    assert sorted(found) == list(range(100, 134))
    for end, one in found.items():
        assert one.outputs["score"] == pytest.approx(np.mean(np.arange(end - LENGTH + 1, end + 1)))
        assert (one.revision, one.sequence, one.reason, one.status) == (1, None, "", 0)
        assert (one.journal, one.number, one.newest_time <= one.end_time) == ("gap", 1, True)
    assert [one.id for one in rows(works, EventRow)] == [one.id for one in events]
    assert [(r.sequence, r.active, r.streak) for r in rows(works, RuleStateRow)] == states
    fresh = rows(works, OutboxRow)[told:]
    assert {one.subscription_id for one in fresh} == {1}, "nodes show what is now"
    assert [one.topic for one in fresh] == ["up/acme/line1/press/prediction/watch/late"] * len(found)
    body = json.loads(fresh[0].body)
    assert (body["late"], body["revision"], body["sequence"]) == (True, 1, None)
    (gap,) = gaps(works.engine)
    assert (gap.state, gap.readings, gap.windows, gap.windows_open) == ("filled", 30, len(found), False)
    assert {one.gap_id for one in rows(works, BatchRow)} == {None, 1}


def test_the_newest_revision_is_what_an_output_tag_shows(works: Works) -> None:
    """In the history of a pipeline's output each window stands once."""
    live(works)
    fill(works)
    all_of_it(works)
    with writing(works.engine) as session:
        session.execute(update(PredictionRow).values(outputs={"score": 1.0}).where(PredictionRow.late.is_(False)))
    found = history(works.engine, 2, START, NEWEST + SECOND, 1000)
    assert len({one.time for one in found}) == len(found) == 61
    assert {one.time for one in found if one.value != 1.0} == {START + end * SECOND for end in late(works)}


def test_windows_that_have_not_closed_yet_wait(works: Works) -> None:
    """What is beyond the newest stored window is computed again once that is; others get their turn meanwhile."""
    live(works)
    with writing(works.engine) as session:
        session.execute(delete(PredictionRow).where(PredictionRow.end_time > START + 120 * SECOND))
    fill(works)
    all_of_it(works)
    assert sorted(late(works)) == list(range(100, 121))
    (work,) = rows(works, RecomputeRow)
    assert (work.done_at, work.done_until) == (None, START + 120 * SECOND)
    assert work.claimed_until > times.now()
    assert service.claim(works.engine, service.waiting(works.engine)) is None
    assert gaps(works.engine)[0].windows_open


def test_readings_on_their_way_are_waited_for(works: Works) -> None:
    """A window counts as stored when everything before its record is."""
    live(works)
    with writing(works.engine) as session:
        session.execute(update(WatermarkRow).values(number=2))
    fill(works)
    all_of_it(works)
    assert late(works) == {}


def test_a_version_that_is_no_longer_in_force_ends_its_work(works: Works) -> None:
    """What can be computed is; for what never closed there is a reason."""
    live(works)
    with writing(works.engine) as session:
        session.execute(delete(PredictionRow).where(PredictionRow.end_time > START + 120 * SECOND))
    fill(works)
    with writing(works.engine) as session:
        session.get_one(PipelineRow, 1).active_version = None
    all_of_it(works)
    (work,) = rows(works, RecomputeRow)
    assert sorted(late(works)) == list(range(100, 121))
    assert "no longer in force" in work.reason


def test_windows_from_before_the_version_was_in_force_are_none_of_its(works: Works) -> None:
    """Only from its first window on."""
    live(works)
    with writing(works.engine) as session:
        session.execute(delete(PredictionRow).where(PredictionRow.end_time < START + 110 * SECOND))
        session.execute(update(PredictionRow).values(sequence=1).where(PredictionRow.end_time == START + 110 * SECOND))
    fill(works)
    all_of_it(works)
    assert sorted(late(works)) == list(range(110, 134))


def test_windows_whose_readings_were_thinned_keep_their_answers(works: Works) -> None:
    """Points are no readings: from the first reading after them on windows are computed, and the gap says why not."""
    live(works)
    fill(works)
    with writing(works.engine) as session:
        session.execute(update(WatermarkRow).values(number=6))
        session.add(HistoryClassRow(name="process", keep_days=None, priority=3, thin=[[1, 10]]))
        session.execute(update(TagRow).values(history="process"))
    for _ in range(2):
        compact(works.engine, most=1)
    assert due(works.engine, START + 2 * DAY) == [], "what is to be computed from it stays"
    with writing(works.engine) as session:
        session.execute(update(RecomputeRow).values(done_at=1))
    (one,) = due(works.engine, START + 101 * SECOND + DAY)
    assert thin(works.engine, one).readings == 101
    while compact(works.engine).batches:
        pass
    with writing(works.engine) as session:
        session.execute(update(RecomputeRow).values(done_at=None))
    all_of_it(works)
    # The points reach to 110; what was in force at the begin of a window is known from 110 on, a second and a window
    # of four seconds before its end.
    assert sorted(late(works)) == list(range(115, 134))
    for end, made in late(works).items():
        assert made.outputs["score"] == pytest.approx(np.mean(np.arange(end - LENGTH + 1, end + 1)))
    (work,) = rows(works, RecomputeRow)
    assert (work.reason, work.done_at is not None, work.windows) == ("thinned: t1", True, 19)
    (gap,) = gaps(works.engine)
    assert (gap.thinned, gap.windows) == ("t1", 19)


def test_windows_of_which_all_was_thinned_are_given_up(works: Works) -> None:
    """With the reason; nothing waits for ever."""
    live(works)
    fill(works)
    with writing(works.engine) as session:
        session.execute(update(WatermarkRow).values(number=6))
        session.add(HistoryClassRow(name="process", keep_days=None, priority=3, thin=[[1, 10]]))
        session.execute(update(TagRow).values(history="process"))
        session.execute(update(RecomputeRow).values(done_at=1))
    while compact(works.engine, most=1).batches:
        pass
    works.scorer.apply(works.message(9, of=to_record(1, seconds(200, 200))))
    with writing(works.engine) as session:
        session.execute(update(WatermarkRow).values(number=9))
    compact(works.engine)
    for one in due(works.engine, START + 2 * DAY):
        while thin(works.engine, one).blocks:
            pass
    with writing(works.engine) as session:
        session.execute(update(RecomputeRow).values(done_at=None))
    all_of_it(works)
    assert late(works) == {}
    (work,) = rows(works, RecomputeRow)
    assert (work.reason, work.done_at is not None) == ("thinned: t1", True)


def test_two_workers_do_not_store_a_piece_twice(works: Works) -> None:
    """A worker that was thought dead comes back: what it brings is refused."""
    live(works)
    fill(works)
    claimed = service.claim(works.engine, service.waiting(works.engine))
    assert claimed is not None
    assert service.claim(works.engine, service.waiting(works.engine)) is None, "it is claimed"
    with writing(works.engine) as session:
        session.execute(update(RecomputeRow).values(claimed_until=0))
    all_of_it(works)
    before = len(rows(works, PredictionRow))
    assert not apply_late(works.engine, claimed, [], UNTIL)
    assert len(rows(works, PredictionRow)) == before
    with writing(works.engine) as session:
        session.execute(update(RecomputeRow).values(done_at=None, done_until=SINCE - 1, claimed_until=0))
    all_of_it(works)
    assert {one.revision for one in rows(works, PredictionRow) if one.late} == {1, 2}


def test_what_a_peer_lacked_is_not_made_up(works: Works) -> None:
    """A gap that was filled in part: beyond it windows stay refused, with the reason."""
    live(works)
    fill(works, "partly", until=START + 110 * SECOND, reason="given up")
    (work,) = rows(works, RecomputeRow)
    assert work.until == START + 113 * SECOND
    all_of_it(works)
    found = late(works)
    assert sorted(found) == list(range(100, 114))
    assert {end for end, one in found.items() if one.reason} == {113}
    assert found[113].reason == "gap:1"


@pytest.mark.parametrize("end", ["none", "partly"])
def test_a_gap_that_brought_nothing_leaves_no_work(works: Works, end: str) -> None:
    """It stays as it was recorded, with the reason."""
    live(works)
    nothing = to_record(1, seconds(1, 0), fill=FillRecord(1, 0, end, "nothing kept", (1,)))
    works.scorer.apply(works.message(4, of=nothing))
    works.scorer.apply(works.message(5, of=nothing))
    assert rows(works, RecomputeRow) == []
    (gap,) = rows(works, GapRow)
    assert (gap.state, gap.reason, gap.lacking) == (end, "nothing kept", [1])
    assert gap.ended_at is not None


def test_a_page_that_comes_twice_counts_once(works: Works) -> None:
    """The gap's figures commit with the readings, under the id of the record."""
    live(works)
    message = works.message(4, of=to_record(1, seconds(101, 110), fill=FillRecord(1)))
    assert works.scorer.apply(message)
    assert not works.scorer.apply(message)
    assert gaps(works.engine)[0].readings == 10


def test_cycles_are_left_as_they_are(works: Works) -> None:
    """A part that was finished in the gap was never counted: its window cannot be numbered afterwards."""
    works.put_in_force(window={"kind": "trigger", "length": LENGTH, "trigger": 1, "trigger_connection": 1})
    live(works)
    fill(works)
    assert rows(works, RecomputeRow) == []
