"""What is read of dead letters, and of the outputs of pipelines, whose readings are predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, exists, false, or_, select, type_coerce

from app.db import reading, table
from app.pipelines.tables import PipelineVersionRow
from app.readings.schemas import Reading
from app.readings.tables import DeadLetterRow
from app.scoring.tables import PredictionRow
from app.sources.tables import ConnectionRow

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Engine, Row
    from sqlalchemy.orm import Session

_predictions = table(PredictionRow)


def dead_letters(engine: Engine, before: int | None, limit: int) -> list[tuple[DeadLetterRow, str | None]]:
    """Newest first, with the name of the connection."""
    query = (
        select(DeadLetterRow, ConnectionRow.name)
        .outerjoin(ConnectionRow, ConnectionRow.id == DeadLetterRow.connection_id)
        .order_by(DeadLetterRow.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(DeadLetterRow.id < before)
    with reading(engine) as session:
        rows: list[tuple[DeadLetterRow, str | None]] = [(row, name) for row, name in session.execute(query)]
        session.expunge_all()
    return rows


def outputs(session: Session, tags: Collection[int]) -> dict[int, dict[int, str]]:
    """Per tag that is a pipeline's output: version id to the output's name."""
    spec = PipelineVersionRow.spec
    # The text of the JSON narrows the search; an input may carry the same number, so the JSON itself decides.
    named = [type_coerce(spec, Text).contains(f'"tag":{tag}{after}') for tag in tags for after in ",}"]
    found: dict[int, dict[int, str]] = {}
    for version, one in session.execute(select(PipelineVersionRow.id, spec).where(or_(false(), *named))):
        for output in one.get("outputs", ()):
            if output.get("tag") in tags:
                found.setdefault(output["tag"], {})[version] = output["name"]
    return found


def answers(session: Session, tag: int, start: int, end: int, limit: int) -> list[Reading]:
    """A pipeline's output is a tag too: its readings are the predictions."""
    output = outputs(session, {tag}).get(tag, {})
    at = _predictions.c.end_time
    columns = (_predictions.c.version_id, at, _predictions.c.outputs, _predictions.c.status)
    mine = _predictions.c.version_id.in_(output) & (at >= start) & (at < end) & ~_revised()
    query = select(*columns).where(mine).order_by(at, _predictions.c.sequence).limit(limit)
    return [_answer(row, output) for row in session.execute(query)]


def _revised() -> ColumnElement[bool]:
    """Whether a prediction's window was computed again."""
    later = _predictions.alias()
    same = (later.c.version_id == _predictions.c.version_id) & (later.c.end_time == _predictions.c.end_time)
    return exists().where(same, later.c.revision > _predictions.c.revision)


def _answer(row: Row[*tuple[Any, ...]], output: dict[int, str]) -> Reading:
    return Reading(row.end_time, (row.outputs or {}).get(output[row.version_id]), row.status)


def newest_answer(session: Session, output: dict[int, str]) -> Reading | None:
    """The newest prediction of these versions, as a reading of the output named."""
    at = _predictions.c.end_time
    columns = (_predictions.c.version_id, at, _predictions.c.outputs, _predictions.c.status)
    mine = _predictions.c.version_id.in_(output)
    query = select(*columns).where(mine).order_by(at.desc(), _predictions.c.revision.desc()).limit(1)
    row = session.execute(query).one_or_none()
    return None if row is None else _answer(row, output)
