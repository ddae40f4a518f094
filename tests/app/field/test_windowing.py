"""Windows out of the journal: a pure function of it, whatever the snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.field.latest import Following
from app.field.snapshots import Snapshots
from app.field.windowing import Windowing, next_due
from app.journal import Entry, Position
from app.journal.remains import Counts, Part, Remains
from app.pipelines.schemas import InputSpec, PipelineSpec, WindowSpec
from app.pipelines.service import Version, window_spec
from app.records import FillRecord, Record, WindowBlock, tick, to_record
from tests.app.field.doubles import BASE, SECOND, batch

START = Position(1, 0)


def _version(key: int, *, length: int = 3, tags: tuple[int, ...] = (1, 2), **more: Any) -> Version:  # noqa: ANN401
    spec = PipelineSpec(
        name=f"p{key}",
        model_digest="sha256:0",
        model_input="x",
        window=WindowSpec(step_s=1, length=length, lateness_s=0.5),
        inputs=tuple(InputSpec(tag=tag, connection=1) for tag in tags),
        outputs=(),
        context={"unit_id": 9},
        **more,
    )
    return Version(key, key, spec.name, 1, spec, window_spec(spec))


KNOWN = {1: _version(1), 2: _version(2, length=2, tags=(2,)), 3: _version(3, cells="float32")}


def _entries(count: int, switches: dict[int, tuple[int, ...]]) -> list[Entry]:
    """Two tags twice a second, now and then a tick, and switches at the numbers given."""
    made = []
    for number in range(1, count + 1):
        at = Position(1, number)
        now = BASE + number * SECOND // 2
        if number in switches:
            made.append(Entry(at, versions=switches[number]))
        elif number % 7 == 0:
            made.append(Entry(at, record=tick(now)))
        else:
            made.append(Entry(at, record=to_record(1, batch((1, 2, 9), (number, -number, number // 4), at=now))))
    return made


def _run(windowing: Windowing, entries: list[Entry]) -> list[list[WindowBlock]]:
    found = []
    for entry in entries:
        if entry.versions is not None:
            windowing.switch(entry.position, entry.versions, KNOWN)
        found.append(windowing.feed(entry))
    return found


def _started(snapshots: Snapshots, safe: Position) -> Windowing:
    made = Windowing()
    made.start(START, safe, snapshots, KNOWN)
    return made


@given(st.integers(5, 60), st.dictionaries(st.integers(1, 60), st.sampled_from([(1,), (2,), (1, 2), ()])), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
def test_going_on_from_a_snapshot_changes_no_byte(
    tmp_path: Path, count: int, switches: dict[int, tuple[int, ...]], data: st.DataObject
) -> None:
    """Stop anywhere, restart from any snapshot: each record closes the very windows it closed before."""
    entries = _entries(count, {1: (1, 2), **switches})
    stop = data.draw(st.integers(0, count))
    whole = _run(_started(Snapshots(tmp_path / "none"), START), entries)
    folder = Snapshots(tmp_path / f"s{data.draw(st.uuids())}")
    first = _started(folder, START)
    _run(first, entries[:stop])
    snapshot = first.snapshot()
    assert snapshot is not None
    folder.save(snapshot)
    second = _started(folder, Position(1, stop))
    assert (second.position, second.versions) == (Position(1, stop), first.versions)
    again = _run(second, entries[stop:])
    assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(whole[stop:])


def test_windows_come_with_their_bytes_and_context() -> None:
    """A block is little-endian arrays that a worker reads without us, with the part that was made."""
    blocks = [one for found in _run(_started(Snapshots(Path("none")), START), _entries(20, {1: (1,)})) for one in found]
    first = blocks[0]
    assert (first.version_id, first.inputs, first.length) == (1, 2, 3)
    assert np.frombuffer(first.block, "<f8").reshape(first.rows, 2)[:, 0].tolist() == [
        -one for one in np.frombuffer(first.block, "<f8").reshape(first.rows, 2)[:, 1].tolist()
    ]
    sequences = [number for one in blocks for number in np.frombuffer(one.sequence, "<i8").tolist()]
    assert sequences == list(range(1, len(sequences) + 1))
    assert all("unit_id" in context for one in blocks for context in one.context)


def test_windows_travel_as_narrow_as_the_model_takes_them(tmp_path: Path) -> None:
    """Half the bytes, the same numbers rounded once; what does not fit is infinite; a restart changes nothing."""
    folder = Snapshots(tmp_path)
    entries = _entries(20, {1: (1, 3)})
    entries[9] = Entry(Position(1, 10), record=to_record(1, batch((1, 2, 9), (1e300, 0.1, 2), at=BASE + 5 * SECOND)))
    windowing = _started(folder, START)
    found = _run(windowing, entries[:12])
    snapshot = windowing.snapshot()
    assert snapshot is not None
    folder.save(snapshot)
    found += _run(_started(folder, Position(1, 12)), entries[12:])
    wide, narrow = ([one for blocks in found for one in blocks if one.version_id == key] for key in (1, 3))
    assert len(wide) == len(narrow) > 5
    with np.errstate(over="ignore"):
        rounded = [np.frombuffer(one.block, "<f8").astype("<f4").tobytes() for one in wide]
    assert [one.block for one in narrow] == rounded
    assert any(np.isinf(np.frombuffer(one.block, "<f4")).any() for one in narrow)


def test_statuses_travel_once_where_they_agree_and_whole_where_they_differ() -> None:
    """One Uncertain reading is seen in its own cells and in no other, in every window that holds it."""
    uncertain = 0x40000000
    entries = _entries(20, {1: (1,)})
    odd = batch((1, 2, 9), (10, -10, 2), at=BASE + 10 * SECOND // 2)
    odd.status[0] = uncertain
    entries[9] = Entry(Position(1, 10), record=to_record(1, odd))
    blocks = [one for found in _run(_started(Snapshots(Path("none")), START), entries) for one in found]
    seen = set()
    for one in blocks:
        cells = np.frombuffer(one.block, "<f8").reshape(one.rows, one.inputs)
        whole = np.where(cells == 10, uncertain, 0).astype("<u4")
        seen.add(bool(whole.any()))
        assert one.status == (whole if whole.any() else whole[:1, :1]).tobytes()
    assert seen == {True, False}


def test_versions_that_stay_in_force_go_on_and_new_ones_begin_empty() -> None:
    """A change of another pipeline costs an unchanged one nothing."""
    alone = _run(_started(Snapshots(Path("none")), START), _entries(40, {1: (1,)}))
    joined = _run(_started(Snapshots(Path("none")), START), _entries(40, {1: (1,), 20: (1, 2)}))
    skipped = {19, 20, 21}

    def of(found: list[list[WindowBlock]], version: int) -> list[bytes]:
        return [
            one.end_time for i, blocks in enumerate(found) for one in blocks if one.version_id == version and i > 24
        ]

    assert of(alone, 1) == of(joined, 1)
    assert of(joined, 2)
    assert all(not joined[i] or joined[i][0].version_id == 1 for i in skipped)


def test_a_version_that_is_gone_has_no_windows() -> None:
    """A switch to a version nobody knows is passed over, and the others run."""
    windowing = _started(Snapshots(Path("none")), START)
    entries = _entries(20, {1: (1, 77)})
    versions = {one.version_id for found in _run(windowing, entries) for one in found}
    assert (versions, windowing.versions) == ({1}, (1, 77))


def test_a_damaged_snapshot_is_passed_over(tmp_path: Path) -> None:
    """The next older one that is whole serves; without any the journal's beginning does."""
    folder = Snapshots(tmp_path)
    windowing = _started(folder, START)
    entries = _entries(30, {1: (1,)})
    for stop in (10, 20, 30):
        _run(windowing, entries[stop - 10 : stop])
        snapshot = windowing.snapshot()
        assert snapshot is not None
        folder.save(snapshot)
    paths = sorted(tmp_path.glob("*.snap"))
    assert folder.positions() == [Position(1, 10), Position(1, 20), Position(1, 30)]
    assert folder.versions() == {1}
    damaged = bytearray(paths[2].read_bytes())
    damaged[-1] ^= 1
    paths[2].write_bytes(damaged)
    assert _started(folder, Position(1, 30)).position == Position(1, 20)
    assert _started(folder, Position(1, 19)).position == Position(1, 10)
    assert _started(folder, Position(1, 9)).position == START
    folder.drop_before(Position(1, 20))
    assert folder.positions() == [Position(1, 20), Position(1, 30)]


