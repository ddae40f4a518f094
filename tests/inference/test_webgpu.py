"""The WebGPU plugin on a software Vulkan: real kernels in memory of their own, or the reason why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

import inference
from inference import Options, UnsupportedModelError
from inference.devices import choose
from inference.engines import Apart
from inference.kit import timing
from tests.inference import onnx_graphs as graphs
from tests.inference import vulkan

if TYPE_CHECKING:
    import onnx

    from inference import Model

ABSENT: Final = inference.backend("webgpu").absent()
needs_webgpu = pytest.mark.skipif(
    ABSENT is not None, reason=f"no WebGPU here: {ABSENT.reason if ABSENT else ''} {vulkan.MISSING}"
)
Importer = Callable[["onnx.ModelProto"], "Model"]


@needs_webgpu
def test_every_node_runs_there_and_agrees_with_the_cpu(imported: Importer) -> None:
    """An MLP runs whole on WebGPU, in one batch and in parts, and differs from the CPU by rounding."""
    model = imported(graphs.mlp())
    x = np.random.default_rng(2).normal(size=(8, 16)).astype(np.float32)
    session, device, _ = choose(["webgpu"], model)
    assert (device.id, device.evidence) == ("webgpu:0", "verified-ci")
    assert session.placement.nodes == session.placement.on_device > 0
    cpu = choose(["cpu"], model).session
    for rows in (8, 1):
        wanted: np.ndarray[Any, Any] = cpu.run({"x": x[:rows]})["y"]
        given: np.ndarray[Any, Any] = session.run({"x": x[:rows]})["y"]
        np.testing.assert_allclose(given, wanted, atol=1e-4)


@needs_webgpu
def test_what_it_does_not_take_is_refused(imported: Importer) -> None:
    """int64 arithmetic stays behind: the model is refused with the node, and never computed on the CPU instead."""
    made = inference.backend("webgpu")
    with pytest.raises(UnsupportedModelError, match="webgpu:0 takes 0 of 1 nodes and leaves: Add"):
        made.prepare(imported(graphs.integers()), made.devices()[0], Options())


def test_where_it_is_absent_the_reason_says_what_to_do() -> None:
    """The package, Vulkan or a device: whatever is missing is named in both languages, with the way to get it."""
    if ABSENT is None:
        assert len(inference.backend("webgpu").devices()) == 1
        return
    assert any(way in ABSENT.reason for way in ("docs/how-to/second-device.md", "install the extra `webgpu`"))
    assert any(way in ABSENT.reason_zh for way in ("docs/zh-CN/how-to/second-device.md", "请安装 `webgpu`"))


@needs_webgpu
def test_threads_that_ask_at_once_get_the_answers_they_would_get_alone(tmp_path: Path) -> None:
    """The kit's section on concurrency passes: what the runtime does not survive never reaches it.

    In a process of its own, which is what two runs at once would end.
    """
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "conform", "--device", "webgpu", "--only", "concurrency", "--report", report],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "HEADRACE_DATA_DIR": str(tmp_path / "data")},
    )
    assert done.returncode == 0, done.stderr
    (found,) = [one for one in json.loads(report.read_text())["report"]["sections"] if one["verdict"] != "not_possible"]
    assert (found["section"], found["verdict"], found["facts"]["other_answers"]) == ("concurrency", "passed", 0)
    assert found["facts"]["runs"] == timing.THREADS * timing.EACH


@needs_webgpu
def test_in_an_engine_it_is_the_same(imported: Importer) -> None:
    """Sessions of one engine take turns as well: four callers keep the process alive."""
    model, apart = imported(graphs.mlp()), Apart()
    try:
        made = apart.backend("webgpu")
        sessions = [made.prepare(model, made.devices()[0], Options()) for _ in range(4)]
        rows = [np.full((8, 16), number, np.float32) for number in range(4)]
        alone: list[np.ndarray[Any, Any]] = [one.run({"x": x})["y"] for one, x in zip(sessions, rows, strict=True)]
        start = threading.Barrier(4)

        def ask(number: int) -> None:
            start.wait()
            for _ in range(50):
                given: np.ndarray[Any, Any] = sessions[number].run({"x": rows[number]})["y"]
                np.testing.assert_allclose(given, alone[number], atol=1e-6)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ask, range(4)))
    finally:
        apart.stop()
