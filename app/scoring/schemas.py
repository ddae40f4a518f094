"""What the consumers are told of a prediction: a body for messages, nodes for our server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app import times
from app.northbound.schemas import (
    PREDICTION_TYPE,
    ROOT,
    SEVERITY,
    Announcement,
    North,
    PredictionBody,
    node,
)

if TYPE_CHECKING:
    from app.inferring import Scored


def announcement(scored: Scored, row: dict[str, Any], told: North) -> Announcement:
    """Of a prediction that was stored. `row`: its columns."""
    version, late = scored.version, ("late",) if row["late"] else ()
    return Announcement(
        id=row["id"],
        key=":".join(("pipeline", version.pipeline, *late)),
        levels=(version.spec.asset, "prediction", version.pipeline, *late),
        content_type=PREDICTION_TYPE,
        body=msgspec.json.encode(_body(scored, row)) if told.bodies else b"",
        nodes=_nodes(scored, row) if told.nodes else [],
        source_time=row["newest_time"],
        due_at=row["created_time"],
    )


def _body(scored: Scored, row: dict[str, Any]) -> PredictionBody:
    return PredictionBody(
        id=row["id"],
        pipeline=scored.version.pipeline,
        version=scored.version.number,
        sequence=row["sequence"],
        revision=row["revision"],
        late=row["late"],
        start=times.rfc3339(row["start_time"]),
        end=times.rfc3339(row["end_time"]),
        status=row["status"],
        quality=SEVERITY[row["status"] >> 30],
        reason=row["reason"],
        outputs=row["outputs"],
        unit_id=row["unit_id"],
        context=row["context"],
        model=row["model_digest"],
        device=row["device"],
        backend=row["backend"],
        latency_ms=row["latency_ns"] / 1e6,
        newest_time=times.rfc3339(row["newest_time"]),
    )


def _nodes(scored: Scored, row: dict[str, Any]) -> list[dict[str, Any]]:
    """A node per output that is one number, truth value or text; without an answer its last type with a Bad status."""
    spec = scored.version.spec
    base = "/".join(level for level in (ROOT, spec.asset, spec.name) if level)
    status, at = row["status"], row["end_time"]
    made = [node(f"{base}/prediction_id", row["id"], status, at, description="Id of the prediction shown here")]
    if row["unit_id"]:
        made.append(node(f"{base}/unit_id", row["unit_id"], status, at, description="The part"))
    for output in spec.outputs:
        value = row["outputs"].get(output.name, scored.blanks.get(output.name))
        if isinstance(value, int | float | str):
            made.append(node(f"{base}/{output.name}", value, status, at, output.unit, output.description))
    return made
