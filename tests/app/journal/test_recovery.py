"""What a crash or damage leaves of a journal."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.journal import Journal, Position
from app.journal.frames import Kind, Meta, frame, record_payload, totals_payload
from app.journal.index import load
from app.records import Record, tick
from tests.app.journal.writer import record

Open = Callable[..., Journal]
Group = list[int]
WRITER = Path(__file__).with_name("writer.py")


def _frames(groups: list[Group], epoch: int = 1) -> list[bytes]:
    """The bytes of a segment frame by frame: one record of so many readings per number, in groups of one fsync."""
    made = [frame(Meta(Kind.TOTALS, Position(epoch, 0), 0, 0, 0), totals_payload({}))]
    number = total = 0
    for group in groups:
        for since, readings in enumerate(group):
            number += 1
            total += readings
            meta = Meta(Kind.RECORD, Position(epoch, number), 1, total, readings, since)
            made.append(frame(meta, record_payload(_record(readings))))
    return made


def _record(readings: int) -> Record:
    return Record(1, 1, 0, 0, readings, 0, 0, 0, (), b"x" * readings)


def _numbers(folder: Path) -> list[int]:
    index = load(folder)
    entries = index.read_after(Position(0, 0), 1000, 2**30)
    return [one.position.number for one in entries if one.record is not None]


GROUPS = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=4), min_size=1, max_size=5)


@given(GROUPS, st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_torn_tail_costs_what_was_never_promised(tmp_path: Path, groups: list[Group], data: st.DataObject) -> None:
    """Cut anywhere: every record that is whole before the cut is there, and nothing after it."""
    chunks = _frames(groups)
    whole = b"".join(chunks)
    cut = data.draw(st.integers(len(chunks[0]), len(whole)))
    path = tmp_path / "00000001-00000001.hrj"
    path.write_bytes(whole[:cut])
    sizes = [sum(map(len, chunks[: i + 2])) for i in range(len(chunks) - 1)]
    assert _numbers(tmp_path) == [i + 1 for i, end in enumerate(sizes) if end <= cut]


@given(GROUPS, st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_group_whose_pages_came_out_of_order_is_cut(tmp_path: Path, groups: list[Group], data: st.DataObject) -> None:
    """A record missing inside the newest group takes the rest of it along: its fsync had not returned."""
    chunks = _frames(groups)
    first = len(chunks) - len(groups[-1])
    lost = data.draw(st.integers(first, len(chunks) - 1))
    chunks[lost] = bytes(len(chunks[lost]))
    (tmp_path / "00000001-00000001.hrj").write_bytes(b"".join(chunks))
    assert _numbers(tmp_path) == list(range(1, lost))
    assert load(tmp_path).damaged == {}


@given(GROUPS, st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damage_in_an_older_group_costs_that_record_and_is_counted(
    tmp_path: Path, groups: list[Group], data: st.DataObject
) -> None:
    """One changed byte takes one record; the ones behind it are found, and the readings that are gone are known."""
    chunks = _frames([*groups, [1]])
    hit = data.draw(st.integers(1, len(chunks) - 2))
    damaged = bytearray(chunks[hit])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "00000001-00000001.hrj").write_bytes(b"".join([*chunks[:hit], bytes(damaged), *chunks[hit + 1 :]]))
    readings = [one for group in groups for one in group][hit - 1]
    assert _numbers(tmp_path) == [i for i in range(1, len(chunks)) if i != hit]
    index = load(tmp_path)
    assert index.damaged == ({1: readings} if readings else {})
    assert index.read_after(Position(1, hit - 1), 1, 2**20)[0].record is None


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_foreign_files_hold_no_record(tmp_path: Path, data: bytes) -> None:
    """Bytes that are not ours are no segment, whatever they are."""
    (tmp_path / "00000001-00000001.hrj").write_bytes(data)
    assert _numbers(tmp_path) == []
    assert list(tmp_path.glob("*.hrj")) == []


def test_a_rewritten_group_is_read_once(tmp_path: Path) -> None:
    """A group written again after a failed fsync counts once: what the abandoned segment has of it is passed over."""
    chunks = _frames([[1], [2, 3]])
    (tmp_path / "00000001-00000001.hrj").write_bytes(b"".join(chunks))
    head = frame(Meta(Kind.TOTALS, Position(1, 1), 0, 0, 0), totals_payload({1: 1}))
    (tmp_path / "00000001-00000002.hrj").write_bytes(head + b"".join(chunks[2:]))
    assert _numbers(tmp_path) == [1, 2, 3]
    index = load(tmp_path)
    assert (index.totals, index.damaged) == ({1: 6}, {})


@pytest.mark.parametrize("size", [64, 60_000])
async def test_a_killed_writer_loses_nothing_it_promised(opened: Open, folder: Path, size: int) -> None:
    """Kill -9 in the middle of writing: every record that was reported durable is there, in order and unchanged."""
    promised: list[tuple[int, ...]] = []
    for _ in range(3):
        promised += await asyncio.to_thread(_write_and_kill, folder, size, 150)
    journal = opened(folder)
    assert journal.damaged == {}
    entries = []
    at = journal.first
    while found := journal.read_after(at):
        entries += found
        at = found[-1].position
    there = {one.position: one.record for one in entries}
    for epoch, number, connection, content in promised:
        assert there[Position(epoch, number)] == record(connection, content, size)
    assert len(promised) >= 450
    assert [one.position for one in entries] == sorted(there)
    assert journal.held({}, {}).read == {
        c: sum(r.count for r in there.values() if r and r.connection == c) for c in (1, 2, 3)
    }


def _write_and_kill(folder: Path, size: int, enough: int) -> list[tuple[int, ...]]:
    """Every line that the writer could print before it was killed."""
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(folder), str(size)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
        env={"PYTHONPATH": str(Path.cwd())},
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(enough)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    return [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]


async def test_the_newest_group_is_written_anew_when_it_is_opened(opened: Open, folder: Path) -> None:
    """After a failed fsync the kernel may call its pages clean: another one makes durable what is written again."""
    journal = opened()
    await journal.append(tick(1))
    journal.close()
    (file,) = folder.glob("*.hrj")
    content = file.read_bytes()
    os.utime(file, (1, 1))
    opened().close()
    assert file.stat().st_mtime > 1
    assert file.read_bytes() == content
