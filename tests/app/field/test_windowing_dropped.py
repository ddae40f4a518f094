"""Windows over records whose readings were dropped from inside the journal: refused from the first to the last one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from app.field.latest import Following
from app.field.snapshots import Snapshots
from app.field.windowing import Windowing
from app.journal import Entry, Position
from app.records import DroppedRecord, Record, WindowBlock, tick, to_record
from tests.app.field.doubles import BASE, SECOND, batch
from tests.app.field.test_windowing import KNOWN, START

EVERY = 4
"""Half seconds between two batches: rows close while nothing comes."""


def _entries(dropped: range) -> list[Entry]:
    """A batch every two seconds, a tick of the clock in between; from some of them the readings are gone."""
    found = [Entry(Position(1, 1), versions=(1,))]
    following, before = Following(b""), 0
    for number in range(2, 82):
        now = BASE + number * SECOND // 2
        record = tick(now)
        if number % EVERY == 0:
            record = to_record(1, batch((1, 2, 9), (number, -number, 0), at=now))
        if number % EVERY == 0 and number in dropped:
            following.hear(record)
            is_first, is_last = before == 0, number + EVERY not in dropped
            until = BASE + (dropped.stop - 1) // EVERY * EVERY * SECOND // 2
            gone = DroppedRecord(
                "journal_full", record.count, now if is_first else before,
                until if is_first or is_last else 0, following.kept() if is_last else b"",
            )  # fmt: skip
            record, before = _without(record, gone), now
        found.append(Entry(Position(1, number), record))
    return found


def _without(record: Record, gone: DroppedRecord) -> Record:
    return msgspec.structs.replace(record, count=0, columns=b"", dropped=gone)


def _windows(entries: list[Entry]) -> dict[int, tuple[int, str, bytes]]:
    """By the half second at which a window ends: number, why it is refused, its last row."""
    windowing = Windowing()
    windowing.start(START, START, Snapshots(Path("none")), KNOWN)
    found: dict[int, tuple[int, str, bytes]] = {}
    for entry in entries:
        if entry.versions is not None:
            windowing.switch(entry.position, entry.versions, KNOWN)
        for block in windowing.feed(entry):
            found |= _of(block)
    return found


def _of(block: WindowBlock) -> dict[int, tuple[int, str, bytes]]:
    rows = np.frombuffer(block.block, "<f8").reshape(block.rows, block.inputs)
    ends, first = np.frombuffer(block.end_time, "<i8").tolist(), np.frombuffer(block.first_row, "<i8").tolist()
    numbers, refused = np.frombuffer(block.sequence, "<i8").tolist(), dict(block.refused)
    return {
        2 * (end - BASE) // SECOND: (number, refused.get(i, ""), rows[row : row + block.length].tobytes())
        for i, (end, row, number) in enumerate(zip(ends, first, numbers, strict=True))
    }


def test_windows_with_any_part_of_it_are_refused_and_no_other() -> None:
    """Also where rows close before the next batch comes: in between nobody knows what is in force."""
    whole, less = _windows(_entries(range(0))), _windows(_entries(range(32, 53)))
    assert [(end, one[0]) for end, one in less.items()] == [(end, one[0]) for end, one in whole.items()]
    refused = {end for end, (_, why, _) in less.items() if why}
    # Dropped are the batches at 32 to 52: rows from 32 to 52 are not known, windows are three rows of two half seconds.
    assert refused == set(range(32, 52 + 2 * 2 + 1, 2))
    assert {why.partition(":")[0] for _, why, _ in less.values() if why} == {"gap"}
    assert all(one == whole[end] for end, one in less.items() if end not in refused)


def test_the_newest_of_what_went_is_in_force_afterwards() -> None:
    """A tag that is reported by exception may not come again: its last value is known, its reading was dropped."""
    entries = _entries(range(32, 41))
    silent = [
        one if one.record is None or one.position.number <= 40 or one.record.connection == 0
        else Entry(one.position, to_record(1, batch((), (), at=one.record.received_time)))
        for one in entries
    ]  # fmt: skip
    *_, (end, (_, why, rows)) = sorted(_windows(silent).items())
    assert end > 60
    assert why == ""
    assert np.frombuffer(rows, "<f8").reshape(3, 2).tolist() == [[40.0, -40.0]] * 3
