"""A database, a configured plant and a queue for tests that run a whole gateway in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db import make_engine, upgrade
from app.launcher import servers
from tests.app.field.test_gateway import Plant


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database at the newest schema."""
    upgrade(database_url)
    made = make_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def plant(engine: Engine) -> Plant:
    """Configured."""
    made = Plant(engine)
    made.configure()
    return made


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[str]:
    """A Redis of the test's own: its queue is the workers'."""
    async with servers.redis(tmp_path) as url:
        yield url
