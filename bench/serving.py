"""Requests a second and latency of one row at a time over HTTP, ours and MLServer's, in turn in one go.

`python -m bench.serving [--connections 32] [--seconds 5] [--rounds 5] [--json FILE]`. Both run a small MLP with ONNX
Runtime on one thread in one process, and are asked the same JSON by the same client, which sends a connection's next
request as its last one is answered. MLServer is asked without and with its adaptive batching, and without its worker
processes, which cost it a hop. Ours is asked in JSON and in the binary form.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
import uvicorn

from app.launcher import usage
from bench import http_load, onnx_models
from bench.environments import TOP, interpreter
from bench.offered import free_port, offered, server

BATCHING: Final = {"max_batch_size": 32, "max_batch_time": 0.001}
LOOP: Final = uvicorn.Config("", loop="auto").get_loop_factory()
"""Of the client: as fast a loop as the servers have."""
WARM_S: Final = 1.0
COLUMNS: Final = ("requests_per_s", "p50_ms", "p99_ms", "cpu_us", "failed")


@dataclass(slots=True)
class Target:
    """A server, what it is asked, and what was seen."""

    name: str
    port: int
    pid: int
    request: bytes
    seen: list[dict[str, float]] = field(default_factory=list)

    def ask(self, connections: int, seconds: float) -> None:
        """Once more."""
        before = usage.of_process(self.pid).cpu_s
        with asyncio.Runner(loop_factory=LOOP) as runner:
            result = runner.run(http_load.load(self.port, self.request, connections, seconds, WARM_S))
        used = usage.of_process(self.pid).cpu_s - before
        answered = result.per_s * (seconds + WARM_S)
        self.seen.append({
            "requests_per_s": result.per_s, "p50_ms": result.ms(50), "p99_ms": result.ms(99),
            "cpu_us": 1e6 * used / answered, "failed": result.failed,
        })  # fmt: skip

    def medians(self) -> dict[str, Any]:
        """Of all rounds."""
        return {"server": self.name, **{c: round(statistics.median(o[c] for o in self.seen), 2) for c in COLUMNS}}


def asked() -> tuple[bytes, bytes, bytes]:
    """One row as a JSON body; the same as the JSON and the raw bytes of the binary form."""
    x = np.random.default_rng(1).normal(size=(1, 16)).astype("<f4")
    about = {"name": "x", "datatype": "FP32", "shape": [1, 16]}
    text = msgspec.json.encode({"inputs": [{**about, "data": x.ravel().tolist()}]})
    head = msgspec.json.encode({
        "inputs": [{**about, "parameters": {"binary_data_size": x.nbytes}}], "parameters": {"binary_data_output": True},
    })  # fmt: skip
    return text, head, x.tobytes()


@contextmanager
def ours(folder: Path) -> Iterator[list[Target]]:
    """Our API, asked in both forms."""
    text, head, raw = asked()
    with offered(folder / "ours", {"mlp": onnx_models.mlp()}) as box:
        path, key = "/v2/models/mlp/infer", f"Bearer {box.token}"
        in_json = http_load.post(path, text, Authorization=key, Content_Type="application/json")
        length = str(len(head))
        binary = http_load.post(path, head + raw, Authorization=key, Inference_Header_Content_Length=length)
        yield [Target("headrace", box.port, box.pid, in_json), Target("headrace, binary", box.port, box.pid, binary)]


@contextmanager
def theirs(folder: Path) -> Iterator[list[Target]]:
    """MLServer, with its batching and without: two processes."""
    python = interpreter("mlserver")
    request = http_load.post("/v2/models/mlp/infer", asked()[0], Content_Type="application/json")
    targets = []
    with ExitStack() as stack:
        for name, batching in (("mlserver", {}), ("mlserver, batching", BATCHING)):
            here = folder / name.replace(", ", "-")
            here.mkdir()
            onnx.save_model(onnx_models.mlp(), here / "mlp.onnx")
            port = free_port()
            settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(),
                        "parallel_workers": 0, "debug": False}  # fmt: skip
            (here / "settings.json").write_bytes(msgspec.json.encode(settings))
            model = {"name": "mlp", "implementation": "mlserver_runtime.OnnxModel",
                     "parameters": {"uri": str(here / "mlp.onnx")}, **batching}  # fmt: skip
            (here / "model-settings.json").write_bytes(msgspec.json.encode(model))
            command = [str(python.with_name("mlserver")), "start", "."]
            shutil.copy(TOP / "bench" / "mlserver_runtime.py", here)
            # Our packages are not for its interpreter.
            pid = stack.enter_context(server(command, port, {"PYTHONPATH": ""}, here, here / "mlserver.log"))
            targets.append(Target(name, port, pid, request))
        yield targets


def main() -> int:
    """Print a table and the ratios; 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        mine, others = stack.enter_context(ours(folder)), stack.enter_context(theirs(folder))
        for number in range(given.rounds):
            for target in (*mine, *others):
                target.ask(given.connections, given.seconds)
            print(f"round {number + 1} of {given.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        rows = [target.medians() for target in (*mine, *others)]
    print(f"{'server':<22}" + "".join(f"{name:>16}" for name in COLUMNS))
    for row in rows:
        print(f"{row['server']:<22}" + "".join(f"{row[name]:>16}" for name in COLUMNS))
    peer = max(rows[len(mine) :], key=lambda row: row["requests_per_s"])
    calmest = min(row["p99_ms"] for row in rows[len(mine) :])
    print(f"requests/s: {rows[0]['requests_per_s'] / peer['requests_per_s']:.1f} times the better of MLServer's")
    print(f"p99: {rows[0]['p99_ms'] / calmest:.2f} of the better of MLServer's")
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
