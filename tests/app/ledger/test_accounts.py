"""The ledger balances when every reading has one fate, and says so when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select

from app.db import reading, writing
from app.ledger.service import Account, AtPlace, Located, accounts, located
from app.ledger.tables import HeldRow, JournalStateRow, PlaceRow
from tests.app.works import REFUSED, Works, record


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """The plainest pipeline, on either database."""
    made = Works(database_url, tmp_path)
    yield made
    made.close()


def counted(works: Works, journal: str = "gw", **figures: int) -> None:
    """What a gateway found by scanning its journal."""
    at = figures.pop("at", 5)
    found = {"read": 0, "held": 0, "stored": 0, "refused": 0, "dropped": 0, "lost_by_peer": 0, **figures}
    with writing(works.engine) as session:
        place = {"journal": journal, "connection_id": 1, "epoch": 1, "head": 9, "watermark": 9}
        session.add(JournalStateRow(**place, segments=1, bytes=1, at=at, **found))


def account(works: Works) -> Account:
    """The only one."""
    (found,) = accounts(works.engine)
    return found


def test_nothing_was_read_yet(works: Works) -> None:
    """A connection that no gateway has counted is not in the ledger."""
    assert accounts(works.engine) == []


def test_read_is_stored_refused_dropped_and_held(works: Works) -> None:
    """The sum of the fates is what was read; what the peer lost was never read."""
    counted(works, read=10, stored=4, refused=3, dropped=1, held=2, lost_by_peer=50)
    assert account(works).balanced


@pytest.mark.parametrize("fate", ["stored", "refused", "dropped", "held"])
def test_one_missing_reading_shows(works: Works, fate: str) -> None:
    """Whichever fate misses one, the account does not balance."""
    figures = {"stored": 4, "refused": 3, "dropped": 1, "held": 2}
    counted(works, "gw", read=10, **{**figures, fate: figures[fate] - 1})
    assert not account(works).balanced


def test_reasons_are_those_of_the_worker(works: Works) -> None:
    """What was refused and what the peer lost is told by reason, from the transactions themselves."""
    works.scorer.apply(works.message(1, of=record(1, [1.0], refused=(REFUSED, REFUSED))))
    counted(works, read=7, stored=1, refused=6)
    found = account(works)
    assert dict(found.reasons) == {("refused", "wrong_type"): 6}
    assert found.balanced


def test_journals_are_added_and_the_oldest_count_dates_them(works: Works) -> None:
    """A connection that two gateways read is one account."""
    counted(works, "gw", at=9, read=3, stored=3)
    counted(works, "gw-2", at=4, read=2, held=2)
    found = account(works)
    assert (found.read, found.stored, found.held, found.at, found.balanced) == (5, 3, 2, 4, True)


TAGS = {1: [Located(1, "p", "a/pumps"), Located(2, "t", "a/tanks"), Located(3, "x", "")], 2: [Located(9, "p", "b")]}


def test_a_place_gets_one_id_for_ever(works: Works) -> None:
    """Whoever asks, however often, and however many at once; the same path of another connection is another place."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: located(works.engine, TAGS), range(4)))
    first = found[0]
    assert all(one[1].addresses == first[1].addresses for one in found)
    assert first[1].count(np.array([1, 1, 2, 3])) == ((first[1].of("p"), 2), (first[1].of("t"), 1))
    assert first[1].of("x") == 0
    assert first[2].of("p") not in {0, first[1].of("p"), first[1].of("t")}
    with reading(works.engine) as session:
        assert session.scalar(select(func.count()).select_from(PlaceRow)) == 3


def test_each_place_has_its_fates_and_what_is_left_over_has_none(works: Works) -> None:
    """Together they are the connection's sums."""
    places = located(works.engine, TAGS)[1]
    pumps, tanks = places.of("p"), places.of("t")
    taken = record(1, [1.0, 2.0, 3.0, 4.0], refused=(REFUSED, REFUSED))
    first, second = taken.refused
    refused = (msgspec.structs.replace(first, place=tanks), second)
    taken = msgspec.structs.replace(taken, refused=refused, places=((pumps, 2), (tanks, 1 + 3)))
    works.scorer.apply(works.message(1, of=taken))
    with writing(works.engine) as session:
        session.add(HeldRow(journal="gw", place_id=pumps, held=5))
    counted(works, read=17, stored=4, refused=6, held=7)
    found = account(works)
    assert found.places == (AtPlace("", 1, 3, 0, 2), AtPlace("a/pumps", 2, 0, 0, 5), AtPlace("a/tanks", 1, 3, 0, 0))
    for fate in ("stored", "refused", "dropped", "held"):
        assert sum(getattr(one, fate) for one in found.places) == getattr(found, fate)
    assert dict(found.reasons) == {("refused", "wrong_type"): 6}


def test_without_places_the_sums_say_it_all(works: Works) -> None:
    """A connection whose tags have none is not split."""
    works.scorer.apply(works.message(1, of=record(1, [1.0])))
    counted(works, read=1, stored=1)
    assert account(works).places == ()
