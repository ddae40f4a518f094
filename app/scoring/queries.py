"""What the API reads of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import and_, or_, select

from app.db import reading
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.scoring.tables import PredictionRow
from app.sources.tables import TagRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Engine, Select

OF_A_TAG: Final = ("gap", "no_data", "bad_status", "not_finite", "wrong_type", "too_long")
"""Reasons that carry the id of a tag."""

Found: TypeAlias = tuple[PredictionRow, str, int]
"""The row, its pipeline's name, the version's number."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which predictions: None means any. Times are ns of the window's end, from inclusive, to exclusive."""

    pipeline: str | None = None
    unit_id: str | None = None
    since: int | None = None
    until: int | None = None
    refused: bool | None = None
    after: tuple[int, str] | None = None
    """End time and id of the last row of the page before."""


def _joined() -> Select[PredictionRow, str, int]:
    return (
        select(PredictionRow, PipelineRow.name, PipelineVersionRow.number)
        .join(PipelineRow, PipelineRow.id == PredictionRow.pipeline_id)
        .join(PipelineVersionRow, PipelineVersionRow.id == PredictionRow.version_id)
    )


def predictions(engine: Engine, wanted: Wanted, limit: int) -> list[Found]:
    """Newest window first."""
    row = PredictionRow
    query = _joined().order_by(row.end_time.desc(), row.id.desc()).limit(limit)
    if wanted.pipeline is not None:
        query = query.where(PipelineRow.name == wanted.pipeline)
    if wanted.unit_id is not None:
        query = query.where(row.unit_id == wanted.unit_id)
    if wanted.since is not None:
        query = query.where(row.end_time >= wanted.since)
    if wanted.until is not None:
        query = query.where(row.end_time < wanted.until)
    if wanted.refused is not None:
        query = query.where(row.reason != "" if wanted.refused else row.reason == "")
    if wanted.after is not None:
        end, last = wanted.after
        query = query.where(or_(row.end_time < end, and_(row.end_time == end, row.id < last)))
    with reading(engine) as session:
        rows = [(p, name, number) for p, name, number in session.execute(query)]
        session.expunge_all()
    return rows


def prediction(engine: Engine, prediction_id: str) -> Found | None:
    """One prediction by its id."""
    with reading(engine) as session:
        found = session.execute(_joined().where(PredictionRow.id == prediction_id)).one_or_none()
        session.expunge_all()
    return None if found is None else (found[0], found[1], found[2])


def tag_of(reason: str) -> int | None:
    """The id of the tag that a reason speaks of; None where it speaks of something else."""
    word, _, number = reason.partition(":")
    return int(number) if word in OF_A_TAG and number.isascii() and number.isdigit() else None


def tag_names(engine: Engine, found: Iterable[Found]) -> Mapping[int, str]:
    """The names of the tags that these were refused for, by id."""
    wanted = {tag for row, _, _ in found if (tag := tag_of(row.reason)) is not None}
    if not wanted:
        return {}
    with reading(engine) as session:
        rows = session.execute(select(TagRow.id, TagRow.name).where(TagRow.id.in_(wanted)))
        return {row.id: row.name for row in rows}
