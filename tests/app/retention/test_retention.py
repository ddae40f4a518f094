"""What is old leaves in small pieces; what is not published, not applied or still needed stays, however old it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select, update

from app.access.tables import TokenRow, UserRow
from app.backfill.tables import RecomputeRow
from app.db import insert_all, reading, writing
from app.events.tables import EventRow, RuleStateRow
from app.health.service import prediction_counts
from app.letters import service as letters
from app.letters.tables import DeadWindowsRow
from app.northbound import service as northbound
from app.northbound.service import Span
from app.northbound.tables import OutboxRow
from app.pipelines.tables import PipelineRow
from app.readings.tables import DeadLetterRow
from app.retention.service import BATCH, KINDS, Found, keeps, oldest, piece, removals, remove
from app.retention.tables import RemovalRow
from app.scoring.tables import PredictionRow
from app.settings import Settings
from tests.app.letters.deadly import rows
from tests.app.works import SECOND, START, Works, rule

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db import Base

NOW = START + 400 * 86_400 * SECOND
KEEP: dict[str, float | None] = dict.fromkeys((kind.name for kind in KINDS), 30.0)
WHO = "ada"


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """With an alarm on a score above 1."""
    made = Works(database_url, tmp_path, spec={"rules": [rule()]})
    yield made
    made.close()


def kept(works: Works, row: type[Base], key: str) -> list[Any]:
    """One column of what is there, in the order of keys."""
    return sorted(getattr(one, key) for one in rows(works, row))


def removed(works: Works, **keep: float | None) -> dict[str, int]:
    """What one piece removes; of kinds that are not named nothing."""
    wanted = {**dict.fromkeys(KEEP), **keep} if keep else KEEP
    return {kind: count for kind, count in piece(works.engine, wanted, NOW, 60).rows.items() if count}


def taken(works: Works) -> None:
    """Every peer has taken everything, long ago."""
    with writing(works.engine) as session:
        session.execute(update(OutboxRow).values(sent_at=START))


def answered(works: Works, *values: float) -> None:
    """Predictions of long ago."""
    works.number += 1
    works.scorer.apply(works.message(works.number, works.block(values, 1)))


def test_what_is_old_leaves_and_what_is_young_stays(works: Works) -> None:
    """Predictions by the end of their window, publications by when they were sent, dead letters by when they came."""
    answered(works, *[0.5] * 10)
    taken(works)
    with writing(works.engine) as session:
        young = select(PredictionRow.id).where(PredictionRow.sequence > 8)
        session.execute(update(PredictionRow).where(PredictionRow.id.in_(young)).values(end_time=NOW - SECOND))
        session.execute(update(OutboxRow).where(OutboxRow.id > 18).values(sent_at=NOW - SECOND))
        for at in (START, NOW - SECOND):
            letter = {"connection_id": 1, "at": at, "address": "a", "reason": "r", "detail": "", "excerpt": b""}
            letters.keep(session, {**letter, "readings": 0}, works.block([1.0], 1), [0])
    assert removed(works) == {"predictions": 7, "outbox": 18, "dead_letters": 1}
    assert kept(works, PredictionRow, "sequence") == [1, 9, 10]
    assert len(rows(works, OutboxRow)) == 2
    assert kept(works, DeadLetterRow, "at") == [NOW - SECOND]
    assert kept(works, DeadWindowsRow, "letter_id") == [2]
    assert removed(works) == {}


def test_where_nothing_is_said_things_are_kept_for_ever(works: Works) -> None:
    """Predictions and events are; publications are not."""
    answered(works, 0.5, 2.5)
    taken(works)
    keep = keeps(Settings())
    assert (keep["predictions"], keep["events"], keep["outbox"]) == (None, None, 1.0)
    assert piece(works.engine, keep, NOW, 60).rows["predictions"] == 0
    assert rows(works, OutboxRow) == []
    assert len(rows(works, PredictionRow)) == 2


def test_what_a_peer_has_not_taken_stays(works: Works) -> None:
    """Neither the publication leaves nor the prediction behind it, for as long as one peer is away."""
    answered(works, 0.1, 0.2, 0.3, 0.4)
    taken(works)
    with writing(works.engine) as session:
        third = select(PredictionRow.id).where(PredictionRow.sequence == 3).scalar_subquery()
        mine = (OutboxRow.publication_id == third) & (OutboxRow.subscription_id == 2)
        session.execute(update(OutboxRow).where(mine).values(sent_at=None))
    assert removed(works) == {"predictions": 2, "outbox": 7}
    assert kept(works, PredictionRow, "sequence") == [1, 3]
    taken(works)
    assert removed(works) == {"predictions": 1, "outbox": 1}


def test_what_a_rule_has_not_taken_stays(works: Works) -> None:
    """A number is missing: what waits behind it is not applied yet."""
    answered(works, 0.1, 0.2)
    works.number += 1
    works.scorer.apply(works.message(works.number, works.block([0.4, 0.5], 4)))
    taken(works)
    (state,) = rows(works, RuleStateRow)
    assert state.sequence == 2
    assert removed(works, predictions=30.0) == {"predictions": 1}
    assert kept(works, PredictionRow, "sequence") == [1, 4, 5]
    works.number += 1
    works.scorer.apply(works.message(works.number, works.block([2.5], 3)))
    taken(works)
    removed(works, predictions=30.0)
    assert kept(works, PredictionRow, "sequence") == [1, 3], "the alarm's own stays"


def test_the_first_window_of_a_version_in_force_stays(works: Works) -> None:
    """It tells how far back windows can be computed again; that of a version that is no longer in force leaves."""
    answered(works, 0.1, 0.2)
    taken(works)
    removed(works, predictions=30.0)
    assert kept(works, PredictionRow, "sequence") == [1]
    with writing(works.engine) as session:
        session.get_one(PipelineRow, 1).active_version = None
    removed(works, predictions=30.0)
    assert rows(works, PredictionRow) == []


def test_what_is_to_be_computed_again_stays(works: Works) -> None:
    """Until the work that a filled gap has left is done."""
    answered(works, 0.1, 0.2, 0.3, 0.4)
    taken(works)
    work = {"gap_id": 1, "version_id": works.version, "done_until": START + 3 * SECOND, "until": NOW, "reason": ""}
    with writing(works.engine) as session:
        insert_all(session, RecomputeRow, [{**work, "windows": 0, "done_at": None, "claimed_until": 0}])
    removed(works, predictions=30.0)
    assert kept(works, PredictionRow, "sequence") == [1, 3, 4]
    with writing(works.engine) as session:
        session.execute(update(RecomputeRow).values(done_at=1))
    removed(works, predictions=30.0)
    assert kept(works, PredictionRow, "sequence") == [1]


def test_an_alarm_that_is_not_over_stays_with_its_prediction(works: Works) -> None:
    """Active, or cleared and not acknowledged: both stay. Once it is over it leaves, and then its prediction."""
    answered(works, 0.1, 2.5, 0.2, 0.3)
    taken(works)
    assert removed(works) == {"predictions": 2, "outbox": 12}
    assert kept(works, PredictionRow, "sequence") == [1, 2]
    with writing(works.engine) as session:
        session.execute(update(EventRow).values(state="normal", acked_at=START))
    assert removed(works) == {"predictions": 1, "events": 1}


def test_an_event_that_is_not_published_stays(works: Works) -> None:
    """Whatever of it a peer has not taken: that it was raised, or that it was cleared."""
    answered(works, 0.1, 2.5, 0.2)
    taken(works)
    with writing(works.engine) as session:
        session.execute(update(EventRow).values(state="normal", acked_at=START))
        cleared = OutboxRow.publication_id.like("%:cleared") & (OutboxRow.subscription_id == 1)
        session.execute(update(OutboxRow).where(cleared).values(sent_at=None))
    assert removed(works, events=30.0) == {}
    taken(works)
    assert removed(works, events=30.0) == {"events": 1}


def event(number: int, condition: str | None, state: str, source: str = "plant") -> dict[str, Any]:
    """An event of long ago."""
    return {
        "id": f"{number:036d}", "source": source, "connection_id": 1, "condition_key": condition, "pipeline_id": None,
        "version_id": None, "rule": "r", "prediction_id": None, "cleared_by": None, "state": state, "priority": 1,
        "message": {}, "value": None, "limit": "", "unit_id": None, "context": {}, "raised_at": START + number,
        "cleared_at": None, "acked_at": None, "acked_by": None, "comment": "", "plant": None,
    }  # fmt: skip


def test_of_a_condition_of_a_plant_the_newest_event_stays(works: Works) -> None:
    """It tells the present state; what only happened leaves; those of the box itself are numbered and stay."""
    with writing(works.engine) as session:
        insert_all(session, EventRow, [
            event(1, "c", "unack_active"), event(2, "c", "normal"), event(3, "d", "ack_active"),
            event(4, None, "occurred"), event(5, None, "normal", "box"),
        ])  # fmt: skip
    assert removed(works) == {"events": 2}
    assert [int(one) for one in kept(works, EventRow, "id")] == [2, 3, 5]


def test_what_is_being_sent_again_stays(works: Works) -> None:
    """A replay that is under way finds all that it was asked for."""
    answered(works, *[0.5] * 4)
    taken(works)
    northbound.order(works.engine, WHO, "mes", Span(since=0), rate=1)
    assert removed(works, outbox=30.0) == {"outbox": 4}
    northbound.stop(works.engine, WHO, "mes")
    assert removed(works, outbox=30.0) == {"outbox": 4}


def test_a_letter_that_waits_to_be_computed_stays(works: Works) -> None:
    """Whoever asked for it gets an answer."""
    with writing(works.engine) as session:
        letter = {"connection_id": 1, "at": START, "address": "a", "reason": "r", "detail": "", "excerpt": b""}
        letters.keep(session, {**letter, "readings": 0}, works.block([1.0], 1), [0])
    letters.ask(works.engine, WHO, 1, present=False)
    assert removed(works) == {}
    with writing(works.engine) as session:
        session.execute(update(DeadWindowsRow).values(state="open"))
    assert removed(works) == {"dead_letters": 1}


def test_tokens_that_have_ended_leave(works: Works) -> None:
    """A month after; those that are good stay."""
    with writing(works.engine) as session:
        session.add(UserRow(name="u", password_hash="", role="viewer", created_at=1))
        session.flush()
        for end in (START, NOW):
            row = {"user_id": 1, "digest": str(end), "name": "t", "kind": "api", "scopes": [], "created_at": 1}
            session.add(TokenRow(**row, expires_at=end))
    assert removed(works) == {"tokens": 1}


def test_it_goes_in_small_pieces_and_counts_what_it_did(works: Works) -> None:
    """No transaction takes more rows than a batch, a piece ends with its time; figures count all there ever were."""
    many = 2 * BATCH + 7
    with writing(works.engine) as session:
        same: dict[str, Any] = {
            "pipeline_id": 1, "version_id": works.version, "sequence": None, "start_time": 1, "status": 0,
            "outputs": {}, "context": {}, "model_digest": "", "device_wanted": "", "device": "", "backend": "",
            "latency_ns": 1, "newest_time": 1, "received_time": 1, "created_time": 1, "journal": "j", "epoch": 1,
            "number": 1, "input_digest": "", "revision": 0, "late": False, "asset": "", "precision": "", "nodes": 0,
            "nodes_on_device": 0, "unit_id": None,
        }  # fmt: skip
        insert_all(session, PredictionRow, [
            {**same, "id": f"{n:036d}", "end_time": START + n, "reason": "gap:1" if n % 2 else ""} for n in range(many)
        ])
    before = sorted(prediction_counts(works.engine))
    first = piece(works.engine, KEEP, NOW, seconds=0)
    assert (first.rows.total(), first.more) == (0, True)
    with reading(works.engine) as session:
        assert len(KINDS[0].find(session, NOW, BATCH)) == BATCH
    assert removed(works) == {"predictions": many}
    assert not piece(works.engine, KEEP, NOW, 60).more
    assert removals(works.engine) == {"predictions": many}
    assert sorted(prediction_counts(works.engine)) == before
    assert sorted((one.whose, one.rows) for one in rows(works, RemovalRow)) == [
        ("1:answered", many // 2 + 1), ("1:refused", many // 2),
    ]  # fmt: skip
    assert oldest(works.engine)["predictions"] is None


def test_what_changes_between_the_search_and_the_removal_is_seen(works: Works) -> None:
    """A publication that is to be sent again meanwhile stays, and what another has removed is counted once."""
    answered(works, 0.1, 0.2)
    taken(works)
    (outbox,) = [kind for kind in KINDS if kind.name == "outbox"]

    def find(session: Session, before: int, limit: int) -> Found:
        found = outbox.find(session, before, limit)
        with writing(works.engine) as other:
            other.execute(update(OutboxRow).where(OutboxRow.id == found[0][0]).values(sent_at=None))
            other.execute(delete(OutboxRow).where(OutboxRow.id == found[1][0]))
        return found

    remove(works.engine, replace(outbox, find=find), NOW, BATCH)
    assert [one.sent_at for one in rows(works, OutboxRow)] == [None]
    assert removals(works.engine) == {"outbox": 2}


def test_how_it_stands_can_be_read(works: Works) -> None:
    """Since when there is something of each kind."""
    answered(works, 0.5)
    found = oldest(works.engine)
    assert found["predictions"] == START + SECOND
    assert found["events"] is None
