"""A dead letter is mended, computed again or dropped: late, once, touching no number and no alarm, and audited."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from sqlalchemy import func, select, update

from app.access.service import audit_page
from app.db import reading, writing
from app.events.tables import EventRow, RuleStateRow
from app.letters import schemas, service
from app.letters.schemas import LetterError, mend, pack, unpack
from app.letters.tables import DeadWindowsRow
from app.letters.tasks import Replayer
from app.northbound.tables import OutboxRow
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.readings.tables import DeadLetterRow
from app.scoring.tables import PredictionRow
from connectors import Status
from tests.app.letters.deadly import KILLS, REFUSED, kills, rows
from tests.app.works import INPUTS, LENGTH, SECOND, START, Works

WHO = "ada"


def refused(works: Works, *values: float) -> int:
    """A message of which the model refuses windows; the id of the dead letter."""
    works.number += 1
    works.scorer.apply(works.message(works.number, works.block(values or (2.0, REFUSED, 3.0), 10 * works.number)))
    return int(rows(works, DeadLetterRow)[-1].id)


def once(works: Works) -> bool:
    """One piece of a worker's work."""
    return Replayer(works.engine, works.scorer.sessions, works.scorer.tell).once()


def letter(works: Works, letter_id: int) -> DeadWindowsRow:
    """As it is now."""
    (found,) = [one for one in rows(works, DeadWindowsRow) if one.letter_id == letter_id]
    assert isinstance(found, DeadWindowsRow)
    return found


def late(works: Works) -> list[PredictionRow]:
    """What was computed again, in the order of revisions."""
    return sorted((one for one in rows(works, PredictionRow) if one.late), key=lambda one: one.revision)


def edits(works: Works, letter_id: int, value: float | None) -> dict[int, list[list[float | None]]]:
    """Every cell of the letter's first window with this value."""
    return {int(unpack(letter(works, letter_id).body).end[0]): [[value] * INPUTS] * LENGTH}


def actions(works: Works) -> list[tuple[str, str, str]]:
    """Who did what to what, in order; the chain of the audit log is unbroken."""
    found, intact = audit_page(works.engine, None, 100)
    assert intact
    return [(one.who, one.action, one.target) for one in reversed(found)]


def test_what_was_refused_is_kept_whole(works: Works) -> None:
    """Of a message only the windows that were refused, with times, statuses and numbers as they came."""
    (kept,) = [letter(works, refused(works))]
    windows = unpack(kept.body)
    assert (kept.windows, kept.kept, kept.state, len(windows)) == (1, 1, "open", 1)
    assert windows.values.tolist() == [[[REFUSED] * INPUTS] * LENGTH]
    tombstone = next(one for one in rows(works, PredictionRow) if one.reason)
    assert (windows.end[0], kept.first_end) == (tombstone.end_time, tombstone.end_time)
    (found,) = rows(works, DeadLetterRow)
    assert (found.reason, found.detail) == ("input_refused", tombstone.reason[:1000])


def test_a_mended_window_is_answered_late(works: Works) -> None:
    """A further revision without a number, Uncertain because a person overwrote it; no rule looks at it."""
    one = refused(works)
    states = [(r.sequence, r.active, r.streak) for r in rows(works, RuleStateRow)]
    events, told = len(rows(works, EventRow)), len(rows(works, OutboxRow))
    assert service.correct(works.engine, WHO, one, edits(works, one, 5.0)) == LENGTH * INPUTS
    service.ask(works.engine, WHO, one, present=False)
    assert letter(works, one).state == "waiting"
    assert once(works)
    assert not once(works)
    (made,) = late(works)
    assert (made.outputs["score"], made.reason, made.status) == (5.0, "", Status.UNCERTAIN_SUBSTITUTE)
    assert (made.sequence, made.revision, made.version_id) == (None, 1, works.version)
    assert (made.journal, made.number) == ("letter", one)
    assert [(r.sequence, r.active, r.streak) for r in rows(works, RuleStateRow)] == states
    assert len(rows(works, EventRow)) == events
    (publication,) = rows(works, OutboxRow)[told:]
    assert (publication.subscription_id, publication.topic) == (1, "up/acme/line1/press/prediction/watch/late")
    body = json.loads(publication.body)
    assert (body["late"], body["revision"], body["quality"]) == (True, 1, "Uncertain")
    kept = letter(works, one)
    assert (kept.state, kept.answered, kept.said, kept.changed_by) == ("replayed", 1, "", WHO)
    assert unpack(kept.body).values.max() == REFUSED, "what came stays beside it"
    target = f"dead letter {one}"
    assert actions(works) == [
        (WHO, "letter_mended", target), (WHO, "letter_replay_asked", target), (WHO, "letter_replayed", target),
    ]  # fmt: skip


