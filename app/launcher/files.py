"""The folders, secrets and remembered ports of the servers that a box runs for itself."""

from __future__ import annotations

import secrets
from pathlib import Path

from app.durable import make_folder, replace
from app.launcher.ports import Port
from app.launcher.process import LaunchError


def private_folder(data_dir: Path, name: str) -> Path:
    """A folder of the data folder that only its owner enters; made if need be."""
    folder = data_dir.absolute() / name
    make_folder(folder, 0o700)
    folder.chmod(0o700)
    return folder


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads; it replaces what was there."""
    replace(path, text.encode(), 0o600)


def kept_secret(path: Path) -> str:
    """The random secret in a file, made on the first call."""
    if not path.exists():
        write_private(path, secrets.token_hex(24) + "\n")
    return path.read_text().strip()


def kept_port(folder: Path, wanted: int = 0) -> Port:
    """The port asked for, else the one of the last time, so that clients find the server again, else any.

    Raises LaunchError when the one asked for is in use.
    """
    remembered = folder / "port"
    held = Port(wanted or (int(remembered.read_text()) if remembered.exists() else 0))
    if wanted and held.number != wanted:
        held.close()
        message = f"port {wanted} of 127.0.0.1 is in use: choose another, or stop the program that listens on it"
        raise LaunchError(message)
    replace(remembered, f"{held.number}\n".encode())
    return held
