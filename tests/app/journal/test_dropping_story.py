"""Any story of appends, drops, workers and restarts: each reading has one fate, at its place, and is never held on."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.db import make_engine, reading, upgrade, writing
from app.journal import Journal, Position, service
from app.ledger.tables import HeldRow, JournalStateRow, LedgerRow, PlaceRow
from app.readings.tables import AppliedRow, WatermarkRow
from app.records import Record
from tests.app.journal.dropping import applied, record

MB = 2**20
PLACES = {3: 1, 4: 1, 5: 2}
"""Connection of each place; of a record with n readings n // place belong to it, and the rest to none."""

Step = tuple[str, int]
STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 12)),
    st.tuples(st.just("apply"), st.integers(0, 30)),
    st.tuples(st.sampled_from(["drop", "thin", "decide", "restart", "advance", "kill"]), st.just(0)),
)


@given(st.lists(STEP, min_size=5, max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15, derandomize=True)
def test_whatever_happens_each_reading_has_one_fate(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    """Appends, drops, workers early and late, restarts: the sums balance, and what is stored was not dropped."""
    asyncio.run(_Story(tmp_path_factory.mktemp("story")).told(steps))


class _Story:
    """A journal, a database, and messages that may be applied whenever a worker comes to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "journal"
        url = f"sqlite:///{folder / 'headrace.db'}"
        upgrade(url)
        self._engine = make_engine(url)
        self._sent: list[tuple[Position, Record]] = []
        self._read = {1: 0, 2: 0}
        self._stored = {1: 0, 2: 0}
        self._read_at = dict.fromkeys(PLACES, 0)
        with writing(self._engine) as session:
            session.add_all(PlaceRow(id=key, connection_id=one, path=str(key)) for key, one in PLACES.items())
        self._count = 0
        self._open()

    def _open(self) -> None:
        self._journal = Journal(self._folder, "test", commit_interval_s=0, budget=16 * MB)
        self._taken = Position(self._journal.first.epoch, self._journal.first.number)
        service.begin_epochs(self._engine, self._journal.id, range(1, self._journal.epoch + 1))

    async def told(self, steps: list[Step]) -> None:
        try:
            for name, amount in [*steps, ("restart", 0)]:
                await self._step(name, amount)
                self._balances()
            self._finish()
        finally:
            self._journal.close()
            self._engine.dispose()

    async def _step(self, name: str, amount: int) -> None:
        if name == "append":
            await self._append(amount)
        elif name == "apply":
            self._send(amount % 4)
            for position, brought in self._sent[amount % 7 :: 2]:
                self._work(position, brought)
        elif name == "drop":
            self._journal.drop(self._taken, "journal_full")
        elif name == "thin":
            self._journal.thin(self._taken, "journal_full", lambda connection: connection)
        elif name == "decide":
            self._claim()
        elif name == "advance":
            self._advance()
        else:
            self._journal.close()
            self._open()

    async def _append(self, records: int) -> None:
        for _ in range(records):
            self._count += 1
            connection = 1 + self._count % 2
            places = tuple((key, self._count // key) for key, one in PLACES.items() if one == connection)
            await self._journal.append(record(connection, self._count, readings=self._count, places=places))
            self._read[connection] += self._count
            for key, readings in places:
                self._read_at[key] += readings

    def _advance(self) -> None:
        for epoch in range(1, self._journal.epoch + 1):
            service.advance(self._engine, self._journal.id, epoch, ())

    def _send(self, most: int) -> None:
        if not most:
            return
        for entry in self._journal.read_after(self._taken, records=most):
            self._taken = entry.position
            if entry.record is not None:
                self._sent.append((entry.position, entry.record))

    def _work(self, position: Position, brought: Record) -> None:
        if applied(self._engine, self._journal, position, brought):
            self._stored[brought.connection] += brought.count

    def _claim(self) -> None:
        for stub in self._journal.dropped():
            self._journal.seal(stub)
            service.claim(self._engine, self._journal.id, stub)

    def _balances(self) -> None:
        epochs = range(1, self._journal.epoch + 1)
        service.account(
            self._engine, self._journal.id, epochs, lambda seen: self._journal.held(seen.watermarks, seen.applied)
        )
        with reading(self._engine) as session:
            for one in session.scalars(select(JournalStateRow)):
                assert one.read == one.stored + one.refused + one.dropped + one.held
                assert (one.read, one.stored) == (self._read[one.connection_id], self._stored[one.connection_id])
            counted: Counter[int] = Counter()
            for row in session.scalars(select(LedgerRow)):
                counted[row.place_id] += row.readings
            for held in session.scalars(select(HeldRow)):
                counted[held.place_id] += held.held
        assert {key: counted[key] for key in PLACES} == self._read_at

    def _finish(self) -> None:
        """Everything is sent and applied: nothing is held for ever."""
        for _ in range(10):
            self._send(1000)
            for position, brought in self._sent:
                self._work(position, brought)
            self._advance()
            self._claim()
        self._balances()
        with reading(self._engine) as session:
            assert list(session.scalars(select(AppliedRow))) == []
            marks = {one.epoch: one.number for one in session.scalars(select(WatermarkRow))}
        assert all(marks[epoch] == last for epoch, _, last in self._journal.epochs())
        assert self._journal.held(marks, {}).records == 0
