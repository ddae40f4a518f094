"""A disk whose power is cut: what of all that was written is there for certain, and what may be there, or in part.

Only what fsync has made durable is certain. Of the rest each sector of a file may be as it was at any moment since, its
length too, and each change of a name may have come to the disk or not, whatever came before or after it: a new file is
there when its folder was synced, not before. Renaming is one change. That is more than a disk with a journalling file
system does, and what POSIX allows (Pillai et al., All File Systems Are Not Created Equal, OSDI 2014, section 3).
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from app.selftest.writes import Frame, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from app.selftest.writes import Entry, Node

SECTORS: Final = (512, 4096)
"""Bytes that come to a disk together, of one kind of disk and of another."""


@dataclass(eq=False, slots=True)
class File:
    """Its content as it is for certain, and what was written since."""

    mode: int
    durable: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, int, memoryview | None]] = field(default_factory=list)
    """Place in the notes, offset, bytes; None for bytes: the size is the offset."""

    def sync(self, before: int) -> None:
        """What was noted before this place is durable."""
        count = sum(at < before for at, _, _ in self.since)
        for _, offset, data in self.since[:count]:
            _put(self.durable, offset, data)
        del self.since[:count]


@dataclass(eq=False, slots=True)
class Folder:
    """What is in it as its users see it."""

    mode: int
    names: dict[str, File | Folder] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Naming:
    """Names that change together, or do not."""

    at: int
    gone: tuple[Folder, str, File | Folder] | None
    made: tuple[Folder, str, File | Folder] | None
    unsynced: set[int]
    """Folders (id) that have not been synced since."""


Image = dict[str, tuple[int, bytes | None]]
"""Path below the folder -> mode (st_mode) and content; None for a folder. Parents come before what is in them."""
Fate = Callable[[random.Random, int], int]
"""How many of so many changes, the oldest first, are on the disk."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which what is not certain may come out."""

    name: str
    sector: Fate
    size: Fate
    naming: Callable[[random.Random, float], bool]
    """Whether a change of a name is there; its rank among those that are not certain is 0 to 1."""


def _none(_: random.Random, __: int) -> int:
    return 0


def _all(_: random.Random, count: int) -> int:
    return count


def _some(chance: random.Random, count: int) -> int:
    return chance.randint(0, count)


WAYS: Final = (
    Way("nothing that was not synced", _none, _none, lambda _, __: False),
    Way("all of it", _all, _all, lambda _, __: True),
    Way("names and sizes before content", _none, _all, lambda _, __: True),
    Way("content before names", _all, _all, lambda _, __: False),
    Way("later names without earlier ones", _all, _all, lambda _, rank: rank > 0.5),  # noqa: PLR2004 - half of them
    Way("earlier names without later ones", _some, _some, lambda _, rank: rank <= 0.5),  # noqa: PLR2004
    Way("some of it", _some, _some, lambda chance, _: chance.random() < 0.5),  # noqa: PLR2004
)