def test_a_snapshot_of_another_spec_is_passed_over(tmp_path: Path) -> None:
    """What cannot be gone on from is rebuilt from the journal."""
    folder = Snapshots(tmp_path)
    windowing = _started(folder, START)
    _run(windowing, _entries(10, {1: (1,)}))
    snapshot = windowing.snapshot()
    assert snapshot is not None
    folder.save(snapshot)
    other = Windowing()
    other.start(START, Position(1, 10), folder, {1: _version(1, length=5)})
    assert (other.position, other.versions) == (START, ())


def test_records_that_cannot_be_read_close_nothing() -> None:
    """Damaged columns cost their readings, never the windows of the others."""
    windowing = _started(Snapshots(Path("none")), START)
    _run(windowing, _entries(10, {1: (1,)}))
    broken = Record(1, 1, BASE, BASE, 3, BASE, BASE, 0, (), b"no columns")
    assert windowing.feed(Entry(Position(1, 11), record=broken)) == []
    assert windowing.feed(Entry(Position(1, 12))) == []
    assert windowing.position == Position(1, 12)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(0, 3 * SECOND))
def test_the_next_tick_is_due_when_a_row_can_close(offset: int, hop: int, lateness: int) -> None:
    """Due is the first moment after the clock at which a window's last row is late enough, and not before."""
    spec = PipelineSpec(
        name="p",
        model_digest="d",
        model_input="x",
        window=WindowSpec(step_s=1, length=1, hop=hop, lateness_s=lateness / SECOND),
        inputs=(InputSpec(tag=1, connection=1),),
        outputs=(),
    )
    clock = BASE + offset * 1000
    windows = window_spec(spec)
    due = next_due([windows], clock, 0)
    assert due is not None
    row = due - windows.lateness_ns
    assert row % (hop * SECOND) == 0
    assert clock < due <= clock + hop * SECOND
    assert next_due([], clock, 0) is None


