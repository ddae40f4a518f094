"""The disk whose power is cut: what is certain, what may be, and what can never be."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.selftest.disk import WAYS, Disk, Image, Way, put, unlike
from app.selftest.writes import Entry, Frame, Kind, Node

TOP, OLD, NEW, FOLDER = (1, 1), (1, 2), (1, 3), (1, 4)
OURS: Node = (0, 0)
BEFORE, AFTER = b"before" * 400, b"after!" * 700


class Notes:
    """Frames of a disk that has the file `old`, which is durable."""

    def __init__(self, folder: Path) -> None:
        """Makes it."""
        (folder / "old").write_bytes(BEFORE)
        self.disk = Disk(folder)
        self._at = 0
        self._known = {TOP: _node(folder), OLD: _node(folder / "old")}

    def note(self, kind: Kind, of: Node = OURS, *entries: tuple[Node, str], number: int = 0, data: bytes = b"") -> int:
        """One more; where it lies."""
        self._at += 1
        named: tuple[Entry, ...] = tuple((self._known.get(node, node), name) for node, name in entries)
        self.disk.note((Frame(self._at, kind, self._known.get(of, of), named, number, memoryview(data)),))
        return self._at

    def synced(self, of: Node) -> None:
        """All that was noted is durable, as far as it is about this."""
        self.note(Kind.SYNCED, of, number=self._at + 1)

    def made(self, name: str, content: bytes, node: Node = NEW) -> None:
        """A new file, of which nothing is durable."""
        self.note(Kind.FILE_MADE, node, (TOP, name), number=0o100600)
        self.note(Kind.WRITE, node, data=content)


def _node(path: Path) -> Node:
    found = path.stat()
    return found.st_dev, found.st_ino


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """A disk with one file."""
    return Notes(tmp_path)


def images(disk: Disk, ways: tuple[Way, ...] = WAYS) -> list[Image]:
    """As it may be found."""
    return [disk.cut(way, seed) for way in ways for seed in range(8)]


def way(name: str) -> tuple[Way, ...]:
    """The one of this name."""
    return tuple(one for one in WAYS if one.name == name)


def contents(found: list[Image], name: str) -> set[bytes | None]:
    """What this file holds; None where it is not there."""
    return {image[name][1] if name in image else None for image in found}


def test_what_is_synced_with_its_folder_is_there(notes: Notes) -> None:
    """Whatever else happens."""
    notes.made("new", AFTER)
    notes.synced(NEW)
    notes.synced(TOP)
    assert contents(images(notes.disk), "new") == {AFTER}


def test_a_file_whose_folder_is_not_synced_may_be_missing(notes: Notes) -> None:
    """Its content alone is durable, and nobody finds it."""
    notes.made("new", AFTER)
    notes.synced(NEW)
    assert contents(images(notes.disk), "new") == {AFTER, None}


def test_a_name_that_is_synced_has_no_content_for_that(notes: Notes) -> None:
    """It may be empty, or long and full of zeros."""
    notes.made("new", AFTER)
    notes.synced(TOP)
    found = contents(images(notes.disk), "new")
    assert {b"", AFTER, bytes(len(AFTER))} <= found
    assert None not in found


def test_what_is_renamed_is_old_or_new_and_whole(notes: Notes) -> None:
    """Where its content was synced first, no power cut leaves neither."""
    notes.made("draft", AFTER)
    notes.synced(NEW)
    notes.note(Kind.RENAMED, OURS, (TOP, "draft"), (TOP, "old"))
    assert contents(images(notes.disk), "old") == {BEFORE, AFTER}
    notes.synced(TOP)
    assert contents(images(notes.disk), "old") == {AFTER}


def test_what_is_renamed_before_it_is_synced_may_be_nothing(notes: Notes) -> None:
    """The classic mistake."""
    notes.made("draft", AFTER)
    notes.note(Kind.RENAMED, OURS, (TOP, "draft"), (TOP, "old"))
    assert b"" in contents(images(notes.disk), "old") or bytes(len(AFTER)) in contents(images(notes.disk), "old")


def test_what_is_removed_may_come_back(notes: Notes) -> None:
    """Until its folder is synced."""
    notes.note(Kind.GONE, OURS, (TOP, "old"))
    assert contents(images(notes.disk), "old") == {BEFORE, None}
    notes.synced(TOP)
    assert contents(images(notes.disk), "old") == {None}


def test_a_folder_that_is_not_synced_takes_all_that_is_in_it(notes: Notes) -> None:
    """Also what was synced in it."""
    notes.note(Kind.FOLDER_MADE, FOLDER, (TOP, "folder"), number=0o40700)
    notes.note(Kind.FILE_MADE, NEW, (FOLDER, "new"), number=0o100600)
    notes.synced(NEW)
    notes.synced(FOLDER)
    assert contents(images(notes.disk), "folder/new") == {b"", None}
    notes.synced(TOP)
    assert contents(images(notes.disk), "folder/new") == {b""}


def test_a_later_name_may_be_there_without_an_earlier_one(notes: Notes) -> None:
    """Nothing says in which order names come to the disk."""
    notes.made("first", b"1", (1, 5))
    notes.made("second", b"2", (1, 6))
    found = {tuple(sorted(image)) for image in images(notes.disk)}
    assert {("old",), ("first", "old"), ("old", "second"), ("first", "old", "second")} <= found


def test_a_sync_covers_what_was_there_when_it_began(notes: Notes) -> None:
    """What was written while it went on is not durable."""
    began = notes.note(Kind.WRITE, OLD, data=b"A")
    notes.note(Kind.WRITE, OLD, number=1, data=b"B")
    notes.note(Kind.SYNCED, OLD, number=began + 1)
    assert contents(images(notes.disk, way("nothing that was not synced")), "old") == {b"A" + BEFORE[1:]}


def test_a_sync_of_a_folder_covers_the_names_of_when_it_began(notes: Notes) -> None:
    """A file that was made while it went on may be missing."""
    began = notes.note(Kind.GONE, OURS, (TOP, "old"))
    notes.made("new", AFTER)
    notes.synced(NEW)
    notes.note(Kind.SYNCED, TOP, number=began + 1)
    assert contents(images(notes.disk), "old") == {None}
    assert contents(images(notes.disk), "new") == {AFTER, None}


@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=1500)), max_size=4), st.integers(0, 99))
def test_each_sector_is_as_it_was_at_some_moment(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], seed: int
) -> None:
    """Never a mixture inside 512 bytes, and never a length that the file has not had."""
    notes = Notes(tmp_path_factory.mktemp("disk"))
    moments = [BEFORE]
    for at, data in writes:
        notes.note(Kind.WRITE, OLD, number=at, data=data)
        now = bytearray(moments[-1].ljust(at, b"\0"))
        now[at : at + len(data)] = data
        moments.append(bytes(now))
    for one in WAYS:
        found = notes.disk.cut(one, seed)["old"][1] or b""
        assert len(found) in {len(moment) for moment in moments}
        for begin in range(0, len(found), 512):
            sector = found[begin : begin + 512]
            was = {moment[begin : begin + 512].ljust(512, b"\0")[: len(sector)] for moment in moments}
            assert sector in was


def test_the_same_seed_cuts_the_same(notes: Notes) -> None:
    """Or what was found could not be looked at again; another one cuts otherwise."""
    notes.note(Kind.WRITE, OLD, data=AFTER)
    for one in WAYS:
        assert notes.disk.cut(one, 5) == notes.disk.cut(one, 5)
    cuts = [notes.disk.cut(WAYS[-1], seed) for seed in range(10)]
    assert any(a != b for a, b in itertools.pairwise(cuts))


def test_a_disk_is_put_into_a_folder_and_compared_with_it(tmp_path: Path) -> None:
    """A file that differs, is missing or is too many is named; of what is left out nobody speaks."""
    image: Image = {"a": (0o40700, None), "a/b": (0o100600, b"b"), "c": (0o100600, b"c")}
    put(image, tmp_path)
    assert unlike(image, tmp_path) == []
    (tmp_path / "a" / "b").write_bytes(b"B")
    (tmp_path / "c").unlink()
    (tmp_path / "d").touch()
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "x").touch()
    assert unlike(image, tmp_path, {"log"}) == ["a/b", "c", "d"]
