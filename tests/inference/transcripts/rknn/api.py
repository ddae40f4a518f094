"""A mock of RKNN-Toolkit2's compiler, after airockchip/rknn-toolkit2, rknn-toolkit2/examples/onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from recorder import note


class RKNN:
    """It writes down what it is told."""

    def __init__(self, *, verbose: bool) -> None:
        """`verbose`: it would print its tables."""

    def config(self, **told: Any) -> None:
        """The chip."""
        note("config", told)

    def load_onnx(self, *, model: str) -> int:
        """A model."""
        note("load_onnx", Path(model).suffix)
        return 0

    def build(self, *, do_quantization: bool, dataset: str | None = None) -> int:
        """Compiled; the dataset is a file of lines of files."""
        lines = [] if dataset is None else Path(dataset).read_text(encoding="utf-8").splitlines()
        feeds = [[np.load(file).tolist() for file in line.split()] for line in lines]
        note("build", do_quantization, feeds)
        return 0

    def export_rknn(self, path: str) -> int:
        """To a file."""
        note("export_rknn", Path(path).name)
        Path(path).write_text("rknn", encoding="utf-8")
        return 0

    def release(self) -> None:
        """Free it."""
        note("release")
