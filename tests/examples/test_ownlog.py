"""The plants' own log, and the comparison with what was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.ownlog import OwnLog, stamp
from examples.tep.compare import compare, read_log

if TYPE_CHECKING:
    from pathlib import Path

BAD = 0x808C0000


def test_what_is_noted_is_read_back(tmp_path: Path) -> None:
    """Numbers, nothing, booleans and any string come back exactly as noted, in order."""
    with OwnLog(tmp_path / "deep" / "folder") as log:
        log.write("A", 1, 0.1 + 0.2, 0)
        log.write("A", 2, None, BAD)
        log.write("B", 3, value=True, status=0)
        log.write("B", 4, 'a "word", and\na line', 0)
    assert read_log(tmp_path / "deep" / "folder") == {
        "A": [(1, 0.1 + 0.2, 0), (2, None, BAD)],
        "B": [(3, True, 0), (4, 'a "word", and\na line', 0)],
    }


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    """A plant that is started again goes on where its log ends."""
    for value in (1, 2):
        with OwnLog(tmp_path) as log:
            log.write("A", value, value, 0)
    assert read_log(tmp_path / "log.csv")["A"] == [(1, 1, 0), (2, 2, 0)]


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    """A line that a killed plant could not finish is left out."""
    (tmp_path / "log.csv").write_text("A,1,1.5,0\nA,2,1", encoding="utf-8")
    assert read_log(tmp_path) == {"A": [(1, 1.5, 0)]}


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    """No folder, no file."""
    with OwnLog(None) as log:
        log.write("A", 1, 1.0, 0)
        log.flush()
    assert not list(tmp_path.iterdir())


def test_stamps_are_whole_milliseconds() -> None:
    """A stamp fits OPC UA's 100 ns and JSON's milliseconds alike."""
    assert stamp() % 1_000_000 == 0


def test_equal_is_equal() -> None:
    """What was published before the first stored reading, and tags that nobody stored, do not count as lost."""
    log = {"A": [(1, 1.0, 0), (2, 2.0, 0), (3, 3.0, 0)], "B": [(1, 9.0, 0)]}
    found = compare(log, {"A": [(2, 2.0, 0), (3, 3.0, 0), (3, 3.0, 0)]})
    assert found.equal
    assert found.compared == 2


def test_each_difference_is_named() -> None:
    """A lost value, a changed value and a changed status are each found; so is one outside the published span."""
    log = {"A": [(1, 1.0, 0), (2, 2.0, 0), (3, 3.0, 0), (4, 4.0, 0)]}
    found = compare(log, {"A": [(1, 1.0, 0), (3, 3.5, 0), (4, 4.0, BAD)]})
    assert not found.equal
    assert found.missing == (("A", (2, 2.0, 0)), ("A", (3, 3.0, 0)), ("A", (4, 4.0, 0)))
    assert found.extra == (("A", (3, 3.5, 0)), ("A", (4, 4.0, BAD)))


def test_the_span_bounds_both_sides() -> None:
    """With a span given, values outside it are looked at on neither side."""
    log = {"A": [(1, 1.0, 0), (2, 2.0, 0), (3, 3.0, 0)]}
    assert compare(log, {"A": [(2, 2.0, 0)]}, start=2, end=2).equal
    assert not compare(log, {"A": [(2, 2.0, 0)]}, start=1, end=2).equal


def test_nothing_compared_is_not_equal() -> None:
    """A comparison that looked at nothing proves nothing."""
    assert not compare({}, {}).equal
