"""Copies a foreign package (folder, zip or bare .onnx) into a folder of ours, within limits and without a way out."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final

from inference import InvalidModelError
from inference.limits import MIB

if TYPE_CHECKING:
    from inference.limits import Limits

_CHUNK: Final = 1 * MIB
_DEPTH: Final = 4
_ZIP: Final = b"PK\x03\x04"
_EMPTY_ZIP: Final = b"PK\x05\x06"


def safe_name(name: str) -> PurePosixPath:
    """A file's relative name inside a package. InvalidModelError if it leads out of it or is not portable."""
    path = PurePosixPath(name)
    odd = "\\" in name or ":" in name or any(ord(c) < ord(" ") for c in name)
    if not name or path.is_absolute() or ".." in path.parts or odd or len(path.parts) > _DEPTH:
        message = f"the file name {name!r} leads out of the package or is not portable: use plain relative names"
        raise InvalidModelError(message)
    return path


class _Budget:
    """Counts files and bytes as they are written, whatever a header claims."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files = 0
        self._bytes = 0

    def copy(self, source: BinaryIO, target: Path) -> None:
        self._files += 1
        if self._files > self._limits.files:
            message = f"the package has more than {self._limits.files} files: leave out what the model does not need"
            raise InvalidModelError(message)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as sink:
            while chunk := source.read(_CHUNK):
                self._bytes += len(chunk)
                if self._bytes > self._limits.package_bytes:
                    size = self._limits.package_bytes // MIB
                    message = f"the package is larger than {size} MiB unpacked: shrink the model or raise the limit"
                    raise InvalidModelError(message)
                sink.write(chunk)


def _folder(source: Path, target: Path, budget: _Budget) -> None:
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            message = f"{name!r} is a link or a special file: put the file itself into the package"
            raise InvalidModelError(message)
        with path.open("rb") as file:
            budget.copy(file, target / safe_name(name))


def _member_problem(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a special file: put the file itself into the package"
    if info.flag_bits & 1:
        return "is encrypted: pack it without a password"
    return None


def _strip(names: list[PurePosixPath]) -> int:
    """How many leading folders to drop: 1 where everything lies in one folder, as packing a folder gives."""
    tops = {name.parts[0] for name in names}
    return 1 if len(tops) == 1 and all(len(name.parts) > 1 for name in names) else 0


def _zip(source: Path, target: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(source) as archive:
        members = [(info, safe_name(info.filename)) for info in archive.infolist() if not info.is_dir()]
        drop = _strip([name for _, name in members])
        for info, name in members:
            problem = _member_problem(info)
            if problem:
                message = f"{info.filename!r} {problem}"
                raise InvalidModelError(message)
            with archive.open(info) as file:
                budget.copy(file, target.joinpath(*name.parts[drop:]))  # type: ignore[arg-type]  # IO[bytes] is one


def _start(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(4)


def unpack(source: Path, target: Path, limits: Limits) -> bool:
    """Copy `source` into the new folder `target`; True if it was a bare .onnx (now `model.onnx`).

    Raises InvalidModelError for what is no package, is too large, or holds links or names that lead out of it.
    """
    target.mkdir()
    budget = _Budget(limits)
    try:
        if source.is_dir():
            _folder(source, target, budget)
            return False
        if _start(source) in (_ZIP, _EMPTY_ZIP):
            _zip(source, target, budget)
            return False
        with source.open("rb") as file:
            budget.copy(file, target / "model.onnx")
    except FileExistsError as error:
        message = f"the package holds two files of the name {Path(str(error.filename)).name!r}: keep one"
        raise InvalidModelError(message) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        message = f"the zip is damaged or of a kind we do not read ({error}): pack it again with deflate"
        raise InvalidModelError(message) from error
    except OSError as error:
        message = f"{source} cannot be read: {error.strerror or error}"
        raise InvalidModelError(message) from error
    return True


def fetch_external(source: Path, target: Path, names: list[str], limits: Limits) -> None:
    """Copy the external data of a bare .onnx from beside it; the names are already known to stay inside."""
    budget = _Budget(limits)
    for name in names:
        beside = source.parent / safe_name(name)
        if not beside.is_file() or beside.is_symlink():
            message = f"the model keeps weights in {name!r}, which is not beside it: import both as a folder or zip"
            raise InvalidModelError(message)
        with beside.open("rb") as file:
            budget.copy(file, target / name)


def discard(folder: Path) -> None:
    """Remove a folder of ours, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
