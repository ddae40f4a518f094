"""Engines on the oldest and the newest Python that they are made for, with the ONNX Runtime of each."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from inference import DeviceLostError, engines
from inference.devices import choose
from tests.inference import onnx_graphs as graphs

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from inference import Model
    from tests.inference.accelerators.conftest import Place


@pytest.mark.parametrize(("environment", "python"), [("python38", "3.8."), ("python313", "3.13.")])
def test_an_engine_answers_dies_and_answers_again(
    environment: str, python: str, place: Place, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """As the CPU here does; a session of an engine that was killed says so, and the next one is another process."""
    model = imported(graphs.mlp())
    x = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
    here: Any = choose(["cpu"], model).session.run({"x": x})["y"]
    place("cpu", environment)
    session, device, _ = choose(["cpu"], model)
    assert f"engine, Python {python}" in device.backend
    there: Any = session.run({"x": x})["y"]
    np.testing.assert_allclose(there, here, atol=1e-6)
    engine = engines.engine("cpu")
    assert engine is not None
    pid = engine.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DeviceLostError, match="died of SIGKILL"):
        session.run({"x": x})
    session = choose(["cpu"], model).session
    there = session.run({"x": x})["y"]
    np.testing.assert_allclose(there, here, atol=1e-6)
    assert engine.pid() != pid
    session.close()
