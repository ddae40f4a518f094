"""How Alembic reaches the database: the URL comes from `app.db.upgrade`, else from the settings."""

from __future__ import annotations

from typing import Final, Literal

from alembic import context
from sqlalchemy import text

from app import tables
from app.db import Json, make_engine
from app.settings import settings

ONE_AT_A_TIME: Final = "SELECT pg_advisory_lock(7224373228)"
"""Services that start together may all upgrade; the lock ends with the connection."""
LOCK_TIMEOUT: Final = "SET lock_timeout = '5s'"
STATEMENT_TIMEOUT: Final = "SET statement_timeout = '300s'"
"""A migration waits for nobody long: a running gateway must not be held up behind a table lock."""


def render(kind: str, item: object, _autogen: object) -> str | Literal[False]:
    """Our own column types as what they are in the database, so that a revision needs nothing of the service."""
    if kind == "type" and isinstance(item, Json):
        return "sa.Text()"
    return False


def run() -> None:
    """Run the wanted revisions in one transaction: all of them or none."""
    engine = make_engine(context.config.attributes.get("url") or settings().database())
    try:
        # SQLite takes its write lock first, so that a second upgrade waits and then finds nothing to do.
        with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection:
            if engine.dialect.name == "postgresql":
                for statement in (ONE_AT_A_TIME, LOCK_TIMEOUT, STATEMENT_TIMEOUT):
                    connection.execute(text(statement))
                connection.commit()
            context.configure(
                connection=connection,
                target_metadata=tables.metadata,
                transactional_ddl=True,
                render_as_batch=engine.dialect.name == "sqlite",
                compare_type=True,
                render_item=render,
            )
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


run()
