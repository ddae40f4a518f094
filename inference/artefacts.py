"""What a chip's compiler made of a model, kept by all that decided it: found again whole, or made again.

A folder holds an entry for each key: the artefact, and what it stands for with its digest. An entry appears at once, by
a rename after everything in it is on the disk. Any number of processes may use one folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from inference import UnsupportedModelError
from inference.limits import GIB, MIB

Make = Callable[[Path], object]
"""Writes the artefact to a path that does not exist yet; whatever it raises is the caller's."""
NOT_KEPT: Final = "it has to be compiled for it first, which is done beside the work"
_NAME: Final = "artefact.onnx"
_STATED: Final = "entry.json"
_STATED_BYTES: Final = MIB
_LEFT_S: Final = 24 * 3600.0
"""What a killed process left behind is swept after this long."""


@dataclass(frozen=True, slots=True)
class Key:
    """All that decides what a compiler makes. A difference in any of it is another artefact."""

    model: str
    """The model's digest."""
    vendor: str
    sdk: str
    """The runtime and its version, and which library it loads."""
    driver: str = ""
    soc: str = ""
    """The chip as it calls itself."""
    precision: str = "fp32"
    shapes: Mapping[str, int] = field(default_factory=dict)
    """Dimensions that were fixed."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the compiler is told besides."""

    def digest(self) -> str:
        """SHA-256 of all of it, hexadecimal."""
        return hashlib.sha256(msgspec.json.encode(asdict(self), order="sorted")).hexdigest()


class NotKeptError(UnsupportedModelError):
    """A compiler would have to be run, and whoever asks has no time for it."""

    def __init__(self) -> None:
        """The same text for all."""
        super().__init__(NOT_KEPT)


_only_kept: Final[ContextVar[bool]] = ContextVar("only_kept", default=False)


@contextmanager
def only_kept() -> Iterator[None]:
    """In here, in this thread, nothing is compiled: what is not there yet is NotKeptError."""
    token = _only_kept.set(True)
    try:
        yield
    finally:
        _only_kept.reset(token)


class _Entry(msgspec.Struct, frozen=True):
    key: Key
    sha256: str


class Artefacts:
    """A folder of artefacts, of `most_bytes` together; what was used longest ago goes first."""

    def __init__(self, folder: Path, most_bytes: int = 2 * GIB) -> None:
        """The folder is made where it is first written to."""
        self._folder = folder
        self._most = most_bytes

    @contextmanager
    def held(self, key: Key, make: Make) -> Iterator[Path]:
        """The artefact of a key, made if it is not there or spoilt; it stays while the context lasts.

        One that is larger than the folder may be is given, and not kept. Raises what `make` raises, OSError, and
        NotKeptError within `only_kept`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        home = self._folder / key.digest()
        with self._using():
            if self._whole(home, key):
                os.utime(home)
                yield home / _NAME
                return
            if _only_kept.get():
                raise NotKeptError
            _away(home)
            with self._made(key, make) as made:
                yield made
        self.trim()

    def drop(self, key: Key) -> None:
        """Forget an artefact that the runtime does not take."""
        _away(self._folder / key.digest())

    def total(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    @contextmanager
    def _using(self) -> Iterator[None]:
        """While anyone is in here, nothing is evicted."""
        with (self._folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def _made(self, key: Key, make: Make) -> Iterator[Path]:
        home = self._folder / key.digest()
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            make(work / _NAME)
            size = (work / _NAME).stat().st_size
            if size > self._most:
                yield work / _NAME
                return
            entry = _Entry(key, _sha256(work / _NAME))
            (work / _STATED).write_bytes(msgspec.json.encode(entry))
            _publish(work, home)
            yield home / _NAME
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _whole(self, home: Path, key: Key) -> bool:
        """Whether the entry is there, is of this key, and holds what was written."""
        try:
            if (home / _STATED).stat().st_size > _STATED_BYTES:
                return False
            entry = msgspec.json.decode((home / _STATED).read_bytes(), type=_Entry)
            return entry.key == key and entry.sha256 == _sha256(home / _NAME)
        except (OSError, msgspec.MsgspecError):
            return False

    def trim(self) -> None:
        """Evict until the folder is within its bytes, and sweep what was left behind; not while anyone uses it."""
        if not self._folder.is_dir():
            return
        with (self._folder / ".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._sweep()
            entries = sorted(self._entries())
            total = sum(size for _, size, _ in entries)
            for _, size, home in entries:
                if total <= self._most:
                    break
                _away(home)
                total -= size

    def _sweep(self) -> None:
        for left in self._folder.glob(".[ng]*-*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _LEFT_S:
                    shutil.rmtree(left)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """When each was used last, its size, and where it is."""
        found = []
        for home in self._folder.glob("[0-9a-f]*"):
            # Another process may be faster.
            with suppress(OSError):
                size = sum(one.stat().st_size for one in home.iterdir())
                found.append((home.stat().st_mtime, size, home))
        return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _away(home: Path) -> None:
    """Remove an entry, if it is there; renamed first, so that nobody sees half of it."""
    if not home.exists():
        return
    gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=home.parent))
    # Another process may be faster.
    with suppress(OSError):
        home.rename(gone / "entry")
    shutil.rmtree(gone, ignore_errors=True)


def _publish(work: Path, home: Path) -> None:
    for path in (work / _NAME, work / _STATED, work):
        _sync(path)
    try:
        work.rename(home)
    except OSError:
        # Another process was first with the same key; a rename never replaces a folder that holds something.
        if not (home / _STATED).is_file():
            raise
        return
    _sync(home.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Kept:
    """The folder of this process."""

    folder: Artefacts | None = None


def use(folder: Path | None, most_bytes: int = 2 * GIB) -> None:
    """Keep artefacts there from now on; None keeps none."""
    _Kept.folder = None if folder is None else Artefacts(folder, most_bytes)


def kept() -> Artefacts | None:
    """The folder that this process uses, if any."""
    return _Kept.folder