def test_a_second_replay_is_a_further_revision(works: Works) -> None:
    """Nothing that was answered changes; whoever reads takes the newest."""
    one = refused(works)
    for value in (5.0, 6.0):
        service.correct(works.engine, WHO, one, edits(works, one, value))
        service.ask(works.engine, WHO, one, present=False)
        assert once(works)
    assert [(row.revision, row.outputs["score"]) for row in late(works)] == [(1, 5.0), (2, 6.0)]


def test_what_is_refused_again_stays_open_and_says_why(works: Works) -> None:
    """The replay is told as a late tombstone, the letter can be worked with again."""
    one = refused(works)
    service.ask(works.engine, WHO, one, present=False)
    assert once(works)
    (made,) = late(works)
    assert made.reason.startswith("input_refused: ")
    kept = letter(works, one)
    assert (kept.state, kept.answered) == ("open", 0)
    assert kept.said == made.reason


def test_the_version_in_force_answers_for_the_old_one(works: Works) -> None:
    """After a pipeline was put right, its windows are computed by the version that is in force now."""
    nothing = [{"name": "nothing", "tag": 9, "tag_name": "x"}]
    works.version = works.put_in_force(outputs=nothing)
    one = refused(works, 4.0)
    present = works.put_in_force()
    service.ask(works.engine, WHO, one, present=True)
    assert once(works)
    (made,) = late(works)
    assert (made.version_id, made.outputs["score"], made.status) == (present, 4.0, 0)


@pytest.mark.parametrize("changes", [
    {"window": {"length": LENGTH + 1}},
    {"window": {"length": LENGTH, "step_s": 2.0}},
    {"inputs": [{"tag": 1, "connection": 1}, {"tag": 2, "connection": 1}]},
    {"inputs": [{"tag": 1, "connection": 1, "resample": "mean"}] * INPUTS},
])  # fmt: skip
def test_a_version_with_other_windows_does_not_take_them(works: Works, changes: dict[str, Any]) -> None:
    """Numbers of other tags or another grid are never fed in place of those that are wanted."""
    one = refused(works)
    works.put_in_force(**changes)
    with pytest.raises(LetterError, match="does not take these windows"):
        service.ask(works.engine, WHO, one, present=True)
    assert letter(works, one).state == "open"
    assert actions(works) == []


def test_windows_of_a_version_that_nobody_can_run_wait_for_it(works: Works) -> None:
    """They are kept, too, and computed once it can be run."""
    with writing(works.engine) as session:
        row = session.get_one(PipelineVersionRow, works.version)
        good, row.spec = row.spec, {**row.spec, "from_a_later_release": 1}
    one = refused(works, 4.0)
    assert [row.reason for row in rows(works, DeadLetterRow)] == ["version_unusable"]
    service.ask(works.engine, WHO, one, present=False)
    assert once(works)
    assert (letter(works, one).state, late(works)) == ("open", [])
    assert "cannot be run" in letter(works, one).said
    with writing(works.engine) as session:
        session.get_one(PipelineVersionRow, works.version).spec = good
    service.ask(works.engine, WHO, one, present=False)
    assert once(works)
    assert [row.outputs["score"] for row in late(works)] == [4.0]


@kills
def test_what_killed_a_worker_is_computed_in_another_process(works: Works) -> None:
    """Asked for as it is it kills again, and the worker that replays it lives to say so."""
    with writing(works.engine) as session:
        at = {"connection_id": 1, "at": 1, "address": "watch", "reason": "killed_worker", "detail": ""}
        block = works.block([KILLS, 3.0], 1)
        service.keep(session, {**at, "excerpt": b"", "readings": 0}, block, [0, 1])
    service.ask(works.engine, WHO, 1, present=False)
    assert once(works)
    first, second = sorted(late(works), key=lambda one: one.end_time)
    assert first.reason.startswith("killed_worker: ")
    assert second.outputs["score"] == 3.0
    assert (letter(works, 1).state, letter(works, 1).answered) == ("open", 1)


