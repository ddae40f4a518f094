"""The API as a process of its own: many keep-alive connections at once, over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest

from app.launcher.ports import Port
from app.launcher.stack import environment_of, module, module_path
from tests.app.serving.conftest import Box
from tests.inference import onnx_graphs as graphs
from tests.waiting import wait_until

CALLERS, EACH = 8, 25
STARTS_WITHIN_S = 60


@contextmanager
def _running(box: Box, port: int) -> Iterator[subprocess.Popen[bytes]]:
    settings = box.settings({"judge": ("cpu",)}, api_port=port, log_level="ERROR")
    environment = {**os.environ, **module_path(), **environment_of(settings)}
    with subprocess.Popen(module("app.main"), env=environment) as process:
        try:
            wait_until(lambda: _status(port, "/v2/health/ready") == 200, STARTS_WITHIN_S)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _status(port: int, path: str) -> int:
    with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status
    return 0


def _caller(port: int, token: str, number: int) -> list[float]:
    """Raw tensors over one connection, each answer the double of what was sent."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        return [_doubled(connection, token, float(number * EACH + index)) for index in range(EACH)]


def _doubled(connection: http.client.HTTPConnection, token: str, value: float) -> float:
    x = np.full((1, 3), value, "<f4")
    head = json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    headers = {"Authorization": f"Bearer {token}", "Inference-Header-Content-Length": str(len(head))}
    connection.request("POST", "/v2/models/judge/infer", head + x.tobytes(), headers)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    split = int(answer.headers["Inference-Header-Content-Length"])
    return float(np.frombuffer(body[split:], "<f4")[0])


@pytest.mark.timeout(120)
def test_callers_at_once_each_get_their_own_answers(box: Box) -> None:
    """Eight connections, two hundred requests: nobody is told another's answer, and the process ends when told."""
    box.add("judge", graphs.mul())
    token = box.token()
    with Port() as port:
        number = port.number
    with _running(box, number) as process, ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda caller: _caller(number, token, caller), range(CALLERS)))
    assert answers == [[2.0 * (caller * EACH + index) for index in range(EACH)] for caller in range(CALLERS)]
    assert process.returncode in {0, -signal.SIGTERM}
