"""A plant that is never the bottleneck: an open62541 server (`o6`) that changes N tags at a fixed rate.

`python -m bench.opcua_plant --port P --tags 5000 --hz 10 --for 300` prints `ready`, then at the end one JSON line
with what it wrote. Values are a sine and noise with a full mantissa, so that nothing compresses better than a plant's
own would. Each write of one scan carries one source time. The licence-free mode of `o6` ends a process after ten
minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime

import numpy as np
import o6


def build(port: int, tags: int) -> tuple[o6.Server, list[o6.NodeId]]:
    """A server with `tags` Double variables, `ns=1;s=T0` and so on."""
    server = o6.Server(port=port)
    nodes = [o6.NodeId(f"ns=1;s=T{index}") for index in range(tags)]
    for index, node in enumerate(nodes):
        server.addVariable(f"T{index}", server.objectsNode, o6.Double(0.0), nodeId=node, writable=False)
    server.start()
    return server, nodes


def scan(server: o6.Server, nodes: list[o6.NodeId], cells: list[o6.DataValue], values: np.ndarray) -> int:
    """Write every tag once under one source time; returns how many the server took."""
    now = o6.DateTime(datetime.now(UTC))
    for cell, value in zip(cells, values.tolist(), strict=True):
        cell.value = o6.Double(value)
        cell.sourceTimestamp = now
    return server.write(nodes, cells).count(o6.StatusCode.GOOD)


def run(server: o6.Server, nodes: list[o6.NodeId], hz: float, seconds: float) -> dict[str, float]:
    """Scan on a fixed beat; a beat that comes too late is counted, never skipped silently."""
    cells = [o6.DataValue(value=o6.Double(0.0)) for _ in nodes]
    random = np.random.default_rng(1)
    phase = random.uniform(0, 6.28, len(nodes))
    period, start, used = 1 / hz, time.monotonic(), time.process_time()
    written, scans, late = 0, 0, 0
    while (due := start + scans * period) < start + seconds:
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        elif wait < -period:
            late += 1
        written += scan(server, nodes, cells, np.sin(phase + scans * 0.05) + random.normal(0, 0.01, len(nodes)))
        scans += 1
    return {
        "written": written,
        "scans": scans,
        "late_scans": late,
        "seconds": time.monotonic() - start,
        "cpu_s": time.process_time() - used,
    }


def main() -> None:
    """Serve, wait for `go` on standard input, write, wait for end of input, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tags", type=int, default=5000)
    parser.add_argument("--hz", type=float, default=10)
    parser.add_argument("--for", type=float, default=60, dest="seconds")
    given = parser.parse_args()
    server, nodes = build(given.port, given.tags)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(run(server, nodes, given.hz, given.seconds)), flush=True)
    sys.stdin.readline()
    server.stop()


if __name__ == "__main__":
    main()
