"""The database in a backup: every table as rows of one moment, and into an empty database again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Engine, MetaData, Table, column, delete, func, insert, inspect, select
from sqlalchemy import table as named

from app import times
from app.access import service as access
from app.backup.archive import BackupError
from app.db import add_to, snapshot, writing
from app.ledger.tables import HeldRow, JournalStateRow, LedgerRow
from app.places import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

REVISIONS: Final = "alembic_version"
CONFIGURATION: Final = frozenset((
    "users", "tokens", "audit", "connections", "tags", "tag_versions", "plant_revisions", "models", "pipelines",
    "pipeline_versions", "overrides", "subscriptions", "history_classes",
))  # fmt: skip
"""Tables that hold what people have decided; the others hold what came of it."""
PART_BYTES: Final = 4 * 2**20
FETCH: Final = 100
"""Rows at a time: a row of the history may hold 150 KB."""
NOT_IN_BACKUP: Final = "not_in_backup"
"""Of readings that lay in a journal when the backup was made: journals are not part of it."""


def tables(connection: Connection, *, history: bool) -> list[Table]:
    """As the database has them, those that others refer to first."""
    found = MetaData()
    found.reflect(connection)
    return [
        one for one in found.sorted_tables if one.name != REVISIONS and (history or one.name in CONFIGURATION)
    ]  # fmt: skip


def revision(connection: Connection) -> str:
    """Of the schema. BackupError when the database was never set up."""
    if REVISIONS not in inspect(connection).get_table_names():
        message = "there is nothing to back up: this database was never set up"
        raise BackupError(message)
    return str(connection.execute(select(column("version_num")).select_from(named(REVISIONS))).scalar_one())


def rows_of(connection: Connection, of: Table) -> Iterator[tuple[bytes, int]]:
    """Its rows in the order of its key, in parts of some MB: msgpack, and how many."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    query = select(of).order_by(*of.primary_key.columns)
    for row in connection.execution_options(stream_results=True, yield_per=FETCH).execute(query):
        values = tuple(bytes(one) if isinstance(one, memoryview) else one for one in row)
        rows.append(values)
        size += sum(len(one) if isinstance(one, (bytes, str)) else 9 for one in values)
        if size >= PART_BYTES:
            yield msgspec.msgpack.encode(rows), len(rows)
            rows, size = [], 0
    if rows:
        yield msgspec.msgpack.encode(rows), len(rows)


def empty(engine: Engine) -> bool:
    """Whether no table of the database holds a row."""
    with snapshot(engine) as session:
        connection = session.connection()
        return not any(connection.execute(select(one).limit(1)).first() for one in tables(connection, history=True))


class Loading:
    """One transaction that fills an empty database of the backup's own schema."""

    def __init__(self, session: Session, columns: Mapping[str, Sequence[str]]) -> None:
        """`columns`: of each table, in the order of its rows. BackupError when the schema has others."""
        self._session = session
        self._tables = {one.name: one for one in tables(session.connection(), history=True)}
        self._columns = columns
        for name, mine in columns.items():
            if name not in self._tables or set(mine) != set(self._tables[name].columns.keys()):
                message = "the backup has a table {table} that its own schema has not: take another one"
                raise BackupError(message, table=name)

    def add(self, name: str, content: bytes) -> int:
        """A part of a table's rows; returns how many. BackupError."""
        if name not in self._columns:
            message = "the backup does not say what is in its table {table}: take another one"
            raise BackupError(message, table=name)
        columns = self._columns[name]
        rows = msgspec.msgpack.decode(content, type=list[tuple[Any, ...]])
        if any(len(row) != len(columns) for row in rows):
            message = "a row of table {table} has not the columns that the backup states: take another one"
            raise BackupError(message, table=name)
        if rows:
            values = [dict(zip(columns, row, strict=True)) for row in rows]
            self._session.connection().execute(insert(self._tables[name]), values)
        return len(rows)

    def numbered(self) -> None:
        """Let numbers that the database hands out go on after the highest."""
        connection = self._session.connection()
        if connection.dialect.name != "postgresql":
            return
        for one in self._tables.values():
            keys = list(one.primary_key.columns)
            sequence = len(keys) == 1 and connection.execute(
                select(func.pg_get_serial_sequence(one.name, keys[0].name))
            ).scalar()
            if sequence:
                highest = connection.execute(select(func.max(keys[0]))).scalar()
                if highest is not None:
                    connection.execute(select(func.setval(sequence, highest)))


def settle(engine: Engine, who: str, made_at: int) -> int:
    """After a restore: what the old journals held is not here and never comes. Returns how many readings that are.

    Each is counted as dropped, so that the ledger balances again and says why.
    """
    missing = 0
    key: dict[str, object]
    with writing(engine) as session:
        sums = (
            select(LedgerRow.journal, LedgerRow.connection_id, LedgerRow.fate, func.sum(LedgerRow.readings))
            .group_by(LedgerRow.journal, LedgerRow.connection_id, LedgerRow.fate)
        )  # fmt: skip
        fates: dict[tuple[str, int], dict[str, int]] = {}
        for journal, connection, fate, readings in session.execute(sums):
            fates.setdefault((journal, connection), {})[fate] = int(readings)
        for state in session.scalars(select(JournalStateRow)):
            mine = fates.get((state.journal, state.connection_id), {})
            state.stored, state.refused = mine.get("stored", 0), mine.get("refused", 0)
            state.lost_by_peer = mine.get("lost_by_peer", 0)
            decided = state.stored + state.refused + mine.get("dropped", 0)
            gone = max(0, state.read - decided)
            if gone:
                key = {"journal": state.journal, "connection_id": state.connection_id, "place_id": NOWHERE}
                key |= {"fate": "dropped", "reason": NOT_IN_BACKUP}
                add_to(session, LedgerRow, key, {"readings": gone, "batches": 0})
            state.dropped = mine.get("dropped", 0) + gone
            state.read, state.held, state.at = decided + gone, 0, times.now()
            missing += gone
        session.execute(delete(HeldRow))
        access.audit(session, who, "restore", "box", {"backup_of": times.rfc3339(made_at), NOT_IN_BACKUP: missing})
    return missing
