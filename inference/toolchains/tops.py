"""Enflame: TopsInference 2.0 parses, optimises and saves an executable, and runs it.

Written to EnflameTechnology/tops_inference_sample, python/sampleONNXResNet/resnet.py and
python/sampleONNXBert/sampleBert.py, of 2023. Never run by us: it is tested against a transcript. Element types are
named as the samples do: `DT_FLOAT32` is the only one shown.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

EXECUTABLE = "model.exec"
FLAGS = {"fp32": "KDEFAULT", "fp16": "KFP16", "mixed": "KFP16_MIX"}
CLUSTER = 0


def _tops() -> Any:  # noqa: ANN401 - it has no types
    return importlib.import_module("TopsInference")


def about(_options: dict[str, str]) -> dict[str, Any]:
    """That it is there; the samples show no count of cards."""
    tops = _tops()
    version = getattr(tops, "__version__", "")
    return {"name": "TopsInference", **({"version": version} if version else {"file": tops.__file__})}


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> None:
    """The executable, for these shapes. Where layers run is not told."""
    tops = _tops()
    if any(one["dtype"] != "float32" for one in asked["inputs"]):
        message = "the maker's samples show float32 inputs alone"
        raise ValueError(message)
    with tops.device(int(asked["device"]), CLUSTER):
        parser = tops.create_parser(tops.ONNX_MODEL)
        parser.set_input_names(",".join(one["name"] for one in asked["inputs"]))
        parser.set_output_names(",".join(one["name"] for one in asked["outputs"]))
        parser.set_input_shapes(":".join(",".join(map(str, one["shape"])) for one in asked["inputs"]))
        parser.set_input_dtypes(",".join("DT_FLOAT32" for _ in asked["inputs"]))
        optimizer = tops.create_optimizer()
        optimizer.set_build_flag(getattr(tops, FLAGS[asked["precision"]]))
        optimizer.build(parser.read(path)).save_executable(str(Path(folder, EXECUTABLE)))


class Loaded:
    """An executable on a card."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Raises what the maker's calls raise."""
        self._tops = _tops()
        self._card = self._tops.set_device(int(asked["device"]), CLUSTER)
        self._made = self._tops.PyEngine()
        self._made.load_tops_executable(str(Path(folder, EXECUTABLE)))

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs in the model's order."""
        answers: list[Any] = []
        self._made.run(values, answers, self._tops.TIF_ENGINE_RSC_IN_HOST_OUT_HOST)
        return answers

    def close(self) -> None:
        """Give the card back."""
        self._made = None
        self._tops.release_device(self._card)


def load(folder: str, asked: dict[str, Any]) -> Loaded:
    """On the card of that number."""
    return Loaded(folder, asked)
