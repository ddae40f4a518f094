"""A camera, a waveform and a machine's cycles on a broker: each picture, message and cycle is answered."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any, Final

import onnx
import pytest
import yaml
from PIL import Image

from tests.inference.onnx_graphs import FLOAT, build, node, value
from tests.journeys.box import EXAMPLE, Box, running
from tests.journeys.test_bad_input import publisher
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

OPTIONS: Final = {
    "url": {"env": f"{EXAMPLE}MQTT"}, "username": {"env": f"{EXAMPLE}MQTT_USER"},
    "password": {"env": f"{EXAMPLE}MQTT_PASSWORD"},
}  # fmt: skip
TIMED: Final = {"time": "/t", "time_format": "ms"}


def means(dims: list[int], axes: list[int]) -> onnx.ModelProto:
    """The mean over these axes of x, float32 [N, …]."""
    left = [size for axis, size in enumerate(dims, 1) if axis not in axes]
    graph = [node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)]
    return build(graph, [value("x", FLOAT, ["N", *dims])], [value("y", FLOAT, ["N", *left])])


def written(folder: Path) -> Path:
    """The plant file, and the models beside it."""
    models = {"colour": means([3, 6, 8], [2, 3]), "level": means([5], [1]), "torque": means([4, 1], [1])}
    for name, made in models.items():
        onnx.save_model(made, folder / f"{name}.onnx")
    document = {
        "version": 1, "plant": {"enterprise": "tests", "site": "pictures"},
        "connections": [{"name": "cell", "connector": "mqtt", "options": OPTIONS}],
        "tags": [
            {"name": "camera", "connection": "cell", "datatype": "any", "address": "cell/camera",
             "options": {"format": "image"}},
            {"name": "wave", "connection": "cell", "datatype": "array", "address": "cell/wave#/v", "options": TIMED},
            {"name": "torque", "connection": "cell", "address": "cell/press#/torque", "options": TIMED},
            {"name": "running", "connection": "cell", "datatype": "boolean", "address": "cell/press#/on",
             "options": TIMED},
        ],
        "models": [{"name": name, "path": str(folder / f"{name}.onnx")} for name in models],
        "pipelines": [
            {"name": "looking", "model": "colour", "window": {"kind": "message"},
             "inputs": {"tags": ["camera"], "use_received_time": True}},
            {"name": "hearing", "model": "level", "window": {"kind": "message"}, "inputs": {"tags": ["wave"]}},
            {"name": "pressing", "model": "torque", "window": {"start": "running", "length": 4, "lateness_s": 0.2},
             "inputs": {"tags": ["torque"]}},
        ],
    }  # fmt: skip
    path = folder / "pictures.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def drawn(colour: tuple[int, int, int]) -> bytes:
    """A picture of one colour, six rows of eight."""
    made = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(made, "PNG")
    return made.getvalue()


async def answers(box: Box, pipeline: str, count: int) -> list[dict[str, Any]]:
    """So many predictions, by their number."""

    async def enough() -> list[dict[str, Any]]:
        found = await box.items("/predictions", pipeline=pipeline)
        return found if len(found) >= count else []

    found = await wait_for(enough, 40, f"{count} predictions of {pipeline}")
    return sorted(found, key=lambda one: int(one["sequence"]))


async def test_pictures_waveforms_and_cycles_are_answered(tmp_path: Path) -> None:
    """Each has one prediction; what is none is refused by name, and every reading is in the ledger."""
    async with running(tmp_path / "box", plant=written) as box:
        await wait_for(lambda: box.logged("connection_up"), 30, "the cell is connected")
        with publisher(box.broker) as publish:
            for content in (drawn((10, 20, 30)), drawn((1, 2, 3))[:50], drawn((200, 0, 100))):
                publish("cell/camera", content)
            begin = time.time_ns() // 1_000_000
            for number in range(3):
                values = [number, 1, 2, 3, 4.0][: 5 - number % 2]
                publish("cell/wave", json.dumps({"t": begin + number, "v": values}).encode())
            for number, on in enumerate((False, True, True, True, True, False)):
                publish("cell/press", json.dumps({"t": begin + 100 * number, "on": on, "torque": number}).encode())
            pictures = await answers(box, "looking", 2)
            assert [one["outputs"]["y"] for one in pictures] == [[10.0, 20.0, 30.0], [200.0, 0.0, 100.0]]
            waves = await answers(box, "hearing", 3)
            assert [one["outputs"].get("y") for one in waves] == [2.0, None, pytest.approx(2.4)]
            assert [one["reason"] for one in waves] == ["", waves[1]["reason"], ""]
            assert waves[1]["reason"].startswith("wrong_shape:")
            (cycle,) = await answers(box, "pressing", 1)
            assert cycle["outputs"]["y"] == pytest.approx(3.5)

        async def balanced() -> bool:
            account = await box.account("cell")
            return bool(account["balanced"]) and not account["held"]

        await wait_for(balanced, 30, "every reading is in the ledger")
