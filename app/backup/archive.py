"""The file of a backup: a tar of parts under zstd, with what it holds and each part's digest at its end.

Layout, version 1: `header.json`, then parts in the order in which they are to be read, then `contents.json`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, NoReturn, Self

import msgspec
import zstandard

from app.durable import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION: Final = 1
LEVEL: Final = 6
HEADER, CONTENTS = "header.json", "contents.json"
LARGEST_NOTE: Final = 64 * 2**20
"""Bytes of the header and of the contents at most."""
CHUNK: Final = 2**20
FOREIGN: Final = (tarfile.TarError, zstandard.ZstdError, EOFError, msgspec.MsgspecError, UnicodeDecodeError)
"""What reading bytes that are not ours may raise."""
NAME: Final = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[\w@+=.,:~ -]+(?:/[\w@+=.,:~ -]+)*")
"""What a part may be called: relative, and never out of its folder."""


class BackupError(Exception):
    """The backup cannot be made, or not be used; the message says what to do.

    `text` has names in braces for `values`, so that it can be said in another language.
    """

    def __init__(self, text: str, **values: object) -> None:
        """The message is the text with the values filled in."""
        super().__init__(text.format(**values))
        self.text, self.values = text, values


class Header(msgspec.Struct, frozen=True):
    """First in the file."""

    version: int
    made_at: int
    """ns since 1970 UTC."""
    headrace: str
    revision: str
    """Of the database's schema."""
    tables: dict[str, tuple[str, ...]]
    """Columns of each table, in the order of its rows."""
    history: bool
    """Whether readings, predictions and events are in it."""
    salt: str = ""
    """Of the key that secrets are sealed under, hexadecimal; empty where there are none."""


class Part(msgspec.Struct, frozen=True):
    """One part, as it was written."""

    name: str
    size: int
    sha256: str


class Contents(msgspec.Struct, frozen=True):
    """Last in the file: without it the file is not whole."""

    parts: tuple[Part, ...]
    rows: dict[str, int]


@dataclass(slots=True)
class Writer:
    """Writes parts one after the other; the file has its name only when it is whole."""

    _tar: tarfile.TarFile
    _parts: list[Part] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def to(cls, path: Path, header: Header) -> Iterator[Self]:
        """Mode 0600, durable. Raises OSError; then nothing is left."""
        draft = path.with_name(f"{path.name}.part")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                with (
                    zstandard.ZstdCompressor(LEVEL, write_checksum=True).stream_writer(file, closefd=False) as stream,
                    tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
                ):
                    made = cls(tar)
                    made._add(HEADER, msgspec.json.encode(header))
                    yield made
                    made._add(CONTENTS, msgspec.json.encode(Contents(tuple(made._parts), made.rows)))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync_folder(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def add(self, name: str, content: bytes) -> None:
        """A part."""
        self._add(name, content)
        self._parts.append(Part(name, len(content), hashlib.sha256(content).hexdigest()))

    def add_file(self, name: str, path: Path) -> None:
        """A part that is a file as it is now. Raises OSError, also when it grows shorter meanwhile."""
        with path.open("rb") as file:
            info = tarfile.TarInfo(name)
            info.size = os.fstat(file.fileno()).st_size
            told = _Told(file)
            self._tar.addfile(info, told)
        self._parts.append(Part(name, info.size, told.sha256.hexdigest()))

    def _add(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))


class _Told(io.RawIOBase):
    """A file that tells the digest of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


class Reader:
    """Reads the parts in order, once. Everything in the file is foreign until `verify` has gone through it."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path

    def header(self) -> Header:
        """What is first in it. Raises BackupError."""
        for name, stream, size in self._entries():
            if name != HEADER:
                break
            try:
                found = msgspec.json.decode(_note(stream, size), type=Header)
            except FOREIGN as error:
                self._broken(str(error), error)
            if found.version != VERSION:
                message = "{file} is a backup of version {version}, this release reads {ours}"
                raise BackupError(message, file=self._path.name, version=found.version, ours=VERSION)
            return found
        return self._broken("it does not begin as one")

    def verify(self) -> Contents:
        """Go through all of it. Raises BackupError when it is not whole, or not what was written."""
        self.header()
        seen: list[Part] = []
        try:
            for name, stream, size in self._entries():
                if name == CONTENTS:
                    found = msgspec.json.decode(_note(stream, size), type=Contents)
                    if list(found.parts) != seen:
                        self._broken("a part is not what was written")
                    return found
                if name != HEADER:
                    seen.append(Part(name, size, _digest(stream)))
        except FOREIGN as error:
            # What is read of a part is read outside the loop that finds parts.
            self._broken(str(error), error)
        return self._broken("its end is missing")

    def parts(self) -> Iterator[tuple[str, IO[bytes], int]]:
        """Name, content and size of each part. Raises BackupError."""
        for name, stream, size in self._entries():
            if name == CONTENTS:
                return
            if name != HEADER:
                yield name, stream, size

    def _entries(self) -> Iterator[tuple[str, IO[bytes], int]]:
        try:
            with (
                self._path.open("rb") as file,
                zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=False) as stream,
                tarfile.open(fileobj=stream, mode="r|") as tar,
            ):
                for info in tar:
                    content = tar.extractfile(info) if info.isreg() and NAME.fullmatch(info.name) else None
                    if content is None:
                        self._broken("it has a part that none of ours has")
                    else:
                        yield info.name, content, info.size
        except FOREIGN as error:
            self._broken(str(error), error)

    def _broken(self, why: str, cause: Exception | None = None) -> NoReturn:
        message = "{file} is no whole backup of Headrace ({why}): take another one"
        raise BackupError(message, file=self._path.name, why=why) from cause


def _digest(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := stream.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()


def _note(stream: IO[bytes], size: int) -> bytes:
    if size > LARGEST_NOTE:
        message = f"a note of {size} bytes"
        raise tarfile.TarError(message)
    return stream.read(size)
