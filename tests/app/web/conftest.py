"""A web API over a real database with an admin, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app import settings, tables
from app.access import service
from app.access.schemas import ROLES
from app.access.tables import UserRow
from app.db import make_engine, writing
from app.main import make_app
from app.settings import Settings
from tests.app.web.line import Line

Role = Callable[[str], TestClient]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[TestClient]:
    """A client of the API over an empty SQLite database."""
    app = make_app(f"sqlite:///{tmp_path / 'web.db'}")
    tables.metadata.create_all(app.state.engine)
    with TestClient(app, client=("127.0.0.1", 50000)) as client:
        yield client


@pytest.fixture
def engine(web: TestClient) -> Engine:
    """The engine behind the API."""
    found: Engine = web.app.state.engine  # type: ignore[attr-defined]  # the client's app is ours
    return found


@pytest.fixture
def admin(web: TestClient, engine: Engine) -> TestClient:
    """The client, logged in as the first admin."""
    password = service.ensure_admin(engine)
    assert password is not None
    answer = web.post("/api/v1/session", json={"name": "admin", "password": password})
    web.headers["Authorization"] = f"Bearer {answer.json()['token']}"
    return web


@pytest.fixture
def other_engine(tmp_path: Path) -> Iterator[Engine]:
    """A database of its own, with no API over it."""
    engine = make_engine(f"sqlite:///{tmp_path / 'other.db'}")
    tables.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def role(web: TestClient, engine: Engine) -> Role:
    """The client as somebody with this role."""

    def become(name: str) -> TestClient:
        with writing(engine) as session:
            user = UserRow(name=f"a-{name}", password_hash="", role=name, created_at=1)
            session.add(user)
            session.flush()
            token = service.issue_token(session, user.id, name="t", kind="api", permissions=ROLES[name], ttl_s=60)
        web.headers["Authorization"] = f"Bearer {token}"
        return web

    return become


@pytest.fixture
def line(admin: TestClient, engine: Engine, tmp_path: Path) -> Iterator[Line]:
    """A line behind the API that `admin` asks."""
    del admin
    settings.use(Settings(data_dir=tmp_path))
    made = Line(engine, tmp_path)
    yield made
    made.sessions.drop_all()
