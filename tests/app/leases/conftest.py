"""A pipeline on either database, and four leases that two gateways want."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.works import Works


@pytest.fixture
def works(database_url: str, tmp_path: Path) -> Iterator[Works]:
    """The plainest pipeline, with one rule."""
    made = Works(database_url, tmp_path, spec={"rules": [{"name": "high", "output": "score", "above": 1.0}]})
    yield made
    made.close()
