"""The ledger balances when every reading has one fate, and says so when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db import writing
from app.ledger.service import Account, accounts
from app.ledger.tables import JournalStateRow
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
