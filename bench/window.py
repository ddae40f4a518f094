"""What windowing costs: microseconds per feed and per reading, for one spec of 100 inputs and for 50 of them.

Run as `python -m bench.window [--feeds 300] [--step-ms 1000]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.window import Input, Router, Spec, Windower

MILLISECOND: Final = 1_000_000
BASE: Final = 1_700_000_000_000 * MILLISECOND
FEED_MS: Final = 100
READINGS: Final = 5_000
INPUTS: Final = 100

Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.uint32], int]


def spec(first_tag: int, step_ms: int) -> Spec:
    """100 inputs, ten rows a window, a window a row."""
    inputs = tuple(Input(tag, 1) for tag in range(first_tag, first_tag + INPUTS))
    return Spec("grid", inputs, step_ms * MILLISECOND, 10, 1, FEED_MS * MILLISECOND)


def feeds(count: int, tags: int) -> Iterator[Columns]:
    """Batches of 5,000 readings in 100 ms, spread evenly over so many tags, in order of time."""
    each = READINGS // tags
    names = np.tile(np.arange(1, tags + 1), each)
    offsets = np.repeat(np.arange(1, each + 1) * FEED_MS * MILLISECOND // each, tags)
    values = np.random.default_rng(1).normal(size=READINGS)
    good = np.zeros(READINGS, dtype=np.uint32)
    for index in range(count):
        begin = BASE + index * FEED_MS * MILLISECOND
        yield names, begin + offsets, values, good, begin + FEED_MS * MILLISECOND


def measure(windower: Windower | Router, count: int, tags: int) -> tuple[float, float, int]:
    """Mean and 99th percentile of the µs per feed after a first second of warming up, and the windows made."""
    spent, windows = [], 0
    for names, times, values, status, now in feeds(count + 10, tags):
        begin = time.perf_counter_ns()
        made = windower.feed(1, names, times, values, {}, status, now, now)
        spent.append(time.perf_counter_ns() - begin)
        windows += sum(map(len, made.values())) if isinstance(made, dict) else len(made or ())
    microseconds = np.array(spent[10:]) / 1_000
    return float(microseconds.mean()), float(np.percentile(microseconds, 99)), windows


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feeds", type=int, default=300)
    parser.add_argument("--step-ms", type=int, default=1_000)
    wanted = parser.parse_args()
    cases: dict[str, tuple[Callable[[], Windower | Router], int]] = {
        "100 inputs, every reading needed": (lambda: Windower(spec(1, wanted.step_ms)), INPUTS),
        "100 inputs, 2 % of the readings needed": (lambda: Windower(spec(1, wanted.step_ms)), READINGS),
        "50 x 100 inputs, every reading needed once": (
            lambda: Router({i: spec(1 + i * INPUTS, wanted.step_ms) for i in range(50)}),
            READINGS,
        ),
    }
    for name, (make, tags) in cases.items():
        mean, p99, windows = measure(make(), wanted.feeds, tags)
        per_reading = mean / READINGS
        print(f"{name}: {mean:.0f} us per feed (p99 {p99:.0f}), {per_reading:.3f} us per reading, {windows} windows")


if __name__ == "__main__":
    main()