class Disk:
    """One folder of a disk, and all below it."""

    def __init__(self, root: Path, without: Collection[str] = ()) -> None:
        """As it is now, all of it durable; `without`: names in the folder that are left out. Blocking. OSError."""
        self._nodes: dict[Node, File | Folder] = {}
        self._root = self._read(root, without)
        self._certain: dict[int, dict[str, File | Folder]] = {
            id(one): dict(one.names) for one in self._nodes.values() if isinstance(one, Folder)
        }
        self._namings: list[Naming] = []
        self.mapped: set[int] = set()
        """Files (id) that somebody has in memory to be written there."""

    def _read(self, path: Path, without: Collection[str]) -> Folder:
        made = Folder(path.stat().st_mode)
        self._nodes[_node(path)] = made
        for one in sorted(path.iterdir()):
            if one.name in without or one.is_symlink():
                continue
            if one.is_dir():
                made.names[one.name] = self._read(one, ())
            elif one.is_file():
                file = File(one.stat().st_mode, bytearray(one.read_bytes()))
                made.names[one.name] = self._nodes.setdefault(_node(one), file)
        return made

    def note(self, frames: Iterable[Frame]) -> None:
        """What was done next. Files that lie elsewhere are followed too: they may be moved here."""
        for frame in frames:
            _DO[frame.kind](self, frame)

    def whole(self) -> Image:
        """As its users see it."""
        files: Image = {}
        _walk(files, "", self._root, lambda folder: folder.names, lambda file: bytes(_content(file, _ALL, None)))
        return files

    def cut(self, way: Way, seed: int) -> Image:
        """As it may be found when its power is cut now; the same for the same arguments."""
        chance = random.Random(seed)  # noqa: S311 - repeatable is what is wanted
        names = self._names(way, chance)
        found: Image = {}
        _walk(found, "", self._root, lambda folder: names.get(id(folder), {}), lambda f: _content(f, way, chance))
        return found

    def _names(self, way: Way, chance: random.Random) -> dict[int, dict[str, File | Folder]]:
        names = {key: dict(one) for key, one in self._certain.items()}
        open_ = [one for one in self._namings if one.unsynced]
        ranks = {id(one): place / max(1, len(open_) - 1) for place, one in enumerate(open_)}
        for one in self._namings:
            if not one.unsynced or way.naming(chance, ranks[id(one)]):
                _rename(names, one)
        return names

    def is_mapped(self, path: str) -> bool:
        """Whether the file that has this name now was ever in memory to be written there."""
        found: File | Folder | None = self._root
        for name in path.split("/"):
            found = found.names.get(name) if isinstance(found, Folder) else None
        return id(found) in self.mapped

    def _write(self, frame: Frame) -> None:
        file = self._nodes.get(frame.of)
        if isinstance(file, File):
            file.since.append((frame.at, frame.number, frame.data))

    def _size(self, frame: Frame) -> None:
        file = self._nodes.get(frame.of)
        if isinstance(file, File):
            file.since.append((frame.at, frame.number, None))

    def _made(self, frame: Frame) -> None:
        made = (File if frame.kind == Kind.FILE_MADE else Folder)(frame.number)
        self._nodes[frame.of] = made
        self._linked(frame)

    def _linked(self, frame: Frame) -> None:
        folder, name = self._folder(frame.entries[0])
        made = self._nodes.get(frame.of)
        if folder is not None and made is not None:
            self._name(frame.at, None, (folder, name, made))

    def _gone(self, frame: Frame) -> None:
        folder, name = self._folder(frame.entries[0])
        if folder is not None and name in folder.names:
            self._name(frame.at, (folder, name, folder.names[name]), None)

    def _renamed(self, frame: Frame) -> None:
        (old, old_name), (new, new_name) = map(self._folder, frame.entries)
        what = None if old is None else old.names.get(old_name)
        gone = None if old is None or what is None else (old, old_name, what)
        made = None if new is None or what is None else (new, new_name, what)
        if gone or made:
            self._name(frame.at, gone, made)

    def _synced(self, frame: Frame) -> None:
        found = self._nodes.get(frame.of)
        if frame.number > frame.at:
            # It began before the notes were begun anew.
            return
        if isinstance(found, File):
            found.sync(frame.number)
            return
        for one in self._namings:
            if one.at < frame.number:
                one.unsynced.discard(id(found))
        while self._namings and not self._namings[0].unsynced:
            _rename(self._certain, self._namings.pop(0))

    def _mapped(self, frame: Frame) -> None:
        self.mapped.add(id(self._nodes.get(frame.of)))

    def _folder(self, entry: Entry) -> tuple[Folder | None, str]:
        found = self._nodes.get(entry[0])
        return (found if isinstance(found, Folder) else None), entry[1]

    def _name(
        self, at: int, gone: tuple[Folder, str, File | Folder] | None, made: tuple[Folder, str, File | Folder] | None
    ) -> None:
        one = Naming(at, gone, made, {id(part[0]) for part in (gone, made) if part})
        self._namings.append(one)
        if gone:
            gone[0].names.pop(gone[1], None)
        if made:
            made[0].names[made[1]] = made[2]


