"""Rows a second of a model through the core and the micro-batcher, against bare ONNX Runtime, in turn in one go.

`python -m bench.inference [--models mlp,autoencoder,resnet18] [--seconds 2] [--rounds 5] [--json FILE]`. Bare is a
loop of `session.run` with the same session options and one thread, at batch 1 and at the best of several batches. Ours
are requests of so many rows each that are always under way, a new one sent as each is answered: 1 row as a caller of
the API sends it, and blocks as a pipeline's message has them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from bench import onnx_models
from inference import InferenceError, Model, Options
from inference.adapters.ort import CPU, runtime, session_on, session_options
from inference.devices import choose
from inference.joining import Outcome
from inference.microbatch import Microbatcher, Pace
from inference.model import import_model

MAKE: Final[dict[str, Callable[[], onnx.ModelProto]]] = {
    "mlp": onnx_models.mlp,
    "autoencoder": onnx_models.autoencoder,
    "resnet18": onnx_models.resnet18,
}
BATCHES: Final = {"mlp": (1, 64, 256, 1024, 4096), "autoencoder": (1, 4, 16), "resnet18": (1, 4)}
BLOCKS: Final = {"mlp": (1, 64, 256, 1024), "autoencoder": (1, 4), "resnet18": (1, 4)}
UNDER_WAY_ROWS: Final = {"mlp": 4096, "autoencoder": 16, "resnet18": 4}
"""Rows in requests that are under way at any time."""

Case = Callable[[float], float]
"""Runs for so many seconds; rows a second."""


@dataclass(slots=True)
class Bare:
    """A loop of `session.run`."""

    session: Any
    x: np.ndarray[Any, Any]

    def __call__(self, seconds: float) -> float:
        """Rows a second."""
        run, feeds, rows = self.session.run, {"x": self.x}, 0
        begin = time.perf_counter()
        until = begin + seconds
        while (now := time.perf_counter()) < until:
            run(None, feeds)
            rows += len(self.x)
        return rows / (now - begin)


@dataclass(slots=True)
class Ours:
    """Requests through the micro-batcher, so many under way at any time."""

    batcher: Microbatcher
    x: np.ndarray[Any, Any]
    under_way: int

    def __call__(self, seconds: float) -> float:
        """Rows a second."""
        left, rows = self.under_way, 0
        begin = time.perf_counter()
        until = begin + seconds
        done = threading.Event()
        feeds = {"x": self.x}

        def answered(outcome: Outcome) -> None:
            nonlocal left, rows
            assert not isinstance(outcome, InferenceError), outcome
            rows += len(self.x)
            if time.perf_counter() < until:
                self.batcher.submit(feeds, answered, wake=False)
                return
            left -= 1
            if not left:
                done.set()

        for _ in range(self.under_way):
            self.batcher.submit(feeds, answered, wake=False)
        self.batcher.wake_up()
        done.wait()
        return rows / (time.perf_counter() - begin)


def cases(name: str, model: Model, batcher: Microbatcher) -> dict[str, Case]:
    """What is measured for one model, by what it is called in the table."""
    draw = np.random.default_rng(1)
    shape = [size or 1 for size in model.inputs[0].shape[1:]]
    bare = session_on(model.path, session_options(1, {}, strict=False), CPU, [(CPU, {})])
    tensor = {rows: draw.normal(size=(rows, *shape)).astype(np.float32) for rows in {*BATCHES[name], *BLOCKS[name]}}
    made: dict[str, Case] = {f"bare batch {rows}": Bare(bare, tensor[rows]) for rows in BATCHES[name]}
    for rows in BLOCKS[name]:
        made[f"ours blocks of {rows}"] = Ours(batcher, tensor[rows], max(2, UNDER_WAY_ROWS[name] // rows))
    return made


def measure(name: str, seconds: float, rounds: int, folder: Path) -> dict[str, Any]:
    """Every case of a model in turn, round after round; medians."""
    path = folder / f"{name}.onnx"
    onnx.save_model(MAKE[name](), path)
    model = import_model(path, folder / "store")
    pace = Pace(budget_s=1.0, waiting=1 << 16, waiting_rows=1 << 20)
    batcher = Microbatcher(model, partial(_session, model), pace)
    assert batcher.ready.result()
    each = cases(name, model, batcher)
    for case in each.values():
        case(min(0.3, seconds))
    found: dict[str, list[float]] = {what: [] for what in each}
    for number in range(rounds):
        for what, case in each.items():
            found[what].append(case(seconds))
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
    batcher.close()
    batcher.join(30)
    per_s = {what: statistics.median(values) for what, values in found.items()}
    best = max(value for what, value in per_s.items() if what.startswith("bare"))
    one = per_s["bare batch 1"]
    return {"model": name, "onnxruntime": runtime().__version__, "rows_per_s": {k: round(v) for k, v in per_s.items()},
            "of_batch_1": {k: round(v / one, 2) for k, v in per_s.items()},
            "of_best": {k: round(v / best, 3) for k, v in per_s.items()}}  # fmt: skip


def _session(model: Model) -> Any:  # noqa: ANN401 - Session
    return choose(["cpu"], model, Options(threads=1)).session


def main() -> int:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MAKE))
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        for name in given.models.split(","):
            rows.append(measure(name, given.seconds, given.rounds, Path(folder)))
            print(f"\n{name:<20}{'rows/s':>12}{'of batch 1':>12}{'of best':>10}")
            for what, per_s in rows[-1]["rows_per_s"].items():
                print(f"{what:<20}{per_s:>12}{rows[-1]['of_batch_1'][what]:>12}{rows[-1]['of_best'][what]:>10}")
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
