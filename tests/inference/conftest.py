"""Models of the tests, imported into a store of each test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from inference.model import import_model
from tests.inference import vulkan  # noqa: F401 - what it finds has to be there before a device is asked for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inference import Model


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty model store."""
    return tmp_path / "store"


@pytest.fixture
def imported(tmp_path: Path, store: Path) -> Callable[[onnx.ModelProto], Model]:
    """Import a model from a file of its own."""
    def do(proto: onnx.ModelProto) -> Model:
        path = tmp_path / "model-under-test.onnx"
        onnx.save_model(proto, path)
        return import_model(path, store)
    return do
