"""What an old term brings is stored and takes no number; numbers go on; two gateways bring each thing once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import fencing, times
from app.db import UnreachableError, make_engine, reading, writing
from app.events.tables import RuleStateRow
from app.leases import service as leases
from app.leases.service import Holder
from app.leases.tables import LeaseRow
from app.ledger.tables import LedgerRow
from app.messages import Message
from app.pipelines import service as pipelines
from app.readings import service as readings
from app.records import Start, WindowBlock
from app.scoring.tables import PredictionRow
from app.takeover import service as takeover
from tests.app.works import SECOND, START, Works, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.records import Record

A, B = Holder("gateway-1-aa", "gateway-1"), Holder("gateway-2-bb", "gateway-2")
LONG = 3600 * 10**9


def take(works: Works, *holders: Holder) -> None:
    """One after the other takes the line; the last one keeps it."""
    for one in holders:
        leases.keep(works.engine, one, [("connection:1",)], LONG if one is holders[-1] else 0)


def message(of: Record, number: int, term: int, *blocks: WindowBlock, journal: str = "") -> bytes:
    """What the gateway of this term sends."""
    under = tuple(msgspec.structs.replace(one, leased=1, term=term) for one in blocks)
    return msgspec.msgpack.encode(Message(1, journal or f"gateway-{term}", 1, number, of, under, term))


def version(works: Works) -> pipelines.Version:
    """The one in force."""
    return pipelines.active(works.engine)[0][works.version]


def ledger(works: Works) -> dict[tuple[str, str], int]:
    """Readings by fate and reason, of all journals."""
    found: Counter[tuple[str, str]] = Counter()
    with reading(works.engine) as session:
        for row in session.scalars(select(LedgerRow)):
            found[row.fate, row.reason] += row.readings
    return {key: number for key, number in found.items() if number}


def stored(works: Works) -> Counter[tuple[int, float]]:
    """Every stored reading of the line, and how often it is there."""
    found: Counter[tuple[int, float]] = Counter()
    for one in readings.everything(works.engine, 1):
        found.update(zip(one.columns[1].tolist(), one.columns[2].tolist(), strict=True))
    return found


def numbered(works: Works) -> list[Any]:
    """Number, revision, late, reason's first word; in the order of windows and revisions."""
    with reading(works.engine) as session:
        rows = session.scalars(select(PredictionRow).order_by(PredictionRow.end_time, PredictionRow.revision))
        return [(row.sequence, row.revision, row.late, row.reason.partition(":")[0]) for row in rows]


def test_an_old_term_takes_no_number_and_its_readings_are_kept(works: Works) -> None:
    """Acknowledged readings of the old holder are stored, as late; its windows are late revisions that no rule sees."""
    take(works, A, B)
    of = record(1, [1.0, 2.0], at=START)
    assert works.scorer.apply(message(of, 1, 1, works.block([5.0, 6.0], 1)))
    assert numbered(works) == [(None, 1, True, ""), (None, 1, True, "")]
    assert ledger(works) == {("stored", "late"): 2}
    with reading(works.engine) as session:
        assert session.scalars(select(RuleStateRow)).all() == []
    assert works.scorer.apply(message(record(1, [3.0], at=START + 9 * SECOND), 1, 2, works.block([0.5], 1)))
    assert (1, 0, False, "") in numbered(works)
    assert ledger(works) == {("stored", "late"): 2, ("stored", ""): 1}


def test_a_record_of_before_there_were_leases_is_live(works: Works) -> None:
    """A message without a term is stored as ever, and so is one whose lease the database does not know."""
    take(works, A, B)
    assert works.scorer.apply(works.message(1, works.block([0.5], 1)))
    assert numbered(works) == [(1, 0, False, "")]
    block = msgspec.structs.replace(works.block([0.5], 2), leased=77, term=1)
    body = msgspec.msgpack.encode(Message(1, "gw", 1, 2, record(1), (block,), 0))
    assert works.scorer.apply(body)
    assert numbered(works)[-1] == (2, 0, False, "")


def test_what_both_gateways_journaled_is_stored_once(works: Works) -> None:
    """Whichever comes first; the other counts as refused, with the reason."""
    take(works, A, B)
    same = record(1, [1.0, 2.0, 3.0], at=times.now())
    more = record(1, [2.0, 4.0], at=int(same.first_time) + SECOND)
    values = {id(same): [1.0, 2.0, 3.0], id(more): [2.0, 4.0]}
    for first, second in (((same, 1), (more, 2)), ((more, 2), (same, 1))):
        works.number += 1
        shifted = [
            (record(1, values[id(of)], at=of.first_time + works.number * 9 * SECOND), term)
            for of, term in (first, second)
        ]
        for of, term in shifted:
            assert works.scorer.apply(message(of, works.number, term))
    assert set(stored(works).values()) == {1}
    assert ledger(works)["refused", "stored_by_another_gateway"] == 2
    assert sum(ledger(works).values()) == 10


def test_of_a_record_that_is_stored_in_part_no_place_is_told(works: Works) -> None:
    """Which of its readings were there already is known by connection: a place is never given more than it has."""
    take(works, A, B)
    at = times.now()
    for values, term in (([1.0, 2.0], 1), ([1.0, 2.0, 3.0], 2)):
        of = msgspec.structs.replace(record(1, values, at=at), places=((7, len(values)),))
        assert works.scorer.apply(message(of, 1, term))
    with reading(works.engine) as session:
        rows = {(one.place_id, one.fate): one.readings for one in session.scalars(select(LedgerRow))}
    assert rows == {(7, "stored"): 2, (0, "stored"): 1, (0, "refused"): 2}


