"""Plant files to break in one place at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config.check import check_file
from app.config.desired import Desired
from app.config.document import DocumentError, Mistake
from inference.model import digests, import_model

PACKAGE = Path(__file__).parents[3] / "examples" / "tightening" / "package"

GOOD = """\
version: 1
plant: {enterprise: acme, site: suzhou}
connections:
  - name: station
    connector: mqtt
    options:
      url: mqtt://127.0.0.1:1883
      username: headrace
      password: {file: secret}
tags:
  - {name: torque, connection: station, address: "st/curve#/torque", unit: N.m}
  - {name: angle, connection: station, address: "st/curve#/angle", unit: deg}
  - {name: counter, connection: station, datatype: integer, address: "st/cycle#/counter"}
  - {name: serial, connection: station, datatype: string, address: "st/cycle#/unit_id"}
models:
  - {name: judge, digest: "DIGEST"}
pipelines:
  - name: tightening
    model: judge
    window: {trigger: counter}
    inputs: {tags: [torque, angle]}
    context: {unit_id: serial}
    rules:
      - {name: bad, output: score, above: 1.0, clear: 0.8}
northbound:
  - name: mes
    connector: mqtt
    options: {url: "mqtt://127.0.0.1:1883"}
"""

Check = Callable[[str], Desired]
Wrong = Callable[[str], list[Mistake]]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the model: a file that names it by digest needs no child process to be checked."""
    made = tmp_path_factory.mktemp("models")
    import_model(PACKAGE, made)
    return made


@pytest.fixture
def check(tmp_path: Path, store: Path) -> Check:
    """Check this text as a file of its own, beside a file with a secret."""
    (tmp_path / "secret").write_text("hunter2hunter2\n")

    def run(text: str) -> Desired:
        file = tmp_path / "plant.yaml"
        file.write_text(text, encoding="utf-8")
        return check_file(file, store)

    return run


@pytest.fixture
def wrong(check: Check) -> Wrong:
    """The mistakes that a check of this text finds."""

    def run(text: str) -> list[Mistake]:
        with pytest.raises(DocumentError) as caught:
            check(text)
        return list(caught.value.mistakes)

    return run


@pytest.fixture
def good(store: Path) -> str:
    """A plant file without a mistake."""
    (digest,) = digests(store)
    return GOOD.replace("DIGEST", digest)


@pytest.fixture
def with_path(good: str) -> str:
    """The same file, which names the model by its path."""
    return re.sub(r"digest: \S+\"", f'path: "{PACKAGE}"', good)
