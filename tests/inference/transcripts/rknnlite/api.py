"""A mock of the board's runtime, after airockchip/rknn-toolkit2, rknn-toolkit-lite2/examples/resnet18: it doubles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from recorder import note


class RKNNLite:
    """Loaded from a file."""

    def load_rknn(self, path: str) -> int:
        """A compiled model."""
        note("load_rknn", Path(path).read_text(encoding="utf-8"))
        return 0

    def init_runtime(self) -> int:
        """On the NPU of this board."""
        note("init_runtime")
        return 0

    def inference(self, *, inputs: list[Any], data_format: list[str]) -> list[Any]:
        """Each number doubled."""
        note("inference", data_format, [one.dtype.name for one in inputs])
        return [np.asarray(one) * 2 for one in inputs]

    def release(self) -> None:
        """Free it."""
        note("lite release")