_DO: Final[Mapping[Kind, Callable[[Disk, Frame], None]]] = {
    Kind.WRITE: Disk._write,  # noqa: SLF001 - one frame, one of its methods
    Kind.SIZE: Disk._size,  # noqa: SLF001
    Kind.FILE_MADE: Disk._made,  # noqa: SLF001
    Kind.FOLDER_MADE: Disk._made,  # noqa: SLF001
    Kind.LINKED: Disk._linked,  # noqa: SLF001
    Kind.RENAMED: Disk._renamed,  # noqa: SLF001
    Kind.GONE: Disk._gone,  # noqa: SLF001
    Kind.SYNCED: Disk._synced,  # noqa: SLF001
    Kind.MAPPED: Disk._mapped,  # noqa: SLF001
}
_ALL: Final = WAYS[1]


def _node(path: Path) -> Node:
    found = path.stat()
    return found.st_dev, found.st_ino


def _rename(names: dict[int, dict[str, File | Folder]], one: Naming) -> None:
    if one.gone:
        folder, name, what = one.gone
        if names.setdefault(id(folder), {}).get(name) is what:
            del names[id(folder)][name]
    if one.made:
        folder, name, what = one.made
        names.setdefault(id(folder), {})[name] = what


def _walk(
    into: Image, path: str, folder: Folder, names: Callable[[Folder], Mapping[str, File | Folder]],
    content: Callable[[File], bytes],
) -> None:  # fmt: skip
    for name, what in sorted(names(folder).items()):
        if isinstance(what, Folder):
            into[path + name] = (what.mode, None)
            _walk(into, f"{path}{name}/", what, names, content)
        else:
            into[path + name] = (what.mode, content(what))


def _put(content: bytearray, offset: int, data: memoryview | None) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _content(file: File, way: Way, chance: random.Random | None) -> bytes:
    """Each sector as it was at some moment, and the length."""
    if chance is None:
        made = bytearray(file.durable)
        for _, offset, data in file.since:
            _put(made, offset, data)
        return bytes(made)
    sector = chance.choice(SECTORS)
    sizes, touched = _changes(file, sector)
    size = sizes[way.size(chance, len(sizes) - 1)]
    made = bytearray(max(sizes))
    made[: len(file.durable)] = file.durable
    for _, changes in sorted(touched.items()):
        for offset, piece in changes[: way.sector(chance, len(changes))]:
            made[offset : offset + len(piece)] = piece
    return bytes(made[:size])


def _changes(file: File, sector: int) -> tuple[list[int], dict[int, list[tuple[int, bytes]]]]:
    """The lengths that it had, the certain one first, and by sector what was written there: offset and bytes."""
    sizes, touched = [len(file.durable)], dict[int, list[tuple[int, bytes]]]()
    for _, offset, data in file.since:
        if data is None:
            # What was cut off reads as zeros when the file grows again.
            piece, size = bytes(max(0, max(sizes) - offset)), offset
        else:
            piece, size = bytes(data), max(sizes[-1], offset + len(data))
        sizes.append(size)
        for begin in range(offset - offset % sector, offset + len(piece), sector):
            first, last = max(begin, offset), min(begin + sector, offset + len(piece))
            touched.setdefault(begin, []).append((first, piece[first - offset : last - offset]))
    return sizes, touched


def put(image: Image, folder: Path) -> None:
    """Write it into a folder that has none of these names. Blocking. OSError."""
    for path, (mode, content) in image.items():
        target = folder / path
        if content is None:
            target.mkdir()
        else:
            target.write_bytes(content)
        target.chmod(stat.S_IMODE(mode) | stat.S_IRUSR | stat.S_IWUSR)


def unlike(image: Image, folder: Path, without: Collection[str] = ()) -> list[str]:
    """Paths that are not the same in a folder. Blocking. OSError."""
    there: Image = {}
    for top, folders, files in os.walk(folder):
        if top == str(folder):
            folders[:] = [one for one in folders if one not in without]
        at = os.path.relpath(top, folder)
        for name in (*folders, *files):
            path = name if at == "." else f"{at}/{name}"
            full = folder / path
            if full.is_dir():
                there[path] = (0, None)
            elif full.is_file() and not full.is_symlink() and name not in without:
                there[path] = (0, full.read_bytes())
    return sorted(path for path in image.keys() | there.keys() if _differ(image.get(path), there.get(path)))


def _differ(one: tuple[int, bytes | None] | None, other: tuple[int, bytes | None] | None) -> bool:
    return (one is None) != (other is None) or (one is not None and other is not None and one[1] != other[1])
