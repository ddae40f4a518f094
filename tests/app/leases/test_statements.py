"""A lease has one holder at a time, its term only grows, and the clock of the database judges, on both databases."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import select

from app.db import UnreachableError, hurried, make_engine, reading, writing
from app.events.tables import EventRow
from app.leases import service as leases
from app.leases.service import Holder
from app.northbound import service as northbound
from app.northbound.service import Failure, Fence
from app.northbound.tables import OutboxRow
from tests.app.works import Works
from tests.waiting import wait_for

A, B = Holder("gateway-1-aa", "gateway-1"), Holder("gateway-2-bb", "gateway-2")
LINE, PRESS, NORTH = "connection:1", "connection:2", "subscription:1"
LONG: Final = 3600 * 10**9
"""Nobody lets it run out."""
OVER: Final = 0
"""It has run out as soon as it is held."""


def keep(works: Works, who: Holder, *groups: tuple[str, ...], ttl_ns: int = LONG) -> dict[str, int]:
    """Term by lease, of those that are this holder's afterwards."""
    found = leases.keep(works.engine, who, groups, ttl_ns)
    return {name: one.term for name, one in found.items() if one.mine}


def test_one_has_it_and_keeps_it(works: Works) -> None:
    """Whoever comes second has nothing; whoever renews keeps its term."""
    assert keep(works, A, (LINE,)) == {LINE: 1}
    assert keep(works, B, (LINE,)) == {}
    assert keep(works, A, (LINE,)) == {LINE: 1}
    assert leases.others(works.engine, B.journal) == ["gateway-1"]
    assert leases.others(works.engine, A.journal) == []


def test_what_ran_out_is_taken_in_the_next_term(works: Works) -> None:
    """The old holder does not get it back by renewing, and an event tells who let it run out."""
    assert keep(works, A, (LINE,), ttl_ns=OVER) == {LINE: 1}
    assert keep(works, B, (LINE,)) == {LINE: 2}
    assert keep(works, A, (LINE,)) == {}
    with reading(works.engine) as session:
        (event,) = session.scalars(select(EventRow))
        assert (event.rule, event.state, event.connection_id, event.value) == ("lease_taken_over", "rtn_unack", 1, 2)
        assert "gateway-1 has not renewed" in event.message["en"]
        told = set(session.scalars(select(OutboxRow.publication_id)))
        assert told == {f"{event.id}:raised"}


def test_what_ran_out_and_nobody_took_is_still_its_holders(works: Works) -> None:
    """A database that was away for all changes no term."""
    assert keep(works, A, (LINE,), ttl_ns=OVER) == {LINE: 1}
    assert keep(works, A, (LINE,)) == {LINE: 1}


def test_what_was_given_back_is_taken_at_once_and_is_no_event(works: Works) -> None:
    """Its term goes on from where it was."""
    keep(works, A, (LINE,), (NORTH,))
    leases.give_back(works.engine, A)
    assert keep(works, B, (LINE,), (NORTH,)) == {LINE: 2, NORTH: 2}
    with reading(works.engine) as session:
        assert session.scalars(select(EventRow)).all() == []


def test_a_group_has_one_holder(works: Works) -> None:
    """Connections that come to share a pipeline go to whoever has the first; the other gives its own back."""
    assert keep(works, A, (LINE,)) == {LINE: 1}
    assert keep(works, B, (PRESS,)) == {PRESS: 1}
    assert keep(works, A, (LINE, PRESS)) == {LINE: 1}
    assert keep(works, B, (LINE, PRESS)) == {}
    assert keep(works, A, (LINE, PRESS)) == {LINE: 1, PRESS: 2}
    assert keep(works, B, (LINE, PRESS)) == {}


def test_of_many_at_once_one_gets_it(works: Works) -> None:
    """Eight gateways that all find it run out: one term, one holder."""
    keep(works, A, (LINE,), ttl_ns=OVER)
    engines = [make_engine(works.url) for _ in range(8)]
    found: list[dict[str, leases.Lease]] = []
    ready = threading.Barrier(len(engines))

    def take(number: int) -> None:
        ready.wait()
        found.append(leases.keep(engines[number], Holder(f"g-{number}", f"g-{number}"), [(LINE,)], LONG))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(len(engines))]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for engine in engines:
        engine.dispose()
    assert sum(one[LINE].mine for one in found) == 1
    assert {one[LINE].term for one in found} == {2}


async def test_who_stands_still_in_the_middle_holds_up_nobody(postgres_url: str, tmp_path: Path) -> None:
    """A worker or a gateway that is stopped with a lease locked loses its transaction, and the lease is taken."""
    works = Works(postgres_url, tmp_path)
    keep(works, A, (LINE,), ttl_ns=OVER)
    frozen = make_engine(works.url)
    with pytest.raises(UnreachableError, match="idle"), writing(frozen) as session:  # noqa: PT012 - what stands still
        hurried(session)
        assert leases.terms(session, [LINE], leases.Lock.ALONE)[LINE].term == 1
        await wait_for(lambda: _took(works), 60, "the other has it")
        leases.terms(session, [LINE])
    frozen.dispose()
    works.close()


def _took(works: Works) -> bool:
    try:
        return keep(works, B, (LINE,)) == {LINE: 2}
    except UnreachableError:
        return False


def test_nothing_is_due_and_nothing_is_marked_under_a_term_that_is_over(works: Works) -> None:
    """The old publisher finds no row, and what it says was taken stays due for the new one."""
    works.scorer.apply(works.message(1, works.block([0.5, 0.6], 1)))
    keep(works, A, (NORTH,), ttl_ns=OVER)
    old, new = Fence(A.journal, {1: 1}), Fence(B.journal, {1: 2})
    now = 2**62
    assert northbound.due(works.engine, now, [1], 10, (), old) == [], "it has run out"
    keep(works, B, (NORTH,))
    rows = [one.row for one in northbound.due(works.engine, now, [1], 10, (), new)]
    assert len(rows) == 2
    assert northbound.due(works.engine, now, [1], 10, (), old) == []
    northbound.settle(works.engine, {rows[0]: 5}, [Failure(rows[1], 2**60, "no")], old)
    assert [one.row for one in northbound.due(works.engine, now, [1], 10, (), new)] == rows
    northbound.settle(works.engine, dict.fromkeys(rows, 5), [], Fence(B.journal, {}))
    assert [one.row for one in northbound.due(works.engine, now, [1], 10, (), new)] == rows
    northbound.settle(works.engine, dict.fromkeys(rows, 5), [], new)
    assert northbound.due(works.engine, now, [1], 10, (), new) == []
