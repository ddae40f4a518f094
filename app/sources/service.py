"""What a gateway runs of the field: every connection with its tags, secrets opened, and the plant revision it is of."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, select

from app.access.seal import SealError, unseal
from app.db import reading, snapshot
from app.history.queries import received_until
from app.ledger.service import Located, located
from app.places import Places
from app.plant.tables import PlantRevisionRow
from app.readings.tables import BatchRow
from app.sources.tables import ConnectionRow, TagRow
from connectors import ConnectionConfig, TagBinding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import Engine


_NEWEST: Final = (
    select(BatchRow.received_time)
    .where(BatchRow.connection_id == bindparam("of"), BatchRow.gap_id.is_(None))
    .order_by(BatchRow.last_time.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection as it is to be run."""

    id: int
    connector: str
    config: ConnectionConfig
    problem: str = ""
    """Why it cannot be run, for the operator; empty when it can."""
    priority: str = field(default="normal", compare=False)
    """`low`, `normal`, `high`: what the journal drops first. It is read the same whatever this is."""
    stored_until: int = field(default=0, compare=False)
    """ns: when the newest batch in its history was received; 0 without one. A journal that begins anew asks for it."""
    places: Places = field(default_factory=Places, compare=False)
    """To which places in the plant its tags belong; it is read the same whatever they are."""


def revision(engine: Engine) -> int:
    """The plant revision in force; 0 before the first is applied."""
    with reading(engine) as session:
        return session.scalar(select(func.max(PlantRevisionRow.number))) or 0


def running(engine: Engine, data_dir: Path) -> dict[int, Connection]:
    """Every connection in force by id; a secret that cannot be opened becomes its problem.

    Places of tags that the ledger has not had before are put into it.
    """
    tags: dict[int, list[TagBinding]] = defaultdict(list)
    placed: dict[int, list[Located]] = defaultdict(list)
    with snapshot(engine) as session:
        query = select(TagRow).where(TagRow.retired_at.is_(None), TagRow.connection_id.is_not(None)).order_by(TagRow.id)
        for tag in session.scalars(query):
            tags[tag.connection_id or 0].append(TagBinding(tag.id, tag.address, tag.datatype, tag.options or {}))
            placed[tag.connection_id or 0].append(Located(tag.id, tag.address, tag.place))
        rows = session.scalars(select(ConnectionRow).where(ConnectionRow.retired_at.is_(None))).all()
        compacted = received_until(session)
        newest = {row.id: max(session.scalar(_NEWEST, {"of": row.id}) or 0, compacted.get(row.id, 0)) for row in rows}
        found = [_connection(row, tuple(tags[row.id]), data_dir, newest[row.id]) for row in rows]
    places = located(engine, {one.id: placed[one.id] for one in found})
    return {one.id: replace(one, places=places[one.id]) for one in found}


def _connection(row: ConnectionRow, tags: tuple[TagBinding, ...], data_dir: Path, newest: int) -> Connection:
    options, problem = opened(row.options or {})
    folder = data_dir / "connections" / str(row.id)
    config = ConnectionConfig(row.name, options, tags, row.revision, str(folder))
    return Connection(row.id, row.connector, config, problem, row.priority, newest)


def opened(options: Mapping[str, object]) -> tuple[dict[str, object], str]:
    """Options with their secrets in the clear, never to be logged, and why that failed; empty when it did not."""
    try:
        return {key: _open(value) for key, value in options.items()}, ""
    except SealError as error:
        return {}, str(error)


def _open(value: object) -> object:
    if isinstance(value, dict) and set(value) == {"sealed"}:
        return unseal(value)
    if isinstance(value, dict):
        return {key: _open(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_open(one) for one in value]
    return value
