"""The whole path under load: OPC UA → journal → Celery → ONNX → database → MQTT, as real processes, with nothing faked.

`python -m bench.pipeline --tags 100,1000,5000 --hz 10 --for 60 [--database sqlite|postgres] [--json FILE]` prints one
line per number of tags and the CPU of every process; README.md says what each figure means.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import box, figures
from bench.plant_file import WIDTH, Load

MOST_PIPELINES: Final = 39
"""390 windows/s at 10 Hz."""
COLUMNS: Final = (
    ("tags", "{tags}"), ("values/s", "{values_per_s}"), ("lost", "{lost}"), ("by peer", "{lost_by_peer}"),
    ("doubled", "{doubled}"),
    ("predictions/s", "{predictions_per_s}"), ("batches/s", "{batches_per_s}"),
    ("p50 ms", "{latency_ms[p50]}"), ("p99 ms", "{latency_ms[p99]}"), ("max ms", "{latency_ms[max]}"),
    ("CPU % box", "{cpu_percent_box}"), ("CPU % with plant", "{cpu_percent_total}"),
    ("us/value", "{cpu_us_per_value}"), ("DB MB", "{megabytes:.1f}"),
)  # fmt: skip


def case(load: Load, database: str, seconds: float, warm_s: float, keep: Path | None) -> dict[str, Any]:
    """One number of tags, from an empty folder to its figures."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name) if keep is None else Path(tempfile.mkdtemp(prefix=f"{load.tags}-", dir=keep))
        folder.chmod(0o755)  # PostgreSQL's user passes through it
        lives, kept = asyncio.run(box.run(folder, load, database, seconds, warm_s))
        return figures.summary(load, database, lives, kept, figures.heard(folder / "arrived", lives, warm_s))


def table(rows: list[dict[str, Any]]) -> None:
    """Print them side by side."""
    for row in rows:
        row["megabytes"] = row["database_bytes"] / 1e6
    print("  ".join(f"{name:>{_width(name)}}" for name, _ in COLUMNS))
    for row in rows:
        print("  ".join(f"{form.format(**row):>{_width(name)}}" for name, form in COLUMNS))
    print("\nCPU, % of one core")
    names = list(rows[0]["cpu_percent"])
    print("  ".join(f"{name:>10}" for name in ("tags", *names)))
    for row in rows:
        print("  ".join(f"{one:>10}" for one in (row["tags"], *(row["cpu_percent"][name] for name in names))))


def _width(name: str) -> int:
    return max(8, len(name))


def main() -> int:
    """Run every case; 1 when something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tags", default="100,1000,5000")
    parser.add_argument("--hz", type=float, default=10)
    parser.add_argument("--for", type=float, default=60, dest="seconds")
    parser.add_argument("--warm-up", type=float, default=10, help="seconds left out of latency and CPU, not of loss")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--pipelines", type=int, help="min(39, tags / 100) by default")
    parser.add_argument("--publishing-ms", type=float, default=20)
    parser.add_argument("--lateness", type=float, default=0.05, help="of every pipeline, seconds")
    parser.add_argument("--opcua-north", action="store_true", help="show the predictions as OPC UA nodes, too")
    parser.add_argument("--keep", type=Path, help="leave data and logs in this folder")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for tags in map(int, given.tags.split(",")):
        pipelines = given.pipelines or min(MOST_PIPELINES, math.ceil(tags / WIDTH))
        load = Load(tags, pipelines, given.hz, given.publishing_ms, given.lateness, given.opcua_north)
        rows.append(case(load, given.database, given.seconds, given.warm_up, given.keep))
        print(f"{tags} tags done", file=sys.stderr)
    table(rows)
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    return int(any(row["lost"] or not row["settled"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
