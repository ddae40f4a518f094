"""A database that is away for a while: what workers have taken meanwhile is not waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import structlog

from app.db import make_engine, upgrade
from app.log import DATABASE_LOST, MESSAGES_SENT_AGAIN
from app.queue import DEFAULT_QUEUE, Door
from app.settings import Settings
from tests.app.field.test_gateway import Plant, running
from tests.waiting import wait_for

LONG_S = 600.0


@contextmanager
def away(server_url: str, url: str) -> Iterator[None]:
    """Nobody is connected to this database, and nobody may."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


async def test_catching_up_begins_when_the_database_is_back(
    redis: str, tmp_path: Path, postgres_url: str, postgres_server_url: str
) -> None:
    """Messages that workers let go of are in the queue again at once, though their time is up in ten minutes."""
    upgrade(postgres_url)
    plant, door = Plant(make_engine(postgres_url)), Door(redis)
    plant.configure()
    chosen = Settings(data_dir=tmp_path, database_url=postgres_url, resend_after_s=LONG_S)
    with structlog.testing.capture_logs() as logs:
        async with running(plant, redis, chosen):
            plant.feed(2)
            await wait_for(lambda: door.waiting(DEFAULT_QUEUE) == 2, 30, "both are sent")
            for _ in range(2):
                door._redis.rpop(DEFAULT_QUEUE)  # noqa: SLF001 - a worker takes it, and the database does not answer
            with away(postgres_server_url, postgres_url):
                await wait_for(lambda: any(one["event"] == DATABASE_LOST for one in logs), 30, "it is noticed")
            await wait_for(lambda: door.waiting(DEFAULT_QUEUE) == 2, 30, "both are sent again")
    assert [one["why"] for one in logs if one["event"] == MESSAGES_SENT_AGAIN] == ["database_back"]
    plant.engine.dispose()
    door.close()
