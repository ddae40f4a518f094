"""Checkpoints of the windows on disk: a few files, each with the journal position it was made at."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from app.durable import make_folder, replace, sync_folder
from app.field.latest import Kept
from app.journal import Position
from app.records import Leased

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX: Final = ".snap"
VERSION: Final = 2
_CRC: Final = 4


class Snapshot(msgspec.Struct, array_like=True, frozen=True):
    """The windows between two journal records."""

    version: int
    epoch: int
    number: int
    """The last record that was fed."""
    versions: tuple[int, ...]
    """Pipeline versions whose windows are cut."""
    router: bytes
    """`inference.window.Router.snapshot`."""
    clock: int
    latest: tuple[Kept, ...]
    """What `app.field.latest.Latest` knows."""
    leased: Leased | None = None
    """The leases in force, where several gateways share a database."""

    @property
    def position(self) -> Position:
        """The last record that was fed."""
        return Position(self.epoch, self.number)


class Snapshots:
    """A folder of snapshots. All of it blocks."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when the first one is saved."""
        self._folder = folder

    def save(self, snapshot: Snapshot) -> None:
        """Make it durable. Raises OSError; older ones are untouched then."""
        make_folder(self._folder)
        content = msgspec.msgpack.encode(snapshot)
        replace(self._path(snapshot.position), zlib.crc32(content).to_bytes(_CRC, "little") + content)

    def newest(self, limit: Position) -> Snapshot | None:
        """The newest readable one at or before this position; None when there is none."""
        for position in reversed(self.positions()):
            if position <= limit:
                found = self._read(self._path(position))
                if found is not None:
                    return found
        return None

    def versions(self) -> set[int]:
        """Every pipeline version that a readable one names."""
        found = (self._read(self._path(position)) for position in self.positions())
        return {version for one in found if one is not None for version in one.versions}

    def positions(self) -> list[Position]:
        """Of every file, readable or not, oldest first."""
        found = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            epoch, _, number = path.stem.partition("-")
            if epoch.isdecimal() and number.isdecimal():
                found.append(Position(int(epoch), int(number)))
        return sorted(found)

    def drop_before(self, position: Position) -> None:
        """Delete those that are older than this position."""
        for one in self.positions():
            if one < position:
                self._path(one).unlink(missing_ok=True)

    def drop_after(self, position: Position) -> None:
        """Delete those that are newer than this position, for good. Raises OSError."""
        newer = [one for one in self.positions() if one > position]
        for one in newer:
            self._path(one).unlink(missing_ok=True)
        if newer:
            sync_folder(self._folder)

    def _path(self, position: Position) -> Path:
        return self._folder / f"{position.epoch:08d}-{position.number:020d}{SUFFIX}"

    def _read(self, path: Path) -> Snapshot | None:
        with suppress(OSError, msgspec.MsgspecError):
            data = path.read_bytes()
            if zlib.crc32(data[_CRC:]) == int.from_bytes(data[:_CRC], "little"):
                found = msgspec.msgpack.decode(data[_CRC:], type=Snapshot)
                return found if found.version == VERSION else None
        return None
