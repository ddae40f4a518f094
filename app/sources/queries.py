"""What the API reads of connections and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from app.db import reading
from app.sources.tables import ConnectionRow, TagRow

if TYPE_CHECKING:
    from sqlalchemy import Engine, Select
    from sqlalchemy.orm import Session


def connections(engine: Engine) -> list[tuple[ConnectionRow, int]]:
    """Every connection in force with the number of its tags, by name."""
    count = (
        select(func.count())
        .where(TagRow.connection_id == ConnectionRow.id, TagRow.retired_at.is_(None))
        .scalar_subquery()
    )
    query = select(ConnectionRow, count).where(ConnectionRow.retired_at.is_(None)).order_by(ConnectionRow.name)
    with reading(engine) as session:
        rows = [(row, int(tags)) for row, tags in session.execute(query)]
        session.expunge_all()
    return rows


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def tags(
    engine: Engine,
    *,
    connection: str | None,
    search: str | None,
    after: int,
    limit: int,
) -> list[tuple[TagRow, str | None]]:
    """Tags in force with their connection's name, by id; `search` looks into name, place and description."""
    query: Select[TagRow, str] = (
        select(TagRow, ConnectionRow.name)
        .outerjoin(ConnectionRow, ConnectionRow.id == TagRow.connection_id)
        .where(TagRow.retired_at.is_(None), TagRow.id > after)
        .order_by(TagRow.id)
        .limit(limit)
    )
    if connection is not None:
        query = query.where(ConnectionRow.name == connection)
    if search:
        pattern = f"%{_escaped(search)}%"
        columns = (TagRow.name, TagRow.place, TagRow.description)
        query = query.where(or_(*(column.ilike(pattern, escape="\\") for column in columns)))
    with reading(engine) as session:
        rows: list[tuple[TagRow, str | None]] = [(row, name) for row, name in session.execute(query)]
        session.expunge_all()
    return rows


def find_tag(session: Session, reference: str) -> TagRow | None:
    """A tag by its id, retired ones too, or else by its name among those in force."""
    if reference.isdecimal():
        return session.get(TagRow, int(reference))
    return session.scalar(select(TagRow).where(TagRow.name == reference, TagRow.retired_at.is_(None)))


def tag(engine: Engine, reference: str) -> TagRow | None:
    """`find_tag` in a transaction of its own."""
    with reading(engine) as session:
        row = find_tag(session, reference)
        session.expunge_all()
    return row
