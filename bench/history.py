"""The history: room at rest, reading it back, and storing it, beside plain tables.

`python -m bench.history [--readings 1000000] [--json FILE]` makes scans of a plant, stores them as a worker does,
compacts them as beat does, and prints bytes a reading at rest next to a raw SQLite table and to rows in PostgreSQL; how
long one tag's readings and its trend take; and readings/s stored next to `sqlite3` and SQLAlchemy `executemany`, with
durable settings. Two kinds of numbers: decimals, as a PLC's scaled values are, and noisy ones, which hardly
shrink.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Column, Double, Engine, MetaData, Table, insert, text

from app.db import insert_all, make_engine, snapshot, writing
from app.history.service import compact, merge
from app.launcher import servers
from app.readings import service as readings
from app.readings.tables import BatchRow, WatermarkRow
from app.records import to_record
from app.sources.tables import ConnectionRow, TagRow
from app.tables import metadata
from connectors import Batch

TAGS: Final = 50
START: Final = 1_700_000_000_000_000_000
STEP: Final = 100_000_000
REPEATS: Final = 7
POINTS: Final = 1000
ROWS_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class Plant:
    """What a plant sends: scans of all tags."""

    name: str
    decimal: bool
    jitter: bool
    """Each tag stamps for itself, to 100 ns, as a server that samples does; else a scan has one time."""

    def scans(self, count: int, tags: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Times and values, shape (tags,) each."""
        random = np.random.default_rng(3)
        state, phase = random.uniform(20, 80, tags), random.uniform(0, 6.28, tags)
        for scan in range(count):
            state = state + random.normal(0, 0.02, tags)
            values = state + 5 * np.sin(phase + scan * 1e-3)
            values = values.round(2) if self.decimal else values + random.normal(0, 0.05, tags)
            at = START + scan * STEP
            times = at + random.integers(0, 20_000, tags) * 100 if self.jitter else np.full(tags, at)
            yield times.astype(np.int64), values


PLANTS: Final = (
    Plant("decimals, one time a scan", decimal=True, jitter=False),
    Plant("noisy float64, one time a scan", decimal=False, jitter=False),
    Plant("decimals, each its own time", decimal=True, jitter=True),
    Plant("noisy float64, each its own time", decimal=False, jitter=True),
)


def batch(number: int, times: NDArray[np.int64], values: NDArray[np.float64]) -> dict[str, Any]:
    """The row of one scan, as the worker stores it."""
    tags, at = np.arange(1, len(times) + 1, dtype=np.int64), int(times[-1]) + 10_000_000
    record = to_record(1, Batch(tags, times, values, {}, np.zeros(len(times), np.uint32), at, at, 1))
    return {
        "journal": "gw", "epoch": 1, "number": number, "connection_id": 1, "revision": 1, "received_time": at,
        "first_time": record.first_time, "last_time": record.last_time, "wide": False, "count": record.count,
        "columns": record.columns, "gap_id": None,
    }  # fmt: skip


def empty(url: str, tags: int) -> Engine:
    """A database with one connection and its tags."""
    engine = make_engine(url)
    metadata.create_all(engine)
    with writing(engine) as session:
        session.add(ConnectionRow(name="line", connector="opcua", options={}))
        session.flush()
        for tag in range(1, tags + 1):
            session.add(TagRow(name=f"t{tag}", connection_id=1, address=f"s={tag}", datatype="float", options={}))
    return engine


def fill(engine: Engine, plant: Plant, scans: int, tags: int) -> None:
    """Store all of it and compact it, a minute at a time as beat does."""
    rows: list[dict[str, Any]] = []
    for number, (times, values) in enumerate(plant.scans(scans, tags), 1):
        rows.append(batch(number, times, values))
        if len(rows) == 60 * 10 or number == scans:
            with writing(engine) as session:
                insert_all(session, BatchRow, rows)
                session.merge(WatermarkRow(journal="gw", epoch=1, number=number))
            rows.clear()
            while compact(engine).batches:
                pass
            while merge(engine).chunks:
                pass


def at_rest(path: Path, engine: Engine) -> float:
    """Bytes a reading of the whole database, indexes and half-filled pages included, without pages free to be used."""
    stored = sum(readings.counts(engine).values())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    facts = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in facts)
    connection.close()
    return float((pages - free) * size / stored)


def median_ms(action: Callable[[], object]) -> float:
    """Of several runs, the first left out. CPU time: others on the machine do not count."""
    took = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        action()
        took.append((time.process_time() - began) * 1000)
    return round(statistics.median(took[1:]), 2)


