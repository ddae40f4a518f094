"""What people read of dead letters: which there are, what one holds, and what has become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import select

from app.db import reading
from app.letters.tables import DeadWindowsRow
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.readings.tables import DeadLetterRow
from app.sources.tables import ConnectionRow, TagRow

if TYPE_CHECKING:
    from sqlalchemy import Engine

Found: TypeAlias = "tuple[DeadLetterRow, DeadWindowsRow | None, str | None, str | None, int | None]"
"""The letter, its windows, the names of its connection and pipeline, and the version's number."""

_FOUND = (
    select(DeadLetterRow, DeadWindowsRow, ConnectionRow.name, PipelineRow.name, PipelineVersionRow.number)
    .outerjoin(DeadWindowsRow, DeadWindowsRow.letter_id == DeadLetterRow.id)
    .outerjoin(ConnectionRow, ConnectionRow.id == DeadLetterRow.connection_id)
    .outerjoin(PipelineVersionRow, PipelineVersionRow.id == DeadWindowsRow.version_id)
    .outerjoin(PipelineRow, PipelineRow.id == PipelineVersionRow.pipeline_id)
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters; None is any."""

    pipeline: str | None = None
    state: str | None = None
    windows_only: bool = False


def letters(engine: Engine, wanted: Wanted, before: int | None, limit: int) -> list[Found]:
    """Newest first; `before` is the id of the last one of the page before."""
    query = _FOUND.order_by(DeadLetterRow.id.desc()).limit(limit)
    if wanted.windows_only or wanted.state is not None:
        query = query.where(DeadWindowsRow.letter_id.is_not(None))
    if wanted.state is not None:
        query = query.where(DeadWindowsRow.state == wanted.state)
    if wanted.pipeline is not None:
        query = query.where(PipelineRow.name == wanted.pipeline)
    if before is not None:
        query = query.where(DeadLetterRow.id < before)
    with reading(engine) as session:
        rows: list[Found] = [(row[0], row[1], row[2], row[3], row[4]) for row in session.execute(query)]
        session.expunge_all()
    return rows


def letter(engine: Engine, letter_id: int) -> Found | None:
    """One letter by its id."""
    with reading(engine) as session:
        row = session.execute(_FOUND.where(DeadLetterRow.id == letter_id)).one_or_none()
        session.expunge_all()
    return None if row is None else (row[0], row[1], row[2], row[3], row[4])


def input_names(engine: Engine, version: int) -> list[str]:
    """The tags of a version's inputs, in the order of its windows' columns; empty where it cannot be read."""
    with reading(engine) as session:
        spec = session.scalar(select(PipelineVersionRow.spec).where(PipelineVersionRow.id == version))
        inputs = spec.get("inputs", ()) if isinstance(spec, dict) else ()
        tags = [one["tag"] for one in inputs if isinstance(one, dict) and "tag" in one]
        named = session.execute(select(TagRow.id, TagRow.name).where(TagRow.id.in_(tags)))
        names = {row.id: row.name for row in named}
    return [names.get(tag, str(tag)) for tag in tags]