def test_a_record_of_which_all_is_stored_leaves_no_empty_batch(works: Works) -> None:
    """Its number is applied all the same."""
    take(works, A, B)
    of = record(1, [1.0], at=times.now())
    assert works.scorer.apply(message(of, 1, 2))
    assert works.scorer.apply(message(of, 1, 1))
    assert not works.scorer.apply(message(of, 1, 1))
    assert stored(works) == {(of.first_time, 1.0): 1}


def test_numbers_go_on_and_a_hole_is_a_tombstone(works: Works) -> None:
    """What was under way gets its place taken, so that rules go on; when it comes it is late."""
    take(works, A)
    assert works.scorer.apply(message(record(1), 1, 1, works.block([0.5], 1)))
    assert works.scorer.apply(message(record(1), 3, 1, works.block([2.0], 3)))
    take(works, A, B)
    start = takeover.begin(works.engine, version(works), 1, 2)
    assert start == Start(1, 2, 4, START + 3 * SECOND)
    assert numbered(works) == [(1, 0, False, ""), (2, 0, False, "taken_over"), (3, 0, False, "")]
    assert works.scorer.apply(message(record(1), 2, 1, works.block([0.7], 2)))
    assert (None, 1, True, "") in numbered(works)
    assert works.scorer.apply(message(record(1), 1, 2, works.block([0.5], 4)))
    with reading(works.engine) as session:
        (state,) = session.scalars(select(RuleStateRow))
        assert (state.sequence, state.active) == (4, False)


def test_where_numbers_go_on_is_decided_once_a_term(works: Works) -> None:
    """A gateway that is started again finds the same; one whose term is over is told so."""
    take(works, A, B)
    assert takeover.begin(works.engine, version(works), 1, 1) is None
    first = takeover.begin(works.engine, version(works), 1, 2)
    assert first == Start(1, 2, 1, 0)
    assert works.scorer.apply(message(record(1), 1, 2, works.block([0.5], 1), works.block([0.5], 3)))
    assert takeover.begin(works.engine, version(works), 1, 2) == first
    assert len(numbered(works)) == 2, "what is under way in its own term is no hole"


def test_a_version_that_is_new_in_a_term_counts_from_1(works: Works) -> None:
    """After another version of its pipeline, and when it is put in force within the term."""
    take(works, A)
    assert works.scorer.apply(message(record(1), 1, 1, works.block([0.5, 0.5], 1)))
    works.version = works.put_in_force(**works.spec)
    assert takeover.begin(works.engine, version(works), 1, 1) == Start(1, 1, 1, START + 2 * SECOND)
    assert takeover.begin(works.engine, version(works), 1, 1, fresh=True) == Start(1, 1, 1, 0)


def test_two_gateways_and_four_workers_at_once_bring_each_thing_once(works: Works) -> None:
    """The same readings from both, redelivered and in any order, while the lease changes hands; the sums hold."""
    take(works, A)
    began = times.now()
    sent = [[float(n), float(n) + 0.5] for n in range(40)]

    def of(n: int, values: Sequence[float]) -> Record:
        return record(1, values, at=began + n * 2 * SECOND)

    old = [message(of(n, values), n + 1, 1, works.block([0.5], n + 1)) for n, values in enumerate(sent[:24])]
    first = old[:16]
    _at_once(works, first * 2)
    take(works, A, B)
    start = takeover.begin(works.engine, version(works), 1, 2)
    assert start is not None
    new = [
        message(of(n, values), n + 1, 2, works.block([0.5], start.first + n - 20))
        for n, values in enumerate(sent)
        if n >= 20
    ]
    _at_once(works, [*old, *new] * 2)
    expected = {(began + (2 * n + i) * SECOND, value) for n, two in enumerate(sent) for i, value in enumerate(two)}
    assert stored(works) == Counter(dict.fromkeys(expected, 1))
    numbers = [row[0] for row in numbered(works) if row[0] is not None]
    assert sorted(numbers) == list(range(1, 16 + len(new) + 1))
    found = ledger(works)
    assert found["stored", ""] + found["stored", "late"] == len(expected)
    assert found["refused", "stored_by_another_gateway"] == 2 * 4


def _at_once(works: Works, bodies: list[bytes]) -> None:
    """Four workers, each with all of them, in an order of its own."""
    workers = [works.worker() for _ in range(4)]

    def run(number: int) -> None:
        mine = random.Random(number).sample(bodies, len(bodies))  # noqa: S311 - an order
        for body in mine:
            workers[number].apply(body)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(workers))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for worker in workers:
        worker.close()


def test_two_who_may_have_the_same_reading_do_not_pass_each_other(postgres_url: str, tmp_path: Path) -> None:
    """Soon after a takeover whoever looks what is stored has the lease alone; later, workers share it."""
    works = Works(postgres_url, tmp_path)
    take(works, A, B)
    now = msgspec.msgpack.decode(message(record(1, [1.0], at=times.now()), 1, 2), type=Message)
    later = msgspec.structs.replace(now, record=msgspec.structs.replace(now.record, received_time=2**62))
    another = make_engine(works.url)
    shared = select(LeaseRow.term).with_for_update(read=True, key_share=True, nowait=True)
    for which, is_alone in ((now, True), (later, False)):
        with writing(works.engine) as session, Session(another) as other:
            assert fencing.look(session, which).overlaps is is_alone
            if is_alone:
                with pytest.raises(UnreachableError):
                    other.execute(shared)
            else:
                assert other.execute(shared).scalar() == 2
    another.dispose()
    works.close()