def reading_back(folder: Path, plant: Plant, count: int) -> dict[str, float]:
    """One tag's readings, and its trend."""
    engine = empty(f"sqlite:///{folder}/one.db", 1)
    fill(engine, plant, count, 1)
    end = START + count * STEP
    found = readings.series(engine, 1, START, end)
    expected = [float(values[0]) for _, values in plant.scans(count, 1)]
    if found.values.tolist() != expected:
        message = "the history did not give back what was stored"
        raise SystemExit(message)
    result = {
        "readings": len(found),
        "all_ms": median_ms(lambda: readings.series(engine, 1, START, end)),
        "trend_ms": median_ms(lambda: readings.trend(engine, 1, START, end, POINTS)),
        "hour_ms": median_ms(lambda: readings.series(engine, 1, end - 36_000 * STEP, end)),
    }
    engine.dispose()
    return result


def raw_sqlite(path: Path, columns: list[tuple[int, int, float, int]]) -> float:
    """Readings/s of bare `sqlite3` into a table without an index, a scan of 5,000 rows a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE r (tag INTEGER, ts INTEGER, value REAL, status INTEGER)")
    began = time.perf_counter()
    for at in range(0, len(columns), ROWS_AT_ONCE):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO r VALUES (?, ?, ?, ?)", columns[at : at + ROWS_AT_ONCE])
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return len(columns) / took


def rows_of_database(engine: Engine, columns: list[tuple[int, int, float, int]]) -> float:
    """Readings/s of SQLAlchemy `executemany`, a scan of 5,000 rows a transaction."""
    rows = Table("raw_rows", MetaData(), Column("tag", BigInteger), Column("ts", BigInteger), Column("value", Double),
                 Column("status", BigInteger))  # fmt: skip
    rows.create(engine)
    made = [dict(zip(("tag", "ts", "value", "status"), one, strict=True)) for one in columns]
    began = time.perf_counter()
    for at in range(0, len(made), ROWS_AT_ONCE):
        with writing(engine) as session:
            session.connection().execute(insert(rows), made[at : at + ROWS_AT_ONCE])
    return len(made) / (time.perf_counter() - began)


def ours(engine: Engine, scans: list[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> tuple[float, float]:
    """Readings/s packed, stored and compacted, a scan of 5,000 readings a transaction; and stored alone."""
    count = sum(len(times) for times, _ in scans)
    began = time.perf_counter()
    for number, (times, values) in enumerate(scans, 1):
        row = batch(number, times, values)
        with writing(engine) as session:
            insert_all(session, BatchRow, [row])
    stored = time.perf_counter() - began
    with writing(engine) as session:
        session.merge(WatermarkRow(journal="gw", epoch=1, number=len(scans)))
    while compact(engine).batches:
        pass
    return count / (time.perf_counter() - began), count / stored


def storing(folder: Path, postgres: str, count: int) -> dict[str, Any]:
    """Ours and plain rows, in turn, on either database."""
    plant = PLANTS[1]
    scans = list(plant.scans(count // ROWS_AT_ONCE, ROWS_AT_ONCE))
    columns = [
        (tag, at, value, 0) for times, values in scans
        for tag, at, value in zip(range(1, len(times) + 1), times.tolist(), values.tolist(), strict=True)
    ]  # fmt: skip
    lite, post = empty(f"sqlite:///{folder}/ours.db", 1), empty(postgres, 1)
    raw = folder / "raw.db"
    result: dict[str, Any] = {"sqlite3_executemany": raw_sqlite(raw, columns)}
    result["sqlite"], result["sqlite_stored_alone"] = ours(lite, scans)
    result["postgres_executemany"] = rows_of_database(post, columns)
    result["postgres"], result["postgres_stored_alone"] = ours(post, scans)
    result = {name: round(rate) for name, rate in result.items()}
    result["sqlite_ratio"] = round(result["sqlite"] / result["sqlite3_executemany"], 2)
    result["postgres_ratio"] = round(result["postgres"] / result["postgres_executemany"], 2)
    result["raw_sqlite_bytes"] = round(raw.stat().st_size / len(columns), 2)
    with snapshot(post) as session:
        size = session.scalar(text("SELECT pg_total_relation_size('raw_rows')"))
        result["raw_postgres_bytes"] = round(int(size or 0) / len(columns), 2)
    lite.dispose()
    post.dispose()
    return result


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


async def main() -> None:
    """All of it, in one go."""
    given = arguments()
    found: dict[str, Any] = {"at_rest_bytes": {}}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        await asyncio.to_thread(folder.chmod, 0o755)
        for number, plant in enumerate(PLANTS):
            path = folder / f"{number}.db"
            engine = empty(f"sqlite:///{path}", TAGS)
            fill(engine, plant, given.readings // TAGS, TAGS)
            found["at_rest_bytes"][plant.name] = round(at_rest(path, engine), 2)
            engine.dispose()
        found["one_tag"] = reading_back(folder, PLANTS[1], given.readings)
        async with servers.postgres(folder / "postgres") as url:
            found["readings_per_s"] = await asyncio.to_thread(storing, folder, url, given.readings)
    shown = json.dumps(found, indent=2)
    print(shown)
    if given.json:
        await asyncio.to_thread(given.json.write_text, shown + "\n")


if __name__ == "__main__":
    asyncio.run(main())
