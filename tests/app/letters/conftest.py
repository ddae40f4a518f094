"""A pipeline whose model refuses one value and dies of another, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.letters.deadly import SCORES, model
from tests.app.works import Works, rule


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """With an alarm on a score above 1."""
    made = Works(database_url, tmp_path, proto=model(), spec={"rules": [rule()], "outputs": SCORES})
    yield made
    made.close()


@pytest.fixture
def here(tmp_path: Path) -> str:
    """The URL of an empty SQLite database: for what no database can change."""
    return f"sqlite:///{tmp_path / 'here.db'}"
