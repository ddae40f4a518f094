"""Windows under leases: a new term begins anew and counts on, whatever is restarted; what was answered stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from app.field.snapshots import Snapshots
from app.field.windowing import Windowing
from app.journal import Entry, Position
from app.journal.frames import Kind, Meta, entry, frame, switch_payload
from app.records import Leased, Start, WindowBlock, to_record
from tests.app.field.doubles import BASE, SECOND, batch
from tests.app.field.test_windowing import KNOWN, START

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def leased(term: int, first: int, after: int = 0) -> Leased:
    """Version 1 under the lease of connection 1."""
    return Leased({1: term}, {1: Start(1, term, first, after)})


def readings(numbers: Iterable[int]) -> list[Entry]:
    """Two tags, twice a second."""
    return [
        Entry(Position(1, n), record=to_record(1, batch((1, 2, 9), (n, -n, n // 4), at=BASE + n * SECOND // 2)))
        for n in numbers
    ]


def switch(number: int, under: Leased | None, versions: tuple[int, ...] = (1,)) -> Entry:
    """As it is read back from the disk."""
    payload = switch_payload(versions, under)
    return entry(frame(Meta(Kind.SWITCH, Position(1, number), 0, 0, 0), payload))


def run(windowing: Windowing, entries: Iterable[Entry]) -> list[WindowBlock]:
    """What they close."""
    found = []
    for one in entries:
        if one.versions is not None:
            windowing.switch(one.position, one.versions, KNOWN, one.leased)
        found += windowing.feed(one)
    return found


def started(folder: Path, safe: Position = START) -> Windowing:
    """From the newest snapshot at or before a record."""
    made = Windowing()
    made.start(START, safe, Snapshots(folder), KNOWN)
    return made


def numbers(blocks: Iterable[WindowBlock]) -> list[int]:
    """Of the windows."""
    return [one for block in blocks for one in np.frombuffer(block.sequence, "<i8").tolist()]


def ends(blocks: Iterable[WindowBlock]) -> list[int]:
    """Of the windows."""
    return [one for block in blocks for one in np.frombuffer(block.end_time, "<i8").tolist()]


def test_a_switch_without_leases_is_written_as_ever() -> None:
    """A journal of one gateway has the same bytes as before there were leases, and both are read."""
    assert switch_payload([3, 5]) == msgspec.msgpack.encode((3, 5))
    assert switch(1, None, (3, 5)).versions == (3, 5)
    assert switch(1, None).leased is None
    assert switch(1, leased(2, 7)).leased == leased(2, 7)


def test_numbers_go_on_where_the_old_holder_ended(tmp_path: Path) -> None:
    """Each block names its lease and term, and the record that it was read under it."""
    windowing = started(tmp_path)
    blocks = run(windowing, [switch(1, leased(4, 41)), *readings(range(2, 30))])
    assert numbers(blocks) == list(range(41, 41 + len(numbers(blocks))))
    assert {(one.leased, one.term) for one in blocks} == {(1, 4)}
    assert (windowing.term(1), windowing.term(2)) == (4, 0)


def test_what_was_answered_is_not_answered_again(tmp_path: Path) -> None:
    """Windows that end where the old holder's did, or before, are left out, and cost no number."""
    plain = run(started(tmp_path), [switch(1, leased(4, 41)), *readings(range(2, 30))])
    after = ends(plain)[2]
    found = run(started(tmp_path), [switch(1, leased(4, 41, after)), *readings(range(2, 30))])
    assert ends(found) == ends(plain)[3:]
    assert numbers(found) == numbers(plain)[: len(ends(plain)) - 3]
    assert [one.context for one in found] == [one.context for one in plain[-len(found) :]]


def test_a_restart_within_a_term_goes_on(tmp_path: Path) -> None:
    """From a snapshot, and with the switch that a gateway journals when it starts: each number once."""
    whole = [switch(1, leased(4, 41, BASE + 4 * SECOND)), *readings(range(2, 40))]
    plain = run(started(tmp_path / "none"), whole)
    first = started(tmp_path)
    before = run(first, whole[:20])
    snapshot = first.snapshot()
    assert snapshot is not None
    Snapshots(tmp_path).save(snapshot)
    second = started(tmp_path, Position(1, 20))
    again = [switch(20, leased(4, 99)), *whole[20:]]
    assert numbers([*before, *run(second, again)]) == numbers(plain)
    assert second.term(1) == 4


def test_another_term_forgets_what_was_in_force(tmp_path: Path) -> None:
    """Somebody else has read meanwhile: a tag that is not reported again has no value, whatever it had here."""
    windowing = started(tmp_path)
    run(windowing, [switch(1, leased(4, 41)), *readings(range(2, 20))])
    run(windowing, [switch(20, Leased({}, {}), ())])
    only_one = [
        Entry(Position(1, n), record=to_record(1, batch((1,), (n,), at=BASE + n * SECOND // 2))) for n in range(22, 50)
    ]
    assert run(windowing, [switch(21, leased(6, 80)), *only_one]) == []
    later = run(windowing, readings(range(50, 70)))
    assert numbers(later)[0] == 80
    assert {one.term for one in later} == {6}


def test_no_window_reaches_over_a_takeover(tmp_path: Path) -> None:
    """Under a new term windows begin with what is read under it, though the version was in force before."""
    windowing = started(tmp_path)
    run(windowing, [switch(1, leased(4, 41)), *readings(range(2, 20))])
    found = run(windowing, [switch(20, leased(6, 80)), *readings(range(40, 60))])
    starts = [one for block in found for one in np.frombuffer(block.start_time, "<i8").tolist()]
    assert min(starts) >= BASE + 19 * SECOND, "exclusive: the first row is the first reading's"
    assert numbers(found) == list(range(80, 80 + len(starts)))


def test_where_leases_are_switched_off_numbers_go_on(tmp_path: Path) -> None:
    """There is one gateway again: no term is named, and no number comes twice."""
    windowing = started(tmp_path)
    before = run(windowing, [switch(1, leased(4, 41)), *readings(range(2, 20))])
    after = run(windowing, [switch(20, None), *readings(range(21, 40))])
    assert numbers([*before, *after]) == list(range(41, 41 + len(numbers([*before, *after]))))
    assert {one.term for one in after} == {0}


def test_who_comes_back_for_what_waits_goes_on_under_the_same_leases(tmp_path: Path) -> None:
    """What goes on from where another one stands cuts the same windows under the same numbers, each by itself."""
    whole = [switch(1, leased(4, 41, BASE + 4 * SECOND)), *readings(range(2, 40))]
    plain = run(started(tmp_path), whole)
    first, behind = started(tmp_path), Windowing()
    before = run(first, whole[:5])
    behind.resume(first)
    assert behind.term(1) == 4
    ahead = run(first, whole[5:])
    assert run(behind, whole[5:]) == ahead
    assert numbers([*before, *ahead]) == numbers(plain)
