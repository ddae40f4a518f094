"""Pipeline versions as a gateway and a worker run them: what is in force, and its windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError
from sqlalchemy import select

from app.db import reading
from app.pipelines.schemas import InputSpec, PipelineSpec
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.times import NANOS
from inference.window import Input, Spec

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Engine
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one pipeline."""

    id: int
    pipeline_id: int
    pipeline: str
    number: int
    spec: PipelineSpec
    windows: Spec


@dataclass(frozen=True, slots=True)
class Unusable:
    """A version that cannot be run, and why."""

    id: int
    pipeline: str
    reason: str


def active(engine: Engine) -> tuple[dict[int, Version], list[Unusable]]:
    """The versions in force by id, and those in force that cannot be run."""
    with reading(engine) as session:
        return in_force(session)


def in_force(session: Session) -> tuple[dict[int, Version], list[Unusable]]:
    """The same in a transaction."""
    return _versions(session, PipelineVersionRow.id == PipelineRow.active_version)


def versions(engine: Engine, ids: Collection[int]) -> tuple[dict[int, Version], list[Unusable]]:
    """These versions by id, whether in force or not. A version never changes: keep what was read."""
    with reading(engine) as session:
        return _versions(session, PipelineVersionRow.id.in_(ids))


def of_session(session: Session, ids: Collection[int]) -> dict[int, Version]:
    """Those of these versions that can be run, in a transaction."""
    return _versions(session, PipelineVersionRow.id.in_(ids))[0]


def _versions(session: Session, wanted: ColumnElement[bool]) -> tuple[dict[int, Version], list[Unusable]]:
    query = (
        select(PipelineVersionRow, PipelineRow.name)
        .join(PipelineRow, PipelineRow.id == PipelineVersionRow.pipeline_id)
        .where(wanted)
        .order_by(PipelineVersionRow.id)
    )
    made = [_version(row, name) for row, name in session.execute(query)]
    usable = {one.id: one for one in made if isinstance(one, Version)}
    return usable, [one for one in made if isinstance(one, Unusable)]


def _version(row: PipelineVersionRow, name: str) -> Version | Unusable:
    try:
        spec = PipelineSpec.model_validate(row.spec)
        return Version(row.id, row.pipeline_id, name, row.number, spec, window_spec(spec))
    except (ValidationError, ValueError) as error:
        return Unusable(row.id, name, str(error))


def window_spec(spec: PipelineSpec) -> Spec:
    """When its windows open and close, and what they hold. ValueError, with every problem, when it makes no sense."""
    window = spec.window
    return Spec(
        kind=window.kind,
        inputs=tuple(_input(one) for one in spec.inputs),
        step_ns=round(window.step_s * NANOS),
        length=window.length,
        hop=window.hop,
        lateness_ns=round(window.lateness_s * NANOS),
        trigger=window.trigger,
        trigger_connection=window.trigger_connection,
        max_length_ns=round(window.max_length_s * NANOS),
        context=tuple(spec.context.items()),
        stop=window.stop,
        stop_connection=window.stop_connection,
        shape=window.shape,
    )


def _input(one: InputSpec) -> Input:
    return Input(
        tag=one.tag,
        connection=one.connection,
        resample=one.resample,
        policy=one.policy,
        hold_s=one.hold_s,
        max_gap_s=one.max_gap_s,
        use_received_time=one.use_received_time,
    )
