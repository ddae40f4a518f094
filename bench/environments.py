"""Environments of peers whose packages contradict ours: made once in `.bench/`, from exact versions with hashes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parents[1]


def interpreter(name: str) -> Path:
    """The Python of the peer's environment (`bench/requirements-NAME.txt`), installed first where it is not there."""
    wanted = TOP / "bench" / f"requirements-{name}.txt"
    folder = TOP / ".bench" / name
    python, mark = folder / "bin" / "python", folder / "installed"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == digest:
        return python
    print(f"making the environment of {name} in {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([*install, "-r", str(wanted)], check=True)
    mark.write_text(digest)
    return python
