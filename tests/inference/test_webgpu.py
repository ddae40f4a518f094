"""The WebGPU plugin on a software Vulkan: real kernels in memory of their own, or the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

import inference
from inference import Options, UnsupportedModelError
from inference.devices import choose
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
