"""Kept artefacts: found again by all that decided them, never half there, never spoilt, never more than allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import pytest

from inference.artefacts import Artefacts, Key

ROOT: Final = Path(__file__).parents[2]
KEY: Final = Key("sha256:0", "maker", "runtime 1", "driver 1", "chip a", "fp32", {"N": 1}, {"level": "1"})
OTHERS: Final[dict[str, Any]] = {
    "model": "sha256:1", "vendor": "other", "sdk": "runtime 2", "driver": "driver 2", "soc": "chip b",
    "precision": "fp16", "shapes": {"N": 4}, "options": {"level": "2"},
}


def writing(content: bytes, calls: list[int] | None = None) -> Callable[[Path], None]:
    """A compiler that makes this and counts how often it was asked."""
    def make(target: Path) -> None:
        target.write_bytes(content)
        if calls is not None:
            calls.append(1)

    return make


def kept(folder: Artefacts, key: Key, content: bytes = b"made", calls: list[int] | None = None) -> bytes:
    """What the folder gives for a key."""
    with folder.held(key, writing(content, calls)) as path:
        return path.read_bytes()


def test_what_was_made_once_is_found_again(tmp_path: Path) -> None:
    """The second time nothing is compiled, in this process or with another view of the same folder."""
    calls: list[int] = []
    for folder in (Artefacts(tmp_path), Artefacts(tmp_path)):
        for _ in range(2):
            assert kept(folder, KEY, calls=calls) == b"made"
    assert len(calls) == 1


def test_whatever_decides_is_in_the_key() -> None:
    """Each part of a key alone makes it another artefact; the order of options does not."""
    assert {one.name for one in fields(Key)} == OTHERS.keys()
    digests = {replace(KEY, **{name: value}).digest() for name, value in OTHERS.items()}
    assert len(digests | {KEY.digest()}) == 1 + len(OTHERS)
    two = replace(KEY, options={"a": "1", "b": "2"})
    assert two.digest() == replace(KEY, options={"b": "2", "a": "1"}).digest()


@pytest.mark.parametrize("damage", ["changed", "cut off", "missing", "statement", "another key", "huge statement"])
def test_a_spoilt_entry_is_made_again(damage: str, tmp_path: Path) -> None:
    """Whatever was done to it on the disk, it is not given out: it is compiled anew, and found after that."""
    folder = Artefacts(tmp_path)
    calls: list[int] = []
    kept(folder, KEY, calls=calls)
    home = tmp_path / KEY.digest()
    artefact, stated = home / "artefact.onnx", home / "entry.json"
    if damage == "another key":
        other = replace(KEY, model="sha256:9")
        kept(folder, other)
        stated.write_bytes((tmp_path / other.digest() / "entry.json").read_bytes())
    spoil: dict[str, Callable[[], object]] = {
        "changed": lambda: artefact.write_bytes(b"mode"), "cut off": lambda: os.truncate(artefact, 2),
        "missing": artefact.unlink, "statement": lambda: stated.write_bytes(b"{"),
        "another key": lambda: None, "huge statement": lambda: os.truncate(stated, 2**30),
    }
    spoil[damage]()
    for _ in range(2):
        assert kept(folder, KEY, calls=calls) == b"made"
    assert len(calls) == 2


def test_a_compiler_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Its error is the caller's; the folder is as before, and the next try makes the artefact."""
    folder = Artefacts(tmp_path)

    def fails(target: Path) -> None:
        target.write_bytes(b"half of it")
        message = "no tiling fits"
        raise ValueError(message)

    with pytest.raises(ValueError, match="no tiling fits"), folder.held(KEY, fails):
        pass
    assert [one.name for one in tmp_path.iterdir()] == [".lock"]
    assert kept(folder, KEY) == b"made"


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    """The folder stays within its bytes; an artefact that was used again outlives one that was made later."""
    sizes = Artefacts(tmp_path / "one")
    kept(sizes, KEY, b"x" * 10_000)
    folder = Artefacts(tmp_path / "two", most_bytes=3 * sizes.total())
    keys = [replace(KEY, model=f"sha256:{number}") for number in range(4)]
    for age, key in enumerate(keys[:3]):
        kept(folder, key, b"x" * 10_000)
        os.utime(tmp_path / "two" / key.digest(), (1000 + age, 1000 + age))
    kept(folder, keys[0], b"x" * 10_000)
    kept(folder, keys[3], b"x" * 10_000)
    there = [(tmp_path / "two" / key.digest()).exists() for key in keys]
    assert there == [True, False, True, True]
    assert folder.total() <= 3 * sizes.total()


def test_what_is_in_use_is_not_taken_away(tmp_path: Path) -> None:
    """While one holds an artefact nothing is evicted; once it lets go, the folder is brought within its bytes."""
    folder = Artefacts(tmp_path, most_bytes=15_000)
    other = replace(KEY, model="sha256:1")
    with folder.held(KEY, writing(b"x" * 10_000)) as path:
        kept(Artefacts(tmp_path, most_bytes=15_000), other, b"x" * 10_000)
        assert len(path.read_bytes()) == 10_000
    assert folder.total() <= 15_000


def test_one_that_is_larger_than_the_folder_is_given_and_not_kept(tmp_path: Path) -> None:
    """Nothing else is thrown out for its sake."""
    folder = Artefacts(tmp_path, most_bytes=5_000)
    kept(folder, KEY)
    large = replace(KEY, model="sha256:1")
    assert len(kept(folder, large, b"x" * 10_000)) == 10_000
    assert [one.name for one in tmp_path.iterdir() if not one.name.startswith(".")] == [KEY.digest()]


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path) -> None:
    """Not before: it may be another process that is still at it."""
    folder = Artefacts(tmp_path)
    old, new = tmp_path / ".new-old", tmp_path / ".new-new"
    for one in (old, new):
        one.mkdir()
        (one / "artefact.onnx").write_bytes(b"half")
    os.utime(old, (0, 0))
    folder.trim()
    assert (old.exists(), new.exists()) == (False, True)


_WRITER: Final = """\
import sys
from pathlib import Path
from inference.artefacts import Artefacts, Key
folder = Artefacts(Path(sys.argv[1]), most_bytes=60_000)
for turn in range(60):
    key = Key(f"sha256:{turn % 7}", "maker", "runtime 1")
    content = bytes([turn % 7]) * 10_000
    with folder.held(key, lambda target: target.write_bytes(content)) as path:
        assert path.read_bytes() == content, turn
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    """Three that make, find, evict and replace the same artefacts never see another one's or half of one."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    ended = [(one.communicate()[1].decode(), one.returncode) for one in started]
    assert ended == [("", 0)] * 3
    Artefacts(tmp_path, most_bytes=60_000).trim()
    assert Artefacts(tmp_path).total() <= 60_000
    assert not [one for one in tmp_path.iterdir() if one.name.startswith((".new-", ".gone-"))]
