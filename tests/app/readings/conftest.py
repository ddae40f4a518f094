"""A pipeline on either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.works import Works


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """The plainest pipeline."""
    made = Works(database_url, tmp_path)
    yield made
    made.close()
