"""The plant file of a benchmark: one OPC UA connection, N tags, pipelines of 100 tags each over one small MLP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

WIDTH: Final = 100
"""Tags a pipeline takes, where there are as many."""
LENGTH: Final = 10
HIDDEN: Final = 32
BROKER: Final = "HEADRACE_BENCH_MQTT_"
NORTH: Final = "HEADRACE_BENCH_NORTH"


@dataclass(frozen=True, slots=True)
class Load:
    """How much a case asks for."""

    tags: int
    pipelines: int
    hz: float
    publishing_ms: float
    lateness_s: float
    opcua_north: bool = False


def model(path: Path, columns: int) -> None:
    """A bare .onnx file: [N, 10, columns] → flatten, 32 hidden units, one score per window."""
    random = np.random.default_rng(7)
    wide = random.normal(0, 0.05, (LENGTH * columns, HIDDEN)).astype(np.float32)
    narrow = random.normal(0, 0.2, (HIDDEN, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["window"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["score"]),
    ]
    weights = {"w1": wide, "b1": np.zeros(HIDDEN, np.float32), "w2": narrow, "b2": np.zeros(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["N", LENGTH, columns])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    onnx.save(made, path)


def write(folder: Path, load: Load, opcua_url: str) -> Path:
    """plant.yaml and its model in this folder; returns the plant file."""
    width = min(WIDTH, load.tags)
    model(folder / "mlp.onnx", width)
    document = {
        "version": 1,
        "plant": {"enterprise": "bench", "site": "box"},
        "connections": [{"name": "plant", "connector": "opcua", "options": _plant(load, opcua_url)}],
        "tags": [{"names": [f"T[0-{load.tags - 1}]"], "connection": "plant", "address": "ns=1;s={name}"}],
        "models": [{"name": "mlp", "path": "mlp.onnx"}],
        "pipelines": [_pipeline(number, width, load) for number in range(load.pipelines)],
        "northbound": _northbound(load),
    }
    path = folder / "plant.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _plant(load: Load, url: str) -> dict[str, Any]:
    return {"url": url, "security": "None", "publishing_interval_ms": load.publishing_ms}


def _pipeline(number: int, width: int, load: Load) -> dict[str, Any]:
    """Every pipeline has 100 tags of its own, but the last one, where they run out, shares some with the one before."""
    first = min(number * WIDTH, load.tags - width)
    return {
        "name": f"p{number:02d}",
        "model": "mlp",
        "asset": f"unit-{number:02d}",
        "window": {"step_s": 1 / load.hz, "length": LENGTH, "hop": 1, "lateness_s": load.lateness_s},
        "inputs": {"tags": [f"T[{first}-{first + width - 1}]"]},
    }


def _northbound(load: Load) -> list[dict[str, Any]]:
    broker = {"url": {"env": f"{BROKER}URL"}, "username": {"env": f"{BROKER}USER"}}
    broker["password"] = {"env": f"{BROKER}PASSWORD"}
    made: list[dict[str, Any]] = [{"name": "broker", "connector": "mqtt", "topic": "headrace", "options": broker}]
    if load.opcua_north:
        options = {"endpoint": {"env": NORTH}, "security": ["None"], "anonymous": True}
        made.append({"name": "scada", "connector": "opcua", "options": options})
    return made