def test_a_replay_that_no_worker_ends_is_given_up(works: Works) -> None:
    """After three workers that began with it and were not heard of again."""
    one = refused(works)
    service.ask(works.engine, WHO, one, present=False)
    for tries in range(service.MOST_TRIES):
        work = service.claim(works.engine, service.waiting(works.engine))
        assert work is not None
        assert work.deadly == (tries > 0), "it may have killed the one before"
        assert service.claim(works.engine, service.waiting(works.engine)) is None, "it is claimed"
        with writing(works.engine) as session:
            session.execute(update(DeadWindowsRow).values(claimed_until=0))
    assert not once(works)
    kept = letter(works, one)
    assert kept.state == "open"
    assert "none has ended" in kept.said


def test_two_workers_do_not_store_it_twice(works: Works) -> None:
    """A worker that was thought dead comes back: what it brings is not wanted any more."""
    one = refused(works, 4.0, REFUSED)
    service.correct(works.engine, WHO, one, edits(works, one, 5.0))
    service.ask(works.engine, WHO, one, present=False)
    work = service.claim(works.engine, service.waiting(works.engine))
    assert work is not None
    with writing(works.engine) as session:
        session.execute(update(DeadWindowsRow).values(claimed_until=0))
    assert once(works)
    with writing(works.engine) as session:
        assert not service.settle(session, work, 1, 1, "")
    assert len(late(works)) == 1


def test_a_letter_is_dropped_with_a_reason(works: Works) -> None:
    """What it held is gone, that it was there and why it was dropped stays; nothing can be done with it any more."""
    one = refused(works)
    service.drop(works.engine, WHO, one, "the sensor was being replaced")
    kept = letter(works, one)
    assert (kept.state, kept.body, kept.said) == ("dropped", b"", "the sensor was being replaced")
    for again in (
        lambda: service.drop(works.engine, WHO, one, "again"),
        lambda: service.ask(works.engine, WHO, one, present=False),
        lambda: service.correct(works.engine, WHO, one, {}),
    ):
        with pytest.raises(LetterError, match="was dropped"):
            again()
    assert actions(works) == [(WHO, "letter_dropped", f"dead letter {one}")]
    with pytest.raises(service.NoLetterError):
        service.drop(works.engine, WHO, 99, "none")


def test_what_a_peer_sent_is_dropped_whole(works: Works) -> None:
    """There is nothing to compute: the audit log keeps what it was."""
    with writing(works.engine) as session:
        session.add(DeadLetterRow(
            connection_id=1, at=1, address="ns=2;s=1", reason="wrong_type", detail="text", excerpt=b"x", readings=1
        ))  # fmt: skip
    with pytest.raises(service.NoLetterError, match="a peer sent"):
        service.ask(works.engine, WHO, 1, present=False)
    service.drop(works.engine, WHO, 1, "known")
    assert rows(works, DeadLetterRow) == []
    ((row,), _) = audit_page(works.engine, None, 10)
    assert (row.detail["of"], row.detail["was"], row.detail["reason"]) == ("ns=2;s=1", "wrong_type", "known")


def test_a_letter_that_waits_is_left_alone(works: Works) -> None:
    """Between asking and computing nobody changes what is computed."""
    one = refused(works)
    service.ask(works.engine, WHO, one, present=False)
    with pytest.raises(LetterError, match="wait until it is done"):
        service.correct(works.engine, WHO, one, edits(works, one, 5.0))


def test_inputs_that_do_not_fit_are_refused(works: Works) -> None:
    """Another shape, another window, or what is no number: nothing is changed, and it is said what is wrong."""
    one = refused(works)
    good = edits(works, one, 5.0)
    (end,) = good
    infinite: list[list[float | None]] = [[float("inf")] * INPUTS] * LENGTH
    for bad, why in (
        ({end + 1: good[end]}, "no window of this letter ends at"),
        ({end: good[end][1:]}, "rows of 2 values"),
        ({end: infinite}, "finite number"),
    ):
        with pytest.raises(LetterError, match=why):
            service.correct(works.engine, WHO, one, bad)
    assert service.correct(works.engine, WHO, one, edits(works, one, None)) == 0, "null leaves a cell as it is"
    assert service.correct(works.engine, WHO, one, edits(works, one, REFUSED)) == 0, "so does its own value"
    mended = letter(works, one).mended
    assert mended is not None
    assert unpack(mended).status.max() == 0