def test_a_trigger_is_due_its_lateness_after_the_newest_readings() -> None:
    """Once: when the clock has passed it there is nothing to wait for."""
    spec = PipelineSpec(
        name="p",
        model_digest="d",
        model_input="x",
        window=WindowSpec(kind="trigger", length=4, lateness_s=0.5, trigger=3, trigger_connection=1),
        inputs=(InputSpec(tag=1, connection=1),),
        outputs=(),
    )
    windows = window_spec(spec)
    assert next_due([windows], BASE, BASE) == BASE + SECOND // 2 + 1
    assert next_due([windows], BASE + SECOND, BASE) is None


def test_what_was_read_from_a_history_closes_no_window() -> None:
    """It is neither a reading of the present nor a sign of life: the windows are as if it had not been there."""
    entries = _entries(60, {1: (1, 2)})
    expected = _run(_started(Snapshots(Path("nowhere")), START), entries)
    filled = batch((1, 2), (1e6, 1e6), at=BASE + 10 * SECOND)
    odd = Entry(Position(1, 1000), record=to_record(1, filled, fill=FillRecord(1)))
    windowing = _started(Snapshots(Path("nowhere")), START)
    found = []
    for entry in entries:
        found += _run(windowing, [entry])
        alive = windowing.alive_until(1)
        assert windowing.feed(odd) == []
        assert windowing.alive_until(1) == alive
    assert found == expected


def _lost(entries: list[Entry], first: int, last: int) -> Entry:
    """What stands for the records from `first` to `last`."""
    keeper = Following()
    records = [one.record for one in entries[first - 1 : last] if one.record is not None and one.record.connection]
    for record in records:
        keeper.hear(record)
    part = Part(1, False, records[0].first_time, records[-1].alive_until, Counts(1, len(records)))  # noqa: FBT003
    remains = Remains(1, 1, first, last, (1, 1), "journal_full", (part,), {}, {}, None, keeper.kept())
    return Entry(Position(1, last), remains=remains)


