"""A pipeline moved from device to device while data flows, and a device unplugged under it: nothing is lost."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import onnx
import pytest
import yaml

import inference
from app import times
from tests.inference import vulkan
from tests.inference.onnx_graphs import FLOAT, build, constant, node, value
from tests.inference.plugins import needs_compiler
from tests.journeys.box import EXAMPLE, Box, plants, running
from tests.journeys.test_configuration import apply
from tests.journeys.test_kills import at_rest
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300), needs_compiler]

TAGS: Final = ("XMEAS_07", "XMEAS_09", "XMEAS_11", "XMEAS_13")
ROWS: Final = 4
EACH: Final = 3
"""Predictions on a device before the next move."""
TOLERANCE: Final = 1e-3


def model() -> onnx.ModelProto:
    """Two layers over a window of four tags, about 1000 kPa and degrees each, scaled; float32 [N, 16] to [N, 1]."""
    first = [[(row * 7 + column * 5) % 11 / 11 - 0.4 for column in range(8)] for row in range(len(TAGS) * ROWS)]
    second = [[row / 8 - 0.3] for row in range(8)]
    nodes = [
        node("Mul", ["x", "scale"], ["a"]), node("Gemm", ["a", "w1"], ["b"]), node("Tanh", ["b"], ["c"]),
        node("Gemm", ["c", "w2"], ["score"]),
    ]
    weights = [constant("scale", 1e-3), constant("w1", first), constant("w2", second)]
    x = value("x", FLOAT, ["N", len(TAGS) * ROWS])
    return build(nodes, [x], [value("score", FLOAT, ["N", 1])], weights)


def written(folder: Path, *devices: str) -> Path:
    """A plant file: `moved` on these devices, and `still`, the same on the CPU, for comparison."""
    onnx.save_model(model(), folder / "pair.onnx")
    pipeline = {"model": "pair", "window": {"step_s": 1.0, "length": ROWS, "lateness_s": 0.3},
                "inputs": {"tags": list(TAGS), "policy": "hold", "hold_s": 5, "max_gap_s": 15}}
    process = {"name": "process", "connector": "opcua", "options": {
        "url": {"env": f"{EXAMPLE}OPCUA"}, "security": "None", "publishing_interval_ms": 100,
    }}
    document = {
        "version": 1, "plant": {"enterprise": "tests", "site": "devices"}, "connections": [process],
        "tags": [{"names": list(TAGS), "connection": "process", "address": "nsu=urn:headrace:examples:tep;s={name}"}],
        "models": [{"name": "pair", "path": str(folder / "pair.onnx")}],
        "pipelines": [
            {"name": "moved", "devices": list(devices), **pipeline}, {"name": "still", "devices": ["cpu"], **pipeline},
        ],
    }
    path = folder / "devices.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@asynccontextmanager
async def box_with_plug(folder: Path) -> AsyncIterator[tuple[Box, Path]]:
    """A box on the CPU, and the file that unplugs the simulator's devices when it is there."""
    plug = folder / "unplugged"
    os.environ["SIMNPU_UNPLUGGED"] = str(plug)
    try:
        async with running(folder / "devices", plant=lambda own: written(own, "cpu")) as box:
            yield box, plug
    finally:
        del os.environ["SIMNPU_UNPLUGGED"]


async def on_device(box: Box, device: str) -> list[dict[str, Any]]:
    """Some predictions of windows that closed after now, made on this device."""
    now = times.rfc3339(times.now())

    async def made() -> list[dict[str, Any]]:
        found = await box.items("/predictions", pipeline="moved", refused="false")
        there = [one for one in found if one["passport"]["device"] == device and one["passport"]["received"] > now]
        return there if len(there) >= EACH else []

    return await wait_for(made, 60, f"{EACH} predictions on {device}")


async def moved(box: Box, *devices: str) -> list[dict[str, Any]]:
    """Predictions on the first of the devices, which a new revision of the plant file names."""
    said = await apply(box, written(box.data, *devices))
    assert [(one["kind"], one["name"], one["what"]) for one in said["changes"]] == [("pipeline", "moved", "changed")]
    return await on_device(box, devices[0])


async def compared(box: Box) -> tuple[int, float]:
    """How many windows both pipelines answered, and the largest difference; none is missing, refused or doubled."""
    every: dict[str, dict[str, dict[str, Any]]] = {}
    for name in ("moved", "still"):
        found = await box.items("/predictions", pipeline=name)
        assert [one["reason"] for one in found if one["reason"] and not one["reason"].startswith("no_data")] == []
        every[name] = {one["passport"]["end"]: one for one in found}
        assert len(every[name]) == len(found)
    # One was asked before the other, and another window may have closed between.
    last = min(max(one) for one in every.values())
    every = {name: {end: one for end, one in found.items() if end <= last} for name, found in every.items()}
    assert every["moved"].keys() == every["still"].keys()
    pairs = [(every["moved"][end], one) for end, one in every["still"].items() if not one["reason"]]
    assert all(one["passport"]["input_digest"] == two["passport"]["input_digest"] for one, two in pairs)
    return len(pairs), max(abs(one["outputs"]["score"] - two["outputs"]["score"]) for one, two in pairs)


def worker_said(box: Box, event: str) -> list[str]:
    """Lines of the worker's log that tell of this event on the moved pipeline."""
    text = (box.data / "log" / "worker.log").read_text(encoding="utf-8")
    return [one for one in text.splitlines() if event in one.split() and "pipeline=moved" in one]


async def test_a_pipeline_moves_while_data_flows_and_loses_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """cpu, simnpu, webgpu, then simnpu unplugged: every window is answered once, as the CPU answers it, to rounding.

    Each passport names the device that was asked for and the one that answered; the ledger balances.
    """
    webgpu = inference.backend("webgpu").absent()
    async with box_with_plug(folder) as (box, plug):
        async with plants(box):
            await on_device(box, "cpu")
            for one in await moved(box, "simnpu:0", "cpu"):
                passport = one["passport"]
                assert (passport["device_wanted"], passport["nodes_on_device"]) == ("simnpu:0", passport["nodes"])
                assert passport["backend"].endswith("SimNPUExecutionProvider")
            if webgpu is None:
                assert all("WebGpu" in one["passport"]["backend"] for one in await moved(box, "webgpu:0", "cpu"))
            await moved(box, "simnpu:1", "cpu")
            plug.touch()
            fallen = await on_device(box, "cpu")
            assert {one["passport"]["device_wanted"] for one in fallen} == {"simnpu:1"}
            (lost,), (refused,) = worker_said(box, "device_lost"), worker_said(box, "device_refused")
            assert "device=simnpu:1" in lost
            assert "the device is gone" in refused
        await wait_for(lambda: at_rest(box), 30, "the ledger balances with nothing held")

        async def same() -> bool:
            ends = [{one["passport"]["end"] for one in await box.items("/predictions", pipeline=name)}
                    for name in ("moved", "still")]
            return ends[0] == ends[1]

        await wait_for(same, 20, "both pipelines have answered the same windows")
        windows, largest = await compared(box)
        assert windows >= 4 * EACH
        assert largest < TOLERANCE
    with capsys.disabled():
        sys.stdout.write(f"\n{windows} windows over the moves, largest difference to the CPU {largest:.2g}\n")
    if webgpu is not None:
        pytest.skip(f"moved over cpu and simnpu; not to webgpu: {webgpu.reason}; {vulkan.MISSING}")