def test_a_model_that_refuses_everything_fills_no_disk(works: Works) -> None:
    """Beyond so many open letters of a version the windows are not kept, and the letter says so."""
    block = works.block([2.0], 1)
    same = {"connection_id": 1, "at": 1, "address": "watch", "reason": "input_refused", "detail": ""}
    with writing(works.engine) as session:
        for _ in range(schemas.MAX_OPEN + 1):
            service.keep(session, {**same, "excerpt": b"", "readings": 0}, block, [0])
    with reading(works.engine) as session:
        kept = func.sum(DeadWindowsRow.kept)
        assert session.scalar(select(kept)) == schemas.MAX_OPEN
        last = session.scalar(select(func.max(DeadWindowsRow.letter_id)))
    assert last is not None
    with pytest.raises(LetterError, match="no room"):
        service.ask(works.engine, WHO, last, present=False)


def test_a_pipeline_without_a_version_in_force_says_so(works: Works) -> None:
    """There is nothing present to compute it with."""
    one = refused(works)
    with writing(works.engine) as session:
        session.get_one(PipelineRow, 1).active_version = None
    with pytest.raises(LetterError, match="no version in force"):
        service.ask(works.engine, WHO, one, present=True)


def test_of_many_windows_those_are_kept_for_which_there_is_room(here: str, tmp_path: Any) -> None:  # noqa: ANN401
    """The first ones; one that is larger than all the room is not kept."""
    works = Works(here, tmp_path)
    block = works.block([1.0] * 3, 1)
    length = schemas.MAX_BYTES // schemas.CELL_BYTES
    for rows_of_it, kept in ((length // 2, 2), (length, 1), (length + 1, 0)):
        size = rows_of_it * 3
        wide = msgspec.structs.replace(
            block, rows=size, inputs=1, length=rows_of_it, block=bytes(8 * size), status=bytes(4),
            first_row=(np.arange(3) * rows_of_it).tobytes(),
        )  # fmt: skip
        body, count = pack(wide, [0, 1, 2])
        assert count == kept
        assert not body or len(unpack(body)) == kept
    works.close()


def test_bytes_that_are_none_of_ours_are_refused() -> None:
    """Torn, foreign, of another version, with columns that differ, or unpacking to too much: each is an error."""
    good = schemas.Kept(1, "<f8", 1, 1, bytes(8), bytes(4), bytes(8), bytes(8), bytes(8), bytes(4), (), 0)
    packed = zstandard.ZstdCompressor().compress

    def of(**changes: Any) -> bytes:  # noqa: ANN401 - of its fields
        return packed(msgspec.msgpack.encode(msgspec.structs.replace(good, **changes)))

    assert len(unpack(of())) == 1
    bad = (
        b"", b"nothing", packed(b"nothing"), of()[:-3], of(version=2), of(cells="O"), of(length=0),
        of(values=bytes(16)), of(status=b""), of(start=b""), of(context=({}, {})),
        packed(bytes(schemas.MAX_UNPACKED + 1)),
    )  # fmt: skip
    for body in bad:
        with pytest.raises(ValueError, match=r"kept windows|reshape|buffer size|windows of version"):
            unpack(body)


def test_what_is_mended_again_begins_with_what_was_mended(works: Works) -> None:
    """Corrections add up, and the times stay."""
    one = refused(works)
    end = next(iter(edits(works, one, 1.0)))
    assert end == START + 11 * SECOND
    rows_of_it: list[list[float | None]] = [[None] * INPUTS for _ in range(LENGTH)]
    first = [row.copy() for row in rows_of_it]
    first[0][0] = 7.0
    second = [row.copy() for row in rows_of_it]
    second[1][1] = 8.0
    body, cells = mend(letter(works, one).body, {end: first})
    body, more = mend(body, {end: second})
    found = unpack(body)
    assert (cells, more) == (1, 1)
    assert (found.values[0, 0, 0], found.values[0, 1, 1]) == (7.0, 8.0)
    assert int((found.status != 0).sum()) == 2
    assert found.quality.tolist() == [Status.UNCERTAIN_SUBSTITUTE]
