"""`headrace backup` and `headrace restore`: a box in one file, taken while it runs, and an empty box made from it."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from app.backup import box
from app.backup.archive import BackupError, Reader
from app.backup.secret import passphrase
from app.commands import running
from app.commands.console import fail, out, t
from app.commands.running import Data, choose_data
from app.settings import settings
from app.times import rfc3339

Phrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", exists=True, dir_okay=False,
        help="File with the passphrase that seals keys, certificates and sessions; at least 12 characters.",
    ),
]  # fmt: skip
File = Annotated[Path, typer.Argument(help="The backup, e.g. box.hrb.")]
MB: Final = 1e6


def backup(
    file: File,
    *,
    passphrase_file: Phrase = None,
    without_history: Annotated[
        bool, typer.Option("--without-history", help="Configuration and models only: no readings, predictions, events.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    data: Data = None,
) -> None:
    """Back up configuration, models and history into one file; the gateway may run meanwhile."""
    choose_data(data)
    if file.exists() and not force:
        raise fail(t("{file} is there already; --force overwrites it", file=file))
    begun = time.monotonic()
    try:
        phrase = None if passphrase_file is None else passphrase(passphrase_file)
        told = box.take(settings(), file, phrase, history=not without_history)
    except BackupError as error:
        raise fail(t(error.text, **error.values)) from error
    except OSError as error:
        raise fail(str(error)) from error
    size, seconds = file.stat().st_size / MB, time.monotonic() - begun
    values = {"file": file, "rows": told.rows, "files": told.files, "size": size, "seconds": seconds}
    out.print(t("{file}: {rows} rows, {files} files, {size:.1f} MB, {seconds:.1f} s", **values), markup=False)
    if phrase is None:
        out.print(t("Keys, certificates and sessions are not in it: they need --passphrase-file."))


def restore(
    file: File,
    *,
    passphrase_file: Phrase = None,
    check: Annotated[bool, typer.Option("--check", help="Only see whether the backup is whole.")] = False,
    data: Data = None,
) -> None:
    """Make an empty box what another one was when the backup was made."""
    choose_data(data)
    try:
        if check:
            contents = Reader(file).verify()
            out.print(t("The backup is whole: {rows} rows.", rows=sum(contents.rows.values())))
            return
        if running.read(settings().data_dir) is not None:
            raise fail(t("{data} is in use: a gateway runs on it", data=settings().data_dir))
        phrase = None if passphrase_file is None else passphrase(passphrase_file)
        told = box.restore(settings(), file, phrase, getpass.getuser())
    except BackupError as error:
        raise fail(t(error.text, **error.values)) from error
    except OSError as error:
        raise fail(str(error)) from error
    values = {"at": rfc3339(told.made_at), "rows": told.rows, "files": told.files}
    out.print(t("Restored as of {at}: {rows} rows, {files} files.", **values), markup=False)
    if told.missing:
        out.print(t("{readings} readings lay in the old box's journal: they count as dropped.", readings=told.missing))
    if not told.has_secrets:
        out.print(t("No keys were in it: apply the plant file again for its secrets, and trust certificates anew."))
