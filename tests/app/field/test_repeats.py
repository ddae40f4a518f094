"""What a peer sends again after a connection was made is journaled once, and nothing else is held back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from app import times
from app.field.latest import Latest
from app.field.repeats import KEEP_NS, SURE_NS, Repeats, of_journal
from app.journal import Journal
from app.records import FillRecord, to_record
from connectors import NO_TIME, Batch
from inference.window import Input, Router, Spec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.records import Record

Row = tuple[int, int, float | str, int]
"""Tag, source time, value, status."""


def batch(rows: Sequence[Row], received: int | None = None) -> Batch:
    """These rows as they arrive."""
    now = times.now() if received is None else received
    return Batch(
        np.array([one[0] for one in rows], np.int64),
        np.array([one[1] for one in rows], np.int64),
        np.array([np.nan if isinstance(one[2], str) else one[2] for one in rows]),
        {i: one[2] for i, one in enumerate(rows) if isinstance(one[2], str)},
        np.array([one[3] for one in rows], np.uint32),
        now, now, 1,
    )  # fmt: skip


def rows(found: Batch) -> list[Row]:
    """What is left."""
    return [
        (int(tag), int(time), found.others.get(i, float(value)), int(status))  # type: ignore[misc]
        for i, (tag, time, value, status) in enumerate(
            zip(found.tags, found.source_time, found.values, found.status, strict=True)
        )
    ]


WRITTEN: list[Row] = [(1, 100, 1.5, 0), (2, 100, "a", 0), (1, 200, 2.5, 0)]


def record(some: Sequence[Row], received: int | None = None) -> Record:
    """Of connection 7."""
    return to_record(7, batch(some, received))


def test_what_was_written_is_left_out_and_the_rest_stays_in_order() -> None:
    """A reading is a repeat only if tag, source time, value and status are all the same."""
    repeats = Repeats()
    repeats.note(record(WRITTEN))
    repeats.expect("line")
    others: list[Row] = [
        (1, 100, 1.5, 1), (1, 100, 1.25, 0), (1, 101, 1.5, 0), (3, 100, 1.5, 0), (2, 100, "b", 0), (1, 300, 2.5, 0),
    ]  # fmt: skip
    mixed = [others[0], WRITTEN[1], *others[1:4], WRITTEN[0], *others[4:], WRITTEN[2]]
    sent = batch(mixed)
    left = repeats.without(sent)
    assert rows(left) == others
    assert (left.received_time, left.alive_until, left.ack) == (sent.received_time, sent.alive_until, sent.ack)
    assert rows(repeats.without(batch(WRITTEN))) == []


def test_what_waited_long_for_its_disk_is_told_apart_from_then_on() -> None:
    """A disk took nothing for five minutes, and what it then took was not acknowledged: its broker sends it again."""
    now = times.now()
    late, waited = [(1, 900, 4.5, 0)], record(WRITTEN, now - 5 * KEEP_NS)
    repeats = Repeats()
    repeats.note(waited)
    repeats.durable(waited, now)
    repeats.note(record(late, now))
    repeats.expect("line")
    assert rows(repeats.without(batch([*WRITTEN, *late, (1, 901, 5.5, 0)]))) == [(1, 901, 5.5, 0)]


def test_a_reading_without_a_value_can_be_a_repeat() -> None:
    """Bad without a value is equal to itself."""
    repeats = Repeats()
    repeats.note(record([(1, 100, float("nan"), 0x80000000)]))
    repeats.expect("line")
    assert rows(repeats.without(batch([(1, 100, float("nan"), 0x80000000)]))) == []


def test_without_a_new_connection_nothing_is_a_repeat() -> None:
    """A peer that says the same twice on one connection is taken at its word."""
    repeats = Repeats()
    repeats.note(record(WRITTEN))
    assert rows(repeats.without(batch(WRITTEN))) == WRITTEN


@pytest.mark.parametrize("after_s", [61, 3600])
def test_after_a_minute_nothing_is_looked_for(after_s: int) -> None:
    """What comes later is no repeat."""
    repeats = Repeats()
    repeats.note(record(WRITTEN))
    repeats.expect("line")
    assert rows(repeats.without(batch(WRITTEN, times.now() + after_s * times.NANOS))) == WRITTEN


def test_only_the_newest_records_are_kept() -> None:
    """What was acknowledged long ago does not come again."""
    repeats = Repeats()
    repeats.note(record(WRITTEN, 1))
    repeats.note(record([(9, 900, 9.0, 0)], KEEP_NS + 2))
    repeats.expect("line")
    assert rows(repeats.without(batch([*WRITTEN, (9, 900, 9.0, 0)]))) == WRITTEN


def test_of_a_fast_connection_the_last_seconds_are_kept() -> None:
    """A minute of it would take too much memory; what waits for its acknowledgement is remembered all the same."""
    for most, left in ((3, WRITTEN), (4, [])):
        repeats = Repeats(most)
        repeats.note(record(WRITTEN, 1))
        repeats.note(record([(9, 900, 9.0, 0)], SURE_NS + 2))
        repeats.expect("line")
        assert rows(repeats.without(batch([*WRITTEN, (9, 900, 9.0, 0)]))) == left


async def test_a_journal_that_is_opened_again_knows_its_end(tmp_path: Path) -> None:
    """After a crash the repeats of each connection are found in the journal, over several epochs."""
    for index in range(3):
        journal = Journal(tmp_path, "gateway-1", commit_interval_s=0, budget=2**24)
        await journal.append(record([(index, 100, 1.0, 0)]))
        journal.close()
    journal = Journal(tmp_path, "gateway-1", commit_interval_s=0, budget=2**24)
    found = of_journal(journal)
    journal.close()
    assert found.keys() == {7}
    found[7].expect("line")
    assert rows(found[7].without(batch([(tag, 100, 1.0, 0) for tag in range(4)]))) == [(3, 100, 1.0, 0)]


def test_a_new_windower_begins_with_what_is_in_force() -> None:
    """A tag that never comes again fills the windows of a version that was put in force afterwards."""
    second = times.NANOS
    base = 1_700_000_000 * second
    latest = Latest()
    for name, at in (("old", base), ("new", base + second)):
        some = batch([(1, at, 5.0, 0), (2, NO_TIME, name, 0)], at)
        latest.hear(1, at, at, (some.tags, some.source_time, some.values, some.others, some.status))
    late = batch([(1, base - second, 4.0, 0), (3, base, 1.0, 0)], base + second)
    latest.hear(1, base + second, base + second, (late.tags, late.source_time, late.values, late.others, late.status))
    spec = Spec("grid", (Input(1, 1), Input(3, 1)), second, 2, 1, 0)
    router = Router({4: spec})
    Latest(latest.clock, latest.kept()).prime(router)
    now = base + 5 * second
    windows = router.feed(1, [3], [now], [2.0], {}, [0], now, now)[4]
    assert windows.refused == ()
    assert windows.block[-1].tolist() == [5.0, 2.0]
    assert Latest(latest.clock, latest.kept()).kept() == latest.kept()
    unprimed = Router({4: spec})
    assert unprimed.feed(1, [3], [now], [2.0], {}, [0], now, now) == {}


def test_what_was_read_from_a_history_is_not_looked_for() -> None:
    """Only what a peer may send again by itself is."""
    found = Repeats()
    found.note(to_record(7, batch(WRITTEN), fill=FillRecord(1)))
    found.expect("line")
    assert found.alive_until == 0
    assert rows(found.without(batch(WRITTEN))) == WRITTEN
