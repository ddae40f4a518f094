"""A mock of suInfer, after BirenTechnology/ModelZoo, inference/suinfer/yolov5/pysuinfer_demo.py: it doubles."""

from __future__ import annotations

import os
import types
from pathlib import Path
from typing import Any

import numpy as np
from recorder import note

suResult = types.SimpleNamespace(SUI_STATUS_SUCCESS=0)


class pysuInferSession:
    """Built of an ONNX file, or initialised from what Build wrote."""

    def __init__(self, device: int, log: str) -> None:
        """On a card, by its number."""
        note("pysuInferSession", device, Path(log).name)
        self._shapes: dict[str, list[int]] = {}
        self._given: list[Any] = []
        self._wanted: list[Any] = []

    def Build(self, path: str, shapes: dict[str, list[int]], target: str, policy: list[Any]) -> int:
        """Serialise to a file; HEADRACE_MOCK asks for a compiler that dies or never ends."""
        note("Build", Path(path).name, shapes, policy)
        if os.environ.get("HEADRACE_MOCK") == "crash":
            os.abort()
        while os.environ.get("HEADRACE_MOCK") == "hang":
            pass
        Path("left-behind.tmp").write_text("as compilers do", encoding="utf-8")
        Path(target).write_text("serialised", encoding="utf-8")
        return int(os.environ.get("HEADRACE_MOCK") == "refuse")

    def Init(self, target: str) -> int:
        """From the file."""
        note("Init", Path(target).read_text(encoding="utf-8"))
        return 0

    def GetInputInformation(self, name: str) -> Any:
        """Of an input."""
        return types.SimpleNamespace(name=name)

    def GetOutputInformation(self, _name: str) -> Any:
        """As many elements as went in."""
        return types.SimpleNamespace(dims=[2, 3])

    def SetInputInformation(self, name: str, value: Any, _about: Any) -> None:
        """Bytes."""
        note("SetInputInformation", name, str(value.dtype))
        self._given.append(value)

    def SetOutputInformation(self, name: str, value: Any, _about: Any) -> None:
        """Bytes to be filled."""
        note("SetOutputInformation", name, str(value.dtype))
        self._wanted.append(value)

    def Run(self) -> int:
        """Fill the outputs."""
        note("Run")
        for given, wanted in zip(self._given, self._wanted, strict=True):
            wanted.view(np.float32)[...] = 2 * given.view(np.float32)
        self._given, self._wanted = [], []
        return 0
