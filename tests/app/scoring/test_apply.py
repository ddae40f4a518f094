"""A message is applied once and whole: readings, ledger, predictions, events and outbox, on both databases."""

from __future__ import annotations

import json
import threading
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from sqlalchemy import func, select

from app.db import add_to, reading, table, writing
from app.ledger.service import Gap, gaps
from app.ledger.tables import LedgerRow
from app.northbound.tables import OutboxRow, SubscriptionRow
from app.readings.tables import AppliedRow, BatchRow, DeadLetterRow, WatermarkRow
from app.scoring.tables import PredictionRow
from tests.app.works import REFUSED, SECOND, START, Works, record

if TYPE_CHECKING:
    from app.db import Base
    from app.scoring.tasks import Scorer


def rows(works: Works, row: type[Base]) -> list[Any]:
    """Every row of a table, in the order of its key."""
    with reading(works.engine) as session:
        found = list(session.scalars(select(row).order_by(*table(row).primary_key)))
        session.expunge_all()
        return found


def count(works: Works, row: type[Base]) -> int:
    """How many rows a table has."""
    with reading(works.engine) as session:
        return session.scalar(select(func.count()).select_from(row)) or 0


def predictions(works: Works) -> list[PredictionRow]:
    """In the order of the windows."""
    return sorted(rows(works, PredictionRow), key=lambda one: one.end_time)


def test_all_of_a_message_is_stored(works: Works) -> None:
    """Readings, what was refused, the ledger, predictions with their passport, and the outbox are there together."""
    taken = record(1, [1.0, 2.0], refused=(REFUSED,), lost=4)
    assert works.scorer.apply(works.message(1, works.block([0.5, 2.5], 1), of=taken))
    (batch,) = rows(works, BatchRow)
    assert (batch.connection_id, batch.count, batch.columns) == (1, 2, taken.columns)
    assert (batch.first_time, batch.last_time, batch.wide) == (START, START + SECOND, False)
    ledger = {(one.fate, one.reason): (one.readings, one.batches) for one in rows(works, LedgerRow)}
    assert ledger == {("stored", ""): (2, 1), ("refused", "wrong_type"): (3, 1), ("lost_by_peer", ""): (4, 1)}
    (letter,) = rows(works, DeadLetterRow)
    assert (letter.address, letter.reason, letter.excerpt, letter.readings) == ("ns=2;s=1", "wrong_type", b"\x00x", 3)
    first, second = predictions(works)
    assert (first.outputs, second.outputs) == ({"score": 0.5, "kind": 0}, {"score": 2.5, "kind": 2})
    assert (first.sequence, first.status, first.reason) == (1, 0, "")
    assert count(works, OutboxRow) == 2 * 2 + 2, "two predictions and one alarm for two consumers"


def test_the_passport_is_true(works: Works) -> None:
    """A prediction says which window, model, device, backend and record it came from."""
    works.scorer.apply(works.message(7, works.block([0.5], 1)))
    (made,) = predictions(works)
    window = np.full((4, 2), 0.5).tobytes() + np.zeros((4, 2), dtype="<u4").tobytes()
    assert made.input_digest == "sha256:" + sha256(window).hexdigest()
    assert (made.model_digest, made.device_wanted, made.device) == (works.model.digest, "cpu", "cpu")
    assert made.backend.startswith("onnxruntime ")
    assert (made.nodes, made.nodes_on_device) == (3, 3)
    assert made.latency_ns > 0
    assert (made.journal, made.epoch, made.number) == ("gw", 1, 7)
    assert (made.start_time, made.end_time) == (START - 3 * SECOND, START + SECOND)


def test_a_repeat_changes_nothing(works: Works) -> None:
    """The same message again, to the same worker or another, leaves every table as it is."""
    body = works.message(1, works.block([2.0], 1), of=record(1, [1.0], refused=(REFUSED,)))
    other = works.worker()
    assert works.scorer.apply(body)
    before = {row: count(works, row) for row in (BatchRow, DeadLetterRow, PredictionRow, OutboxRow)}
    ledger = [(one.fate, one.readings) for one in rows(works, LedgerRow)]
    assert not works.scorer.apply(body)
    assert not other.apply(body)
    assert {row: count(works, row) for row in before} == before
    assert [(one.fate, one.readings) for one in rows(works, LedgerRow)] == ledger
    other.close()


def test_gateways_are_told_when_there_is_something_new(works: Works) -> None:
    """Once per message with windows, never for a repeat or for readings alone; whether it is heard changes nothing."""
    body = works.message(1, works.block([2.0, 0.5], 1))
    assert works.scorer.apply(body)
    assert works.rung == 1
    assert not works.scorer.apply(body)
    assert works.scorer.apply(works.message(2))
    assert works.rung == 1
    works.deaf = True
    assert works.scorer.apply(works.message(3, works.block([2.0], 3)))
    assert works.rung == 2
    assert count(works, PredictionRow) == 3


def test_a_gap_is_stored_once(works: Works) -> None:
    """With the record that tells of it, whether it has readings or not."""
    taken = msgspec.structs.replace(record(1, [1.0]), gap_since=START - SECOND)
    body = works.message(1, of=taken)
    assert works.scorer.apply(body)
    assert not works.scorer.apply(body)
    assert works.scorer.apply(works.message(2))
    assert gaps(works.engine) == [Gap(1, "field", START - SECOND, taken.received_time)]
    assert gaps(works.engine, connection="other") == gaps(works.engine, before=1) == []