@given(st.integers(8, 20), st.integers(2, 15), st.integers(0, 30))
@settings(deadline=None, max_examples=30)
def test_no_window_is_made_of_what_was_dropped(begin: int, length: int, behind: int) -> None:
    """Each window that has a part of it is refused, none is without its number, and all others are as they were."""
    entries = _entries(begin + length + behind, {1: (1,)})
    whole, found = _started(Snapshots(Path("none")), START), _started(Snapshots(Path("none")), START)
    expected = _numbered(_run(whole, entries))
    first, last = begin, begin + length - 1
    lost = _lost(entries, first, last)
    assert lost.remains is not None
    (part,) = lost.remains.parts
    since, until = part.since, part.until
    kept = [*entries[: first - 1], lost, *entries[last:]]
    blocks: list[list[WindowBlock]] = []
    for entry in kept:
        if entry.remains is not None:
            found.lose(entry.remains)
            continue
        blocks += _run(found, [entry])
    made = _numbered(blocks)
    assert list(made) == list(range(1, len(made) + 1))
    for number, (start, end, values) in made.items():
        if end <= since - SECOND or start >= until + SECOND:
            assert (start, end, values) == expected[number]
        elif start < until and end >= since:
            assert values is None


def _numbered(found: list[list[WindowBlock]]) -> dict[int, tuple[int, int, bytes | None]]:
    """By number: when a window starts and ends, and its values; None where it was refused."""
    made = {}
    for block in (one for some in found for one in some):
        refused = dict(block.refused)
        columns = (np.frombuffer(one, "<i8") for one in (block.sequence, block.start_time, block.end_time))
        cells = np.frombuffer(block.block, "<f8").reshape(block.rows, block.inputs)
        for i, (number, start, end, row) in enumerate(
            zip(*columns, np.frombuffer(block.first_row, "<i8"), strict=True)
        ):
            values = None if i in refused else cells[row : row + block.length].tobytes()
            made[int(number)] = (int(start), int(end), values)
    return made


def test_what_is_in_force_after_a_drop_is_what_was_dropped_last() -> None:
    """A tag that is reported by exception may not come again: its newest value is known, though it was dropped."""
    entries = _entries(10, {1: (2,)})
    found = _started(Snapshots(Path("none")), START)
    _run(found, entries[:4])
    lost = _lost(entries, 5, 10)
    assert lost.remains is not None
    found.lose(lost.remains)
    assert found.position == Position(1, 10)
    assert found.alive_until(1) == BASE + 5 * SECOND
    quiet = [
        Entry(Position(1, 11 + i), record=to_record(1, batch((), (), at=BASE + (6 + i) * SECOND))) for i in range(5)
    ]
    closed = [block for blocks in _run(found, quiet) for block in blocks]
    values = {end: values for _, end, values in _numbered([closed]).values()}
    newest = max(values)
    assert values[newest] == np.array([-10.0, -10.0]).tobytes()
    assert values[BASE + 5 * SECOND] is None


def test_a_drop_that_cannot_be_read_leaves_its_gap() -> None:
    """What was kept of it is damaged: the time is lost all the same, and feeding goes on."""
    entries = _entries(12, {1: (1,)})
    lost = _lost(entries, 6, 9)
    assert lost.remains is not None
    found = _started(Snapshots(Path("none")), START)
    _run(found, entries[:5])
    found.lose(msgspec.structs.replace(lost.remains, kept=b"\xc1"))
    blocks = _run(found, entries[9:])
    refused = [why for some in blocks for one in some for _, why in one.refused]
    assert any(why.startswith("gap") for why in refused)


def test_what_was_dropped_is_held_no_longer_than_the_policy_says() -> None:
    """An input that holds its last value does so from the last sign of life on, whatever is known of what went."""
    spec = PipelineSpec(
        name="h",
        model_digest="sha256:0",
        model_input="x",
        window=WindowSpec(step_s=1, length=1, lateness_s=0.5),
        inputs=(InputSpec(tag=1, connection=1, policy="hold", hold_s=2),),
        outputs=(),
    )
    known = {1: Version(1, 1, "h", 1, spec, window_spec(spec))}
    entries = _entries(26, {1: (1,)})
    found = Windowing()
    found.start(START, START, Snapshots(Path("none")), known)
    found.switch(Position(1, 1), (1,), known)
    blocks = [found.feed(entry) for entry in entries[1:6]]
    lost = _lost(entries, 7, 20)
    assert lost.remains is not None
    found.lose(lost.remains)
    blocks += [found.feed(entry) for entry in entries[20:]]
    values = {(end - BASE) // SECOND: cells for _, end, cells in _numbered(blocks).values()}
    assert [second for second, cells in values.items() if cells is None] == [6, 7, 8, 9, 10]
