"""OpenVINO's own runtime on a CPU: a model is compiled to a blob, and the blob is imported.

Calls: OpenVINO documentation, Python API, `openvino.Core` (`compile_model`, `import_model`), `CompiledModel`
(`export_model`, `create_infer_request`). Run in our tests.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

DEVICE = "CPU"
HINTS = {"fp32": "f32", "bf16": "bf16"}
BLOB = "model.blob"
NARROWED = ("int64", "uint64", "float64")
"""Its CPU computes these in 32 bits and says nothing: 2**60 + 1 plus 1 is 2."""


def _settings(asked: dict[str, Any]) -> dict[str, Any]:
    # Said outright: by itself it chooses bfloat16 where the CPU has it, at 10,000 times the error.
    return {"INFERENCE_PRECISION_HINT": HINTS[asked["precision"]], "INFERENCE_NUM_THREADS": int(asked["threads"])}


def about(_options: dict[str, str]) -> dict[str, Any]:
    """Version, and the processor as the chip."""
    module = importlib.import_module("openvino")
    return {"name": "openvino", "version": module.__version__,
            "soc": str(module.Core().get_property(DEVICE, "FULL_DEVICE_NAME"))}  # fmt: skip


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> list[list[Any]]:
    """The blob, and every operation of the compiled model: the CPU is the device that was asked for."""
    narrowed = sorted({one["dtype"] for one in (*asked["inputs"], *asked["outputs"])} & set(NARROWED))
    if narrowed:
        message = f"it would compute {', '.join(narrowed)} in 32 bits: add a Cast to the graph"
        raise ValueError(message)
    core = importlib.import_module("openvino").Core()
    compiled = core.compile_model(core.read_model(path), DEVICE, _settings(asked))
    blob = compiled.export_model()
    Path(folder, BLOB).write_bytes(blob.getvalue() if hasattr(blob, "getvalue") else blob)
    on = list(compiled.get_property("EXECUTION_DEVICES")) == [DEVICE]
    ops = compiled.get_runtime_model().get_ops()
    return [[one.get_friendly_name(), on] for one in ops if one.get_type_name() not in ("Input", "Output", "Const")]


class Loaded:
    """An imported blob."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Raises RuntimeError for a blob that this version or processor does not take."""
        core = importlib.import_module("openvino").Core()
        compiled = core.import_model(Path(folder, BLOB).read_bytes(), DEVICE, _settings(asked))
        self._request = compiled.create_infer_request()
        self._inputs = [one["name"] for one in asked["inputs"]]
        self._outputs = [one["name"] for one in asked["outputs"]]

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs by their names, in the model's order; copies, since the request uses its memory again."""
        found = self._request.infer(dict(zip(self._inputs, values)))  # noqa: B905 - Python 3.8
        return [found[name].copy() for name in self._outputs]

    def close(self) -> None:
        """Free it."""
        self._request = None


def load(folder: str, asked: dict[str, Any]) -> Loaded:
    """Import the blob."""
    return Loaded(folder, asked)
