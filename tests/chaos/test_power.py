"""The power is cut after every single write: what was promised by then is there, and everything opens by itself."""

from __future__ import annotations

from pathlib import Path

from app.journal import Journal, Position
from app.selftest.disk import unlike
from tests.chaos.recorded import broken, recorded

WRITING = "tests.chaos.writing"


def test_all_that_is_written_is_seen(tmp_path: Path) -> None:
    """Replaying what was noted gives the folder byte for byte."""
    run = recorded(tmp_path, WRITING, "journal")
    run.disk.note(run.frames)
    assert unlike(run.disk.whole(), run.folder) == []
    assert not [path for path in run.disk.whole() if run.disk.is_mapped(path)]


def found(folder: Path, promised: tuple[str, ...]) -> str:
    """What is not as it was promised of a journal; empty when all is."""
    told = [line.split() for line in promised]
    journal = Journal(folder / "data" / "journal", "test", commit_interval_s=0.001, budget=2**26)
    try:
        entries = journal.read_after(Position(0, 0), records=1000)
        there = {(*one.position, one.record.received_time) for one in entries if one.record}
        gone = {
            (one.remains.epoch, n)
            for one in entries
            if one.remains
            for n in range(one.remains.first, one.remains.last + 1)
        }
        wanted = {tuple(map(int, words[1:])) for words in told if words[0] == "record"}
        missing = {one for one in wanted - there if one[:2] not in gone}
        if missing:
            return f"missing {sorted(missing)}"
        if journal.damaged:
            return f"damaged {journal.damaged}"
        epochs = [int(words[1]) for words in told if words[0] == "epoch"]
        return f"epoch {journal.epoch} again" if epochs and journal.epoch <= max(epochs) else ""
    finally:
        journal.close()


def test_a_journal_has_all_that_it_promised(tmp_path: Path) -> None:
    """Opened after a cut anywhere, it needs no repair, lacks nothing, and hands out no number again."""
    assert broken(recorded(tmp_path, WRITING, "journal"), tmp_path / "cut", found) == []