def test_below_the_watermark_all_is_applied(works: Works) -> None:
    """The rows of single numbers may be gone: the watermark alone tells a repeat."""
    with writing(works.engine) as session:
        session.add(WatermarkRow(journal="gw", epoch=1, number=5))
    assert not works.scorer.apply(works.message(5))
    assert works.scorer.apply(works.message(6))
    assert [one.number for one in rows(works, AppliedRow)] == [6]
    assert count(works, BatchRow) == 1


def together(*calls: tuple[Scorer, bytes]) -> list[bool]:
    """Each call in a thread of its own, all let go at once; what they answered."""
    gate, answers = threading.Barrier(len(calls)), []

    def run(scorer: Scorer, body: bytes) -> None:
        gate.wait(30)
        answers.append(scorer.apply(body))

    threads = [threading.Thread(target=run, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sorted(answers)


def test_two_workers_with_the_same_message_apply_it_once(works: Works) -> None:
    """A message that is handed out twice at once is stored by one of the two."""
    workers = [works.worker(), works.worker(), works.worker()]
    for number in range(1, 6):
        body = works.message(number, works.block([2.0], number))
        assert together(*((one, body) for one in workers)) == [False, False, True]
    assert count(works, BatchRow) == 5
    assert [one.sequence for one in predictions(works)] == [1, 2, 3, 4, 5]
    (stored,) = rows(works, LedgerRow)
    assert (stored.readings, stored.batches) == (5, 5)
    for one in workers:
        one.close()


def test_two_workers_with_different_messages_lose_no_count(works: Works) -> None:
    """Counters of one connection that two transactions add to at once hold both."""
    workers = [works.worker(), works.worker()]
    for number in range(1, 11, 2):
        assert together(*((one, works.message(number + at)) for at, one in enumerate(workers))) == [True, True]
    (stored,) = rows(works, LedgerRow)
    assert (stored.readings, stored.batches) == (10, 10)
    for one in workers:
        one.close()


def test_counters_are_made_by_whoever_comes_first(works: Works) -> None:
    """Two transactions that both find no counter end with one that holds both."""
    key = {"journal": "gw", "connection_id": 1, "fate": "stored", "reason": ""}
    gate = threading.Barrier(2)

    def run() -> None:
        gate.wait(30)
        with writing(works.engine) as session:
            add_to(session, LedgerRow, key, {"readings": 3, "batches": 1})

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [(one.readings, one.batches) for one in rows(works, LedgerRow)] == [(6, 2)]


def test_a_window_that_comes_in_two_messages_is_one_prediction(works: Works) -> None:
    """A window has a key of its own, whichever message carries it; what is new beside it is stored."""
    assert works.scorer.apply(works.message(1, works.block([0.5, 0.6], 1)))
    assert works.scorer.apply(works.message(2, works.block([0.6, 0.7], 2)))
    assert [(one.sequence, one.number) for one in predictions(works)] == [(1, 1), (2, 1), (3, 2)]
    assert count(works, OutboxRow) == 3 * 2


def test_consumers_are_told_in_their_own_form(works: Works) -> None:
    """MQTT is sent JSON under the plant's path, OPC UA is shown nodes, with one and the same prediction id."""
    works.scorer.apply(works.message(1, works.block([0.5], 1)))
    (made,) = predictions(works)
    mes, scada = rows(works, OutboxRow)
    assert (mes.topic, mes.content_type, mes.nodes) == ("up/acme/line1/press/prediction/watch", "application/json", [])
    body = json.loads(mes.body)
    assert (body["id"], body["quality"], body["outputs"]) == (made.id, "Good", {"score": 0.5, "kind": 0})
    assert body["end"] == "2023-11-14T22:13:21.000000000Z"
    assert scada.body == b""
    nodes = {one["path"]: one["value"] for one in scada.nodes}
    assert nodes == {
        "Headrace/press/watch/prediction_id": made.id,
        "Headrace/press/watch/score": 0.5,
        "Headrace/press/watch/kind": 0,
    }


def test_a_consumer_that_is_switched_off_is_not_told(works: Works) -> None:
    """Nothing is written for a disabled subscription."""
    with writing(works.engine) as session:
        session.get_one(SubscriptionRow, 1).enabled = False
    works.scorer.apply(works.message(1, works.block([0.5], 1)))
    assert [one.subscription_id for one in rows(works, OutboxRow)] == [2]


def test_text_that_a_database_cannot_hold_stops_nothing(works: Works) -> None:
    """Zeros and overlong text from a peer are stored as far as they can be."""
    block = works.block([0.5], 1, context=({"unit_id": "A\x00" + "9" * 300, "order": "P\x001"},))
    assert works.scorer.apply(works.message(1, block, of=record(1, [1.0], refused=(
        REFUSED.__class__(address="a" * 900, reason="r" * 90, detail="d\x00" * 900, excerpt=b"x" * 999, readings=1),
    ))))
    (made,) = predictions(works)
    assert made.unit_id == "A�" + "9" * 98
    (letter,) = rows(works, DeadLetterRow)
    assert (len(letter.address), len(letter.reason), len(letter.detail), len(letter.excerpt)) == (500, 60, 1000, 256)


def test_a_record_without_readings_is_applied(works: Works) -> None:
    """A record that brings windows alone leaves its number and its predictions, and no batch."""
    assert works.scorer.apply(works.message(1, works.block([0.5], 1), of=record(1, [])))
    assert (count(works, AppliedRow), count(works, BatchRow), count(works, PredictionRow)) == (1, 0, 1)
    assert rows(works, LedgerRow) == []
