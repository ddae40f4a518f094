"""Where the numbers of a pipeline version go on after a takeover: without a hole and without a double."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from app import times
from app.db import hurried, insert_all, insert_new, table, writing
from app.leases import service as leases
from app.records import Start
from app.scoring.service import prediction_id
from app.scoring.tables import PredictionRow
from app.takeover.tables import TakeoverRow
from connectors import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine, Row
    from sqlalchemy.orm import Session

    from app.pipelines.service import Version

LOOK_BACK: Final = 20_000
"""Numbers before the newest one among which some may be missing: those that were under way."""
REASON: Final = "taken_over: it was under way when its gateway lost the lease; it may come late"

_predictions = table(PredictionRow)
_NAMES: Final = tuple(one.name for one in _predictions.c)


def begin(engine: Engine, version: Version, connection: int, term: int, *, fresh: bool = False) -> Start | None:
    """Where a version goes on in this term, the same however often it is asked; None when the term is over.

    From here on nothing of an older term gets a number. What is missing below the newest number was under way: its
    place is taken by a tombstone, so that no rule waits for it for ever. `fresh`: it is put in force within the term,
    and counts from 1.
    """
    with writing(engine) as session:
        hurried(session)
        name = leases.connection(connection)
        found = leases.terms(session, [name], leases.Lock.ALONE).get(name)
        if found is None or found.term != term:
            return None
        known = session.get(TakeoverRow, version.id)
        if known is not None and (known.connection_id, known.term) == (connection, term) and not fresh:
            return Start(connection, term, known.first, known.after)
        first, after = (1, 0) if fresh else _next(session, version)
        made = {"connection_id": connection, "term": term, "first": first, "after": after, "at": times.now()}
        if known is None:
            insert_new(session, TakeoverRow, {"version_id": version.id, **made})
        else:
            for column, value in made.items():
                setattr(known, column, value)
        return Start(connection, term, first, after)


def _next(session: Session, version: Version) -> tuple[int, int]:
    """The next number, and up to when the pipeline has its answers. A version that is new counts from 1."""
    numbered = (_predictions.c.pipeline_id == version.pipeline_id) & _predictions.c.sequence.is_not(None)
    order = (_predictions.c.end_time.desc(), _predictions.c.sequence.desc())
    newest = session.execute(select(_predictions).where(numbered).order_by(*order).limit(1)).one_or_none()
    if newest is None:
        return 1, 0
    if newest.version_id != version.id:
        return 1, newest.end_time
    _fill_holes(session, newest)
    return newest.sequence + 1, newest.end_time


def _fill_holes(session: Session, newest: Row[Any]) -> None:
    """Tombstones for the numbers that are missing below the newest one."""
    mine = (_predictions.c.version_id == newest.version_id) & (_predictions.c.end_time <= newest.end_time)
    mine &= _predictions.c.sequence.between(newest.sequence - LOOK_BACK, newest.sequence)
    columns = (_predictions.c.sequence, _predictions.c.end_time)
    rows = session.execute(select(*columns).where(mine).order_by(_predictions.c.end_time.desc())).all()
    made: list[dict[str, Any]] = []
    for later, earlier in pairwise(rows):
        if later.sequence <= earlier.sequence:
            # Numbers began anew here: what lies before is of another time in force.
            break
        made += _tombstones(newest, earlier, later)
    insert_all(session, PredictionRow, made)


def _tombstones(like: Row[Any], earlier: Row[int, int], later: Row[int, int]) -> Sequence[dict[str, Any]]:
    """Between two that are there, at even times: on a grid these are the windows that are missing."""
    missing, span = later.sequence - earlier.sequence - 1, later.end_time - earlier.end_time
    same = {name: like._mapping[name] for name in _NAMES}  # noqa: SLF001 - public name
    made = []
    for i in range(1, missing + 1):
        end, number = earlier.end_time + span * i // (missing + 1), earlier.sequence + i
        start = end - (like.end_time - like.start_time)
        made.append({
            **same,
            "id": prediction_id(like.version_id, start, end, number, 0),
            "sequence": number,
            "revision": 0,
            "start_time": start,
            "end_time": end,
            "status": int(Status.BAD),
            "reason": REASON,
            "outputs": {},
            "unit_id": None,
            "context": {},
            "latency_ns": 0,
            "newest_time": end,
            "created_time": times.now(),
            "input_digest": "",
        })
    return made


__all__ = ["begin"]
