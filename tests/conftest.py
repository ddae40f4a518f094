"""Real servers for every test that needs one, started once through the project's own launcher."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from app.launcher import servers
from app.selftest.preload import NoCompilerError, Preload
from tests.databases import empty_database

# How long an example takes says something of the machine, nothing of the code.
hypothesis.settings.register_profile("headrace", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("headrace")


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """A folder that the account of PostgreSQL may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="headrace-tests-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url(servers_dir: Path) -> AsyncIterator[str]:
    """A Redis with a password, shared by the session: use queues and keys of your own."""
    async with servers.redis(servers_dir) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker(servers_dir: Path) -> AsyncIterator[servers.Broker]:
    """An MQTT broker with user and password, shared by the session: use topics and client ids of your own."""
    async with servers.broker(servers_dir) as address:
        yield address


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server_url(servers_dir: Path) -> AsyncIterator[str]:
    """The administrator's URL of a PostgreSQL shared by the session."""
    async with servers.postgres(servers_dir) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own."""
    with empty_database(postgres_server_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of the test's own: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'headrace.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def preload(tmp_path: Path) -> Preload:
    """Built; skipped where there is no compiler, as the acceptance test leaves these faults out."""
    try:
        return Preload(tmp_path)
    except NoCompilerError as error:
        pytest.skip(str(error))
