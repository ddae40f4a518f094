"""Environments of makers' runtimes, as `make test-accelerators` makes them; without one its tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from inference import engines

FOLDER = Path(__file__).parents[3] / ".accelerators"
Place: TypeAlias = Callable[[str, str], None]


@pytest.fixture
def place() -> Iterator[Place]:
    """`place(vendor, environment)`: from here on the vendor runs in an engine of that environment."""

    def run(vendor: str, environment: str) -> None:
        python = FOLDER / environment / "bin" / "python"
        if not python.exists():
            pytest.skip(f"there is no environment {environment}: run `make test-accelerators`")
        engines.use({vendor: str(python)})

    yield run
    engines.stop()
