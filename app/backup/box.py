"""Takes a backup of a box while it runs, and makes an empty box what it was."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import msgspec

from app import times
from app.backup import service
from app.backup.archive import CHUNK, BackupError, Header, Reader, Writer
from app.backup.archive import VERSION as ARCHIVE
from app.backup.secret import Sealer, fresh_salt
from app.db import make_engine, snapshot, upgrade, writing
from app.durable import make_folder, replace, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from app.settings import Settings

MODELS: Final = "models"
PRIVATE: Final = ("secret.key", "connections", "subscriptions")
"""In the data folder: keys, certificates and what a session is taken up with."""
LARGEST_SECRET: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Told:
    """What went into a backup, or came out of one."""

    made_at: int
    rows: int
    files: int
    has_secrets: bool
    missing: int = 0
    """Readings that lay in journals when the backup was made: lost with the old box, and counted so."""


def _files(folder: Path) -> Iterator[Path]:
    """Every regular file below, in order; what is being written (names that begin with a dot) is not there yet."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _private(data_dir: Path) -> Iterator[Path]:
    for name in PRIVATE:
        path = data_dir / name
        yield from [path] if path.is_file() else _files(path)


def take(chosen: Settings, path: Path, phrase: str | None, *, history: bool) -> Told:
    """Write a backup of this box, which may run meanwhile. Raises BackupError, OSError; then there is no file.

    All tables are of one moment. `phrase`: seals keys, certificates and sessions; without it they are left out.
    """
    engine = make_engine(chosen.database())
    salt = "" if phrase is None else fresh_salt()
    files = 0
    try:
        with snapshot(engine) as session:
            connection = session.connection()
            revision = service.revision(connection)
            tables = service.tables(connection, history=history)
            columns = {str(one.name): tuple(map(str, one.columns.keys())) for one in tables}
            header = Header(ARCHIVE, times.now(), version("headrace"), revision, columns, history, salt)
            with Writer.to(path, header) as writer:
                for one in tables:
                    writer.rows[one.name] = 0
                    for number, (content, rows) in enumerate(service.rows_of(connection, one), 1):
                        writer.add(f"tables/{one.name}/{number:08d}", content)
                        writer.rows[one.name] += rows
                # After the rows: a model is in the store before any row names it, and stays.
                for model in _files(chosen.data_dir / MODELS):
                    writer.add_file(f"data/{model.relative_to(chosen.data_dir).as_posix()}", model)
                    files += 1
                if phrase is not None:
                    files += _seal(writer, chosen.data_dir, Sealer(phrase, salt))
            return Told(header.made_at, sum(writer.rows.values()), files, bool(salt))
    finally:
        engine.dispose()


def _seal(writer: Writer, data_dir: Path, sealer: Sealer) -> int:
    files = 0
    for one in _private(data_dir):
        name = f"sealed/{one.relative_to(data_dir).as_posix()}"
        content = one.read_bytes()
        if len(content) > LARGEST_SECRET:
            message = "{path} is larger than any key or certificate: move it out of the data folder"
            raise BackupError(message, path=one)
        writer.add(name, sealer.seal(name, content))
        files += 1
    return files


def restore(chosen: Settings, path: Path, phrase: str | None, who: str) -> Told:
    """Make an empty box what it was. Raises BackupError, OSError: then put right what it says and begin again.

    The file is gone through whole before anything is written. SQLite's file has its name only when all of it is there.
    """
    reader = Reader(path)
    header = reader.header()
    contents = reader.verify()
    if header.salt and phrase is None:
        message = "this backup holds sealed keys: give the passphrase it was made with"
        raise BackupError(message)
    sealer = Sealer(phrase, header.salt) if header.salt and phrase is not None else None
    _must_be_empty(chosen)
    make_folder(chosen.data_dir)
    url, draft = chosen.database(), None
    if chosen.database_url is None:
        draft = chosen.data_dir / "headrace.db.restoring"
        _remove(draft)
        url = f"sqlite:///{draft}"
    files = _fill(chosen.data_dir, reader, header, url, sealer)
    upgrade(url)
    engine = make_engine(url)
    try:
        missing = service.settle(engine, who, header.made_at)
    finally:
        engine.dispose()
    if draft is not None:
        # The last connection that was closed has taken the write-ahead log in.
        draft.replace(chosen.data_dir / "headrace.db")
        _remove(draft)
        sync_folder(chosen.data_dir)
    return Told(header.made_at, sum(contents.rows.values()), files, sealer is not None, missing)


def _remove(draft: Path) -> None:
    for one in (draft, *(draft.with_name(f"{draft.name}{end}") for end in ("-wal", "-shm"))):
        one.unlink(missing_ok=True)


def _must_be_empty(chosen: Settings) -> None:
    """Raises BackupError where something would be overwritten, or a journal of another database lies."""
    for name in ("headrace.db", "journal", MODELS, *PRIVATE):
        one = chosen.data_dir / name
        if one.is_file() or (one.is_dir() and any(one.rglob("*"))):
            message = "{path} is there: a backup is restored on an empty box only; choose another data folder"
            raise BackupError(message, path=one)
    if chosen.database_url is not None:
        engine = make_engine(chosen.database())
        try:
            if not service.empty(engine):
                message = "the database is not empty: a backup is restored into an empty one only"
                raise BackupError(message)
        finally:
            engine.dispose()


def _fill(data_dir: Path, reader: Reader, header: Header, url: str, sealer: Sealer | None) -> int:
    """Rows in one transaction, files each whole; returns how many files."""
    files = 0
    upgrade(url, header.revision)
    engine = make_engine(url)
    try:
        with writing(engine) as session:
            loading = service.Loading(session, header.tables)
            for name, stream, size in reader.parts():
                room, _, rest = name.partition("/")
                if room == "tables":
                    loading.add(rest.partition("/")[0], stream.read(size))
                elif room == "data":
                    _write(data_dir / rest, stream)
                    files += 1
                elif room == "sealed" and sealer is not None:
                    target = data_dir / rest
                    make_folder(target.parent, 0o700)
                    replace(target, sealer.open(name, stream.read(min(size, LARGEST_SECRET + CHUNK))), mode=0o600)
                    files += 1
            loading.numbered()
    except msgspec.MsgspecError as error:
        message = "rows in the backup are not ours ({why}): take another one"
        raise BackupError(message, why=error) from error
    finally:
        engine.dispose()
    return files


def _write(target: Path, stream: IO[bytes]) -> None:
    make_folder(target.parent)
    draft = target.with_name(f".{target.name}.restoring")
    with draft.open("wb") as file:
        while data := stream.read(CHUNK):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)
    sync_folder(target.parent)
