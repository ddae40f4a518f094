"""How many values a second our decoder of notifications and histories takes, beside asyncua's own, on the same bytes.

`python -m bench.decode [--values 5000] [--seconds 1]` prints one line per kind of notification, and one for a page of
history: values/s of both, their ratio. Both run in turn in one process, the best of several rounds counts. The last
figure is with tags, and for the history with all that the gateway does before the journal.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, cast

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from app.field.repeats import marks_of
from app.records import FillRecord, to_record
from connectors import Batch, TagBinding
from connectors.opcua.columns import Table
from connectors.opcua.decode import decode_items, decode_values

V = ua.VariantType
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS: Final = 5
KINDS: Final[dict[str, Callable[[int], ua.Variant]]] = {
    "Double": lambda n: ua.Variant(np.sin(n).item(), V.Double),
    "Double, 1 % without a value": lambda n: (
        ua.Variant(None, V.Null) if n % 100 == 0 else ua.Variant(np.sin(n).item(), V.Double)
    ),
    "Double, Int32 and Boolean in turn": lambda n: (
        ua.Variant(0.5, V.Double),
        ua.Variant(n, V.Int32),
        ua.Variant(n % 2 == 0, V.Boolean),
    )[n % 3],
    "String": lambda n: ua.Variant(f"part {n}", V.String),
}


def notification(values: int, kind: Callable[[int], ua.Variant]) -> bytes:
    """A DataChangeNotification of so many values, each with a source time."""
    made = ua.DataChangeNotification()
    for n in range(values):
        item = ua.MonitoredItemNotification()
        item.ClientHandle = ua.UInt32(n)
        item.Value = ua.DataValue(kind(n), SourceTimestamp=cast("ua.DateTime", START + timedelta(milliseconds=n)))
        made.MonitoredItems.append(item)
    return struct_to_binary(made)


def theirs(body: bytes) -> object:
    """Asyncua's own decoder: an object per value."""
    return struct_from_binary(ua.DataChangeNotification, Buffer(body))


def with_tags(table: Table, body: bytes) -> object:
    """Our decoder, and readings of permanent tags with their types checked."""
    return table.columns(decode_items(body))


def page(values: int, kind: Callable[[int], ua.Variant]) -> bytes:
    """The HistoryData of one node."""
    made = ua.HistoryData()
    for n in range(values):
        at = cast("ua.DateTime", START + timedelta(milliseconds=n))
        made.DataValues.append(ua.DataValue(kind(n), SourceTimestamp=at))
    return struct_to_binary(made)


def filled(table: Table, body: bytes) -> object:
    """Our decoder, readings of permanent tags, what of them is new, and the record for the journal."""
    values = decode_values(body)
    found = table.columns(replace(values, handles=np.zeros(len(values.values), np.uint32)))
    made = Batch(found.tags, found.source_time, found.values, found.others, found.status, 1, 0, 1)
    marks_of(made.tags, made.source_time, made.values, made.others, made.status)
    return to_record(1, made, fill=FillRecord(1))


def rate(run: Callable[[], object], values: int, seconds: float) -> float:
    """Values a second in the best round."""
    best = 0.0
    for _ in range(ROUNDS):
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / ROUNDS or not done:
            run()
            done += values
        best = max(best, done / spent)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    wanted = parser.parse_args()
    table = Table({n: TagBinding(n, f"i={n}", "any") for n in range(wanted.values)}, wanted.values)
    print(f"{'notification':36}{'asyncua/s':>14}{'ours/s':>14}{'ratio':>8}{'with tags/s':>14}")
    for name, kind in KINDS.items():
        body = notification(wanted.values, kind)
        runs = (partial(theirs, body), partial(decode_items, body), partial(with_tags, table, body))
        asyncua, ours, whole = (rate(run, wanted.values, wanted.seconds) for run in runs)
        print(f"{name:36}{asyncua:14,.0f}{ours:14,.0f}{ours / asyncua:8.1f}{whole:14,.0f}")
    body = page(wanted.values, KINDS["Double"])
    asyncua = rate(lambda: struct_from_binary(ua.HistoryData, Buffer(body)), wanted.values, wanted.seconds)
    ours = rate(partial(decode_values, body), wanted.values, wanted.seconds)
    whole = rate(partial(filled, table, body), wanted.values, wanted.seconds)
    print(f"{'Double, a page of history':36}{asyncua:14,.0f}{ours:14,.0f}{ours / asyncua:8.1f}{whole:14,.0f}")


if __name__ == "__main__":
    main()
