"""What a run amounts to: loss against the plant's own count, latency at the consumer, CPU per value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from sqlalchemy import func, select, text

from app import times
from app.db import reading
from app.ledger import service as ledger
from app.ledger.tables import LedgerRow
from app.readings.service import everything
from app.scoring.tables import PredictionRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from bench.box import Life
    from bench.plant_file import Load

SCAN: Final = 1000
"""ns in the unit of the plant's source times."""
OURS: Final = ("supervisor", "redis", "broker", "postgres", "worker", "gateway", "beat", "api")


class Body(msgspec.Struct, frozen=True):
    """What the consumer reads of a prediction."""

    id: str
    end: str
    reason: str
    newest_time: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds at the end."""

    by_time: dict[int, int]
    """Source time (ns) → readings."""
    batches: int
    """Applied, with readings."""
    predictions: int
    refused: int
    """Predictions without an answer, of windows with something missing."""
    balanced: bool
    """The ledger's own verdict."""
    lost_by_peer: int
    """What the gateway knows that the plant's server dropped: readings, as far as the protocol tells."""
    bytes: int


def stored(engine: Engine, data_dir: Path) -> Stored:
    """Read all of it back."""
    by_time: dict[int, int] = {}
    for one in everything(engine):
        at, counts = np.unique(one.columns[1], return_counts=True)
        for time, count in zip(at.tolist(), counts.tolist(), strict=True):
            by_time[time] = by_time.get(time, 0) + count
    with reading(engine) as session:
        applied = select(func.sum(LedgerRow.batches)).where(LedgerRow.fate == "stored")
        batches = int(session.scalar(applied) or 0)
        predictions = int(session.scalar(select(func.count()).select_from(PredictionRow)) or 0)
        refused = int(session.scalar(select(func.count()).where(PredictionRow.reason != "")) or 0)
        size = _bytes(session.connection().dialect.name == "postgresql", session, data_dir)
    accounts = ledger.accounts(engine)
    balanced, by_peer = all(one.balanced for one in accounts), sum(one.lost_by_peer for one in accounts)
    return Stored(by_time, batches, predictions, refused, balanced, by_peer, size)


def _bytes(postgres: bool, session: Any, data_dir: Path) -> int:  # noqa: ANN401, FBT001 - a Session of either database
    if postgres:
        return int(session.scalar(text("SELECT pg_database_size(current_database())")))
    return sum(path.stat().st_size for path in data_dir.glob("headrace.db*"))


@dataclass(frozen=True, slots=True)
class Heard:
    """What the consumer noted."""

    messages: int
    repeats: int
    """Messages whose id had come before."""
    latency_ms: NDArray[np.float64]
    """Newest source time in the window → arrival, of answers to windows that ended after the warm-up."""


def heard(arrived: Path, lives: Sequence[Life], warm_s: float) -> Heard:
    """Read its notes."""
    noted = msgspec.msgpack.decode(arrived.read_bytes(), type=list[tuple[int, str, bytes]])
    decoder = msgspec.json.Decoder(Body)
    spans = [
        (one.wrote["times_us"][0] * SCAN + round(warm_s * times.NANOS), one.wrote["times_us"][-1] * SCAN)
        for one in lives
    ]
    seen: set[str] = set()
    latency = []
    for at, _, payload in noted:
        body = decoder.decode(payload)
        end = times.parse_time(body.end)
        if body.id not in seen and not body.reason and any(first <= end <= last for first, last in spans):
            latency.append((at - times.parse_time(body.newest_time)) / 1e6)
        seen.add(body.id)
    return Heard(len(noted), len(noted) - len(seen), np.array(latency or [np.nan]))


def summary(load: Load, database: str, lives: Sequence[Life], kept: Stored, got: Heard) -> dict[str, Any]:
    """Everything of one case, ready for JSON."""
    scans = [micros * SCAN for one in lives for micros in one.wrote["times_us"]]
    written = sum(one.wrote["written"] for one in lives)
    found = np.array([kept.by_time.get(scan, 0) for scan in scans])
    seconds = sum(one.wrote["seconds"] for one in lives)
    wall, values = sum(one.wall_s for one in lives), sum(one.values for one in lives)
    cpu = {name: sum(one.cpu_s[name] for one in lives) for name in lives[0].cpu_s}
    box = sum(used for name, used in cpu.items() if name in OURS)
    p50, p99 = np.percentile(got.latency_ms, [50, 99])
    return {
        "database": database,
        "tags": load.tags,
        "hz": load.hz,
        "pipelines": load.pipelines,
        "seconds": round(seconds, 1),
        "plants": len(lives),
        "written": written,
        "stored": int(found.sum()),
        "lost": int(np.maximum(load.tags - found, 0).sum()),
        "doubled": int(np.maximum(found - load.tags, 0).sum()),
        "lost_by_peer": kept.lost_by_peer,
        "refused_by_plant": load.tags * len(scans) - written,
        "late_scans": sum(one.wrote["late_scans"] for one in lives),
        "settled": all(one.settled for one in lives),
        "ledger_balanced": kept.balanced,
        "values_per_s": round(written / seconds),
        "batches_per_s": round(kept.batches / seconds, 1),
        "predictions": kept.predictions,
        "predictions_refused": kept.refused,
        "predictions_per_s": round(kept.predictions / seconds, 1),
        "mqtt_messages": got.messages,
        "mqtt_repeats": got.repeats,
        "mqtt_missing": kept.predictions - (got.messages - got.repeats),
        "latency_ms": {"p50": round(float(p50), 1), "p99": round(float(p99), 1),
                       "max": round(float(got.latency_ms.max()), 1), "count": len(got.latency_ms)},
        "cpu_percent": {name: round(100 * used / wall, 1) for name, used in cpu.items()},
        "cpu_percent_box": round(100 * box / wall, 1),
        "cpu_percent_total": round(100 * (box + cpu["plant"]) / wall, 1),
        "cpu_us_per_value": round(1e6 * box / values, 2),
        "cpu_us_per_value_with_plant": round(1e6 * (box + cpu["plant"]) / values, 2),
        "database_bytes": kept.bytes,
    }  # fmt: skip
