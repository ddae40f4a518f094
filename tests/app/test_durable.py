"""A commit has reached the disk when the database says it is done."""

from __future__ import annotations

from contextlib import closing

from app.db import make_engine


def test_a_commit_waits_for_the_disk(database_url: str) -> None:
    """Every connection of SQLite has synchronous=FULL in WAL mode, every one of PostgreSQL synchronous_commit=on."""
    engine = make_engine(database_url)
    asked, durable = {
        "sqlite": (("PRAGMA synchronous", "PRAGMA journal_mode"), [2, "wal"]),
        "postgresql": (("SHOW synchronous_commit", "SHOW fsync"), ["on", "on"]),
    }[engine.dialect.name]
    with closing(engine.raw_connection()) as first, closing(engine.raw_connection()) as second:
        for connection in (first, second):
            cursor = connection.cursor()
            answers: list[object] = []
            for question in asked:
                cursor.execute(question)
                answers += cursor.fetchone() or ()
            assert answers == durable
    engine.dispose()
