"""How many MQTT messages a second become readings, for each payload layout.

`python -m bench.mqtt_mapping [--tags 40] [--seconds 1]` prints a line per layout: messages/s and values/s of one core.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from connectors import TagBinding
from connectors.mqtt.mapping import Mapping, Rows

ROUNDS: Final = 5


class Case(NamedTuple):
    """One layout: a message for so many tags, and the tags."""

    payload: bytes
    place: Callable[[int], str]
    options: Callable[[int], dict[str, object]]


def cases(tags: int) -> dict[str, Case]:
    """Every layout that carries many tags."""
    named = {f"k{n}": n + 0.5 for n in range(tags)}
    pack = [{"n": name, "v": value} for name, value in named.items()]
    stamped = {"time": "/t", "time_format": "iso"}
    iso = "2025-11-24T16:00:00Z"
    lines = f"t,{','.join(named)}\n1764000000,{','.join(map(str, named.values()))}\n"
    csv = {"format": "csv", "layout": {"header": True}, "time": "/t", "time_format": "s"}

    def by_name(n: int) -> str:
        return f"#/k{n}"

    def packed(n: int) -> dict[str, object]:
        return {"format": "binary", "layout": {"at": 4 * n, "type": "float32", "order": "big"}}

    return {
        "json": Case(json.dumps({"t": iso, **named}).encode(), by_name, lambda _: dict(stamped)),
        "senml": Case(json.dumps(pack).encode(), by_name, lambda _: {"format": "senml"}),
        "neuron": Case(json.dumps({"timestamp": 1, "values": named}).encode(), by_name, lambda _: {"format": "neuron"}),
        "thingsboard": Case(
            json.dumps({"ts": 1, "values": named}).encode(), by_name, lambda _: {"format": "thingsboard"}
        ),
        "csv": Case(lines.encode(), by_name, lambda _: dict(csv)),
        "binary": Case(struct.pack(f">{tags}f", *named.values()), lambda _: "", packed),
    }


def rate(case: Case, tags: int, seconds: float) -> float:
    """Messages a second in the best round."""
    mapping = Mapping([TagBinding(n, f"t{case.place(n)}", "float", case.options(n)) for n in range(tags)])
    best = 0.0
    for _ in range(ROUNDS):
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / ROUNDS or not done:
            rows = Rows()
            mapping.add("t", case.payload, rows, 0)
            assert len(rows.tags) == tags
            done += 1
        best = max(best, done / spent)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    wanted = parser.parse_args()
    for name, case in cases(wanted.tags).items():
        found = rate(case, wanted.tags, wanted.seconds)
        print(f"{name:12} {found:10,.0f} messages/s {found * wanted.tags:12,.0f} values/s")


if __name__ == "__main__":
    main()
