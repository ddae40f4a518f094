"""Biren: suInfer builds a session of an ONNX file and serialises it; a session is initialised from that.

Written to BirenTechnology/ModelZoo, inference/suinfer/yolov5/pysuinfer_demo.py. Never run by us: it is tested against a
transcript. The sample shows no count of cards, no version number and no way to close a session.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

BINARY, LOG = "model.bin", "suinfer.log"


def _session(folder: str, asked: dict[str, Any]) -> tuple[Any, Any]:
    module = importlib.import_module("pysuinfer")
    return module, module.pysuInferSession(int(asked["device"]), str(Path(folder, LOG)))


def _right(module: Any, name: str, status: Any) -> None:  # noqa: ANN401 - an enumeration of the maker's
    if status != module.suResult.SUI_STATUS_SUCCESS:
        message = f"{name} answered {status}"
        raise RuntimeError(message)


def about(_options: dict[str, str]) -> dict[str, Any]:
    """That it is there."""
    return {"name": "suInfer", "file": importlib.import_module("pysuinfer").__file__}


def compile_model(path: str, folder: str, asked: dict[str, Any]) -> None:
    """The serialised model, for these shapes. Where layers run is not told."""
    module, session = _session(folder, asked)
    shapes = {one["name"]: list(one["shape"]) for one in asked["inputs"]}
    _right(module, "Build", session.Build(path, shapes, str(Path(folder, BINARY)), policy=[]))


class Loaded:
    """A session of the serialised model."""

    def __init__(self, folder: str, asked: dict[str, Any]) -> None:
        """Raises RuntimeError, naming the call."""
        self._module, self._made = _session(folder, asked)
        self._asked = asked
        _right(self._module, "Init", self._made.Init(str(Path(folder, BINARY))))

    def run(self, values: list[Any]) -> list[Any]:
        """Outputs in the model's order. RuntimeError, naming the call."""
        session = self._made
        for one, value in zip(self._asked["inputs"], values):  # noqa: B905 - Python 3.8
            about_it = session.GetInputInformation(one["name"])
            session.SetInputInformation(one["name"], value.view(np.int8), about_it)
        answers = []
        for one in self._asked["outputs"]:
            about_it = session.GetOutputInformation(one["name"])
            answer = np.zeros(about_it.dims, one["dtype"])
            session.SetOutputInformation(one["name"], answer.view(np.int8), about_it)
            answers.append(answer)
        _right(self._module, "Run", session.Run())
        return answers

    def close(self) -> None:
        """Let go of it."""
        self._made = None


def load(folder: str, asked: dict[str, Any]) -> Loaded:
    """On the card of that number."""
    return Loaded(folder, asked)
