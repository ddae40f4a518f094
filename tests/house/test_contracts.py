"""The import contracts of pyproject.toml bite: a module that breaks one is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")
VIOLATIONS = (
    ("connectors", "connectors/trespasser.py", "import app.settings"),
    ("connectors", "connectors/trespasser.py", "import inference"),
    ("inference", "inference/trespasser.py", "import app.settings"),
    ("inference", "inference/trespasser.py", "import connectors"),
    ("cores", "app/events/service.py", "import onnxruntime"),
    ("cores", "app/trespasser.py", "import asyncua"),
    ("cores", "app/field/trespasser.py", "import paho.mqtt.client"),
    ("queue", "app/events/service.py", "import celery"),
    ("queue", "app/gateway.py", "import redis"),
    ("queue", "app/trespasser.py", "from kombu import Connection"),
    ("database", "app/events/api.py", "import sqlalchemy"),
    ("database", "app/gateway.py", "from sqlalchemy import select"),
    ("web", "app/events/service.py", "import fastapi"),
    ("web", "app/gateway.py", "import starlette"),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rooms and their contracts, to be spoilt."""
    folder = tmp_path_factory.mktemp("copy")
    for room in ("app", "connectors", "inference"):
        shutil.copytree(TOP / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(TOP / "pyproject.toml", folder)
    return folder


def _lint(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache", "--contract", contract], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("contract", sorted({v[0] for v in VIOLATIONS}))
def test_the_rooms_keep_it(copy: Path, contract: str) -> None:
    """The project as it stands keeps the contract."""
    done = _lint(copy, contract)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("contract", "path", "line"), VIOLATIONS, ids=[f"{v[0]}:{v[1]}:{v[2]}" for v in VIOLATIONS])
def test_a_trespasser_is_found(copy: Path, contract: str, path: str, line: str) -> None:
    """A module with this import breaks the contract, and the report names it."""
    module = copy / path
    before = module.read_text() if module.exists() else None
    module.write_text((before or "") + f"\n{line}\n")
    try:
        done = _lint(copy, contract)
    finally:
        module.unlink() if before is None else module.write_text(before)
    assert done.returncode == 1, done.stdout
    assert path.removesuffix(".py").replace("/", ".") in done.stdout


def test_every_contract_is_shown_to_bite() -> None:
    """No contract of pyproject.toml is missing from the violations above."""
    text = (TOP / "pyproject.toml").read_text()
    declared = {line.split('"')[1] for line in text.splitlines() if line.startswith("id = ")}
    assert declared == {v[0] for v in VIOLATIONS}
