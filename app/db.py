"""The database: one engine for SQLite and PostgreSQL, durable settings on, and the column types that both share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Dialect,
    Engine,
    Insert,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    Update,
    and_,
    bindparam,
    create_engine,
    event,
    insert,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, InterfaceError, InternalError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

UnreachableError: Final = (OperationalError, InterfaceError, InternalError)
"""The database does not answer; also what it says of a statement that it cannot carry out now, or of a transaction
that it has ended because we stood still in it."""


class LaterSchemaError(Exception):
    """The database, or a backup, was made by a later release: install that one, or a newer. Nothing was changed."""

    def __init__(self, revision: str) -> None:
        """`revision`: of the schema that is not known here."""
        super().__init__(f"made by a later release (schema {revision}): install that release or a newer one")
        self.revision = revision


Big = BigInteger().with_variant(Integer(), "sqlite")
"""64-bit integer that SQLite also takes as an auto-incremented key (its INTEGER is 64 bits)."""


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""One encoder for all: json.dumps makes a new one at each call."""


class Json(TypeDecorator[Any]):
    """JSON as text: domestic databases know no common JSON type."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:  # noqa: ARG002 - the library's
        """None stays NULL."""
        return None if value is None else _encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ANN401, ARG002 - any JSON value
        """NULL stays None."""
        return None if value is None else json.loads(value)


class Base(DeclarativeBase):
    """What every row class derives from; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        },
    )


def _sqlite_on_connect(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves, see below
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def make_engine(url: str) -> Engine:
    """An engine for this URL: SQLite in WAL with synchronous=FULL, PostgreSQL with synchronous_commit=on."""
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30})
        event.listen(engine, "connect", _sqlite_on_connect)
        event.listen(engine, "begin", lambda c: c.exec_driver_sql(c.get_execution_options().get("begin", "BEGIN")))
        return engine
    return create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_pre_ping=True,
        # A statement or a lock that waits for longer is wrong: the caller tries again instead of holding others up.
        # A database made with another encoding, or none, still gives and takes text as UTF-8.
        connect_args={
            "options": "-c synchronous_commit=on -c lock_timeout=30s",
            "connect_timeout": 10,
            "client_encoding": "utf8",
            # A line that is cut without a word is noticed in time for a lease, not after hours.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A transaction that only reads."""
    with Session(engine) as session, session.begin():
        yield session


@contextmanager
def noting(engine: Engine) -> Iterator[Session]:
    """A transaction whose rows must outlive this process, and need not outlive the machine: no wait for the disk.

    On SQLite a commit that does wait takes it along.
    """
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            with Session(connection) as session, session.begin():
                session.execute(text("SET LOCAL synchronous_commit TO off"))
                yield session
            return
        cursor = connection.connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        try:
            first = connection.execution_options(begin="BEGIN IMMEDIATE")
            with Session(first) as session, session.begin():
                yield session
        finally:
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.close()


def snapshot(engine: Engine) -> Session:
    """A session that only reads, and whose statements all see the same state of the database."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    return Session(engine)


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A transaction that writes; on SQLite it takes the write lock at once, so that it never fails half way."""
    first = engine.connect().execution_options(begin="BEGIN IMMEDIATE")
    with first as connection, Session(connection) as session, session.begin():
        yield session


def hurried(session: Session) -> None:
    """Let the database end this transaction soon after whoever began it stands still, with the locks it has.

    A process that is stopped, or cut off, in the middle of it would hold up a takeover for as long. SQLite cannot.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '4s'; SET LOCAL lock_timeout = '4s'"))


def table(row: type[Base]) -> Table:
    """The table behind a row class: statements on it cost a fraction of those on the class."""
    found = row.__table__
    if not isinstance(found, Table):
        message = f"{row.__name__} is mapped to something else than a table"
        raise TypeError(message)
    return found


def insert_all(session: Session, row: type[Base], values: Sequence[Mapping[str, object]]) -> None:
    """Insert many rows in one call to the driver; nothing for none. IntegrityError when one is there already."""
    if values:
        session.connection().execute(_insert(row), [dict(one) for one in values])


@cache
def _insert(row: type[Base]) -> Insert:
    return insert(table(row))


def insert_new(session: Session, row: type[Base], *values: Mapping[str, object]) -> bool:
    """Insert these rows unless one with its key is there already, then none; True when they were inserted.

    A savepoint instead of a dialect's ON CONFLICT: domestic databases do not share one.
    """
    try:
        with session.begin_nested():
            insert_all(session, row, values)
    except IntegrityError:
        return False
    return True


def add_to(session: Session, row: type[Base], key: Mapping[str, object], amounts: Mapping[str, int]) -> None:
    """Add to counters of the row with this key; the row is made when it is not there yet."""
    grown = _grown(row, tuple(key), tuple(amounts))
    by = {f"of_{name}": value for name, value in key.items()} | {f"by_{name}": n for name, n in amounts.items()}
    if session.connection().execute(grown, by).rowcount:
        return
    if not insert_new(session, row, {**key, **amounts}):
        session.connection().execute(grown, by)


@cache
def _grown(row: type[Base], key: tuple[str, ...], amounts: tuple[str, ...]) -> Update:
    """The statement that adds to counters: `of_NAME` names the row, `by_NAME` is added."""
    target = table(row)
    mine = and_(*(target.c[name] == bindparam(f"of_{name}") for name in key))
    return update(target).where(mine).values({name: target.c[name] + bindparam(f"by_{name}") for name in amounts})


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at this URL to the newest schema, or to this one; an empty one gets all of it.

    Raises LaterSchemaError where either is not known here; UnreachableError.
    """
    from alembic import command  # noqa: PLC0415 - a worker has no need to load it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script.revision import ResolutionError  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.attributes["url"] = url
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        if isinstance(error.__cause__, ResolutionError):
            raise LaterSchemaError(error.__cause__.argument) from error
        raise


def main() -> None:
    """`python -m app.db`: upgrade the database that the settings name."""
    from app.settings import settings  # noqa: PLC0415 - only this entry point needs them

    try:
        upgrade(settings().database())
    except LaterSchemaError as error:
        sys.exit(f"the database was {error}")


__all__ = [
    "Base",
    "Big",
    "Engine",
    "Json",
    "LaterSchemaError",
    "UnreachableError",
    "add_to",
    "hurried",
    "insert_all",
    "insert_new",
    "make_engine",
    "noting",
    "reading",
    "snapshot",
    "table",
    "upgrade",
    "writing",
]

if __name__ == "__main__":
    main()
