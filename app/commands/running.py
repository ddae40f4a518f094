"""What a gateway that runs on a data folder says of its servers, so that other commands find them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from pydantic import SecretStr

from app import engines, settings
from app.settings import Settings

Data = Annotated[Path | None, typer.Option("--data", help="Data folder; HEADRACE_DATA_DIR by default.")]

NAME: Final = "running.json"


class Running(msgspec.Struct, frozen=True):
    """Addresses with their secrets: the file is mode 0600, and gone when the gateway stops."""

    pid: int
    redis_url: str
    database_url: str
    api_url: str


def write(data_dir: Path, running: Running) -> None:
    """Leave the addresses for other commands of the same user."""
    path = data_dir / NAME
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(running))


def remove(data_dir: Path) -> None:
    """Nothing runs here any more."""
    (data_dir / NAME).unlink(missing_ok=True)


def read(data_dir: Path) -> Running | None:
    """The addresses, or None when nothing runs here."""
    try:
        found = msgspec.json.decode((data_dir / NAME).read_bytes(), type=Running)
        os.kill(found.pid, 0)
    except (OSError, msgspec.MsgspecError):
        return None
    return found


def known(chosen: Settings) -> Settings:
    """Settings with the addresses of what runs on their data folder, where they do not name their own."""
    found = read(chosen.data_dir)
    if found is None:
        return chosen
    return chosen.model_copy(
        update={
            "redis_url": chosen.redis_url or SecretStr(found.redis_url),
            "database_url": chosen.database_url or SecretStr(found.database_url),
        }
    )


def choose_data(data: Path | None) -> None:
    """Use this data folder, if one is given, and what a gateway that runs on it says of its servers."""
    if data is not None:
        settings.use(known(Settings(data_dir=data)))
        engines.keep(settings.settings())
