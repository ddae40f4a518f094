"""Journals in folders of the test's own, closed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.journal import Journal

Open = Callable[..., Journal]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the journal lies."""
    return tmp_path / "journal"


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    """Opens the journal of this test, again and again if need be."""
    made: list[Journal] = []

    def open_(where: Path = folder, *, budget: int = 64 * 2**20, commit_interval_s: float = 0.001) -> Journal:
        journal = Journal(where, "test", commit_interval_s=commit_interval_s, budget=budget)
        made.append(journal)
        return journal

    yield open_
    for journal in made:
        journal.close()
