"""A gateway's past on either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.history.past import Past
from tests.app.works import Works


@pytest.fixture
def past(database_url: str, tmp_path: Path) -> Iterator[Past]:
    """Two tags of one connection, nothing stored yet."""
    works = Works(database_url, tmp_path)
    yield Past(works)
    works.close()
