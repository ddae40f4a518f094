"""The command line, run in this process on a data folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app import settings
from app.cli import main
from app.commands import console
from app.settings import Settings
from inference import artefacts

PACKAGE = Path(__file__).parents[3] / "examples" / "tightening" / "package"
TEXT = f"""\
version: 1
plant: {{enterprise: acme}}
connections:
  - name: station
    connector: mqtt
    options:
      url: mqtt://127.0.0.1:1883
      username: headrace
      password: {{file: secret}}
tags:
  - {{name: torque, connection: station, address: "st/curve#/torque", unit: N.m}}
  - {{name: angle, connection: station, address: "st/curve#/angle", unit: deg}}
  - {{name: counter, connection: station, datatype: integer, address: "st/cycle#/counter"}}
models:
  - {{name: judge, path: "{PACKAGE}"}}
pipelines:
  - name: tightening
    model: judge
    window: {{trigger: counter}}
    inputs: {{tags: [torque, angle]}}
    rules:
      - {{name: bad, output: score, above: 1.0}}
northbound:
  - {{name: mes, connector: mqtt, options: {{url: "mqtt://127.0.0.1:1883"}}}}
"""
Run = Callable[..., Result]


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A good plant file, beside the secret that it refers to."""
    (tmp_path / "secret").write_text("hunter2hunter2\n")
    file = tmp_path / "plant.yaml"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that nothing was done in."""
    return tmp_path / "data"


@pytest.fixture
def run(data: Path) -> Iterator[Run]:
    """Run `headrace` with these arguments; English, on `data`, unless they say otherwise."""
    before = settings.settings()

    def headrace(*arguments: object, answer: str = "", **variables: str) -> Result:
        words = [str(one) for one in arguments]
        spoken = [] if "--lang" in words else ["--lang", "en"]
        return CliRunner(env={"COLUMNS": "250", **variables}).invoke(
            main, ["--data", str(data), *spoken, *words], input=answer, catch_exceptions=False
        )

    settings.use(Settings(data_dir=data))
    yield headrace
    console.choose("")
    settings.use(before)
    artefacts.use(None)
