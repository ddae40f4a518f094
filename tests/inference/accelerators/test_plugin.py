"""A maker's plugin in an engine whose ONNX Runtime is another version than ours; SimNPU stands for its library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

import inference
from inference import Options, UnsupportedModelError, engines, simnpu
from inference.adapters import ort
from inference.adapters.chip import ChipBackend
from inference.devices import choose
from inference.vendors.moorethreads import CHIP
from tests.inference import onnx_graphs as graphs
from tests.inference.machines import Machine, described
from tests.inference.plugins import module, needs_compiler

if TYPE_CHECKING:
    from inference import Model
    from tests.inference.accelerators.conftest import Place

pytestmark = needs_compiler
Importer = Callable[[onnx.ModelProto], "Model"]


@pytest.fixture
def machine(place: Place, tmp_path: Path) -> Machine:
    """Two cards of Moore Threads, whose vendor file asks for ONNX Runtime 1.26; ours is another."""
    place("moorethreads", "plugin")
    made = Machine(tmp_path)
    made.hardware(described()["moorethreads"])
    return made


def threads(machine: Machine, provider: str = simnpu.NAME, **changes: object) -> ChipBackend:
    """The chip with its own requirements, and SimNPU where its library would be, in the engine."""
    module(machine.modules, "onnxruntime_like_musa", provider)
    parts = {"target": simnpu.NAME, "module": "onnxruntime_like_musa", "libraries": (), "precisions": None,
             "options": {}, **changes}  # fmt: skip
    chip = replace(CHIP, routes=(replace(CHIP.routes[0], **parts),))  # type: ignore[arg-type]
    engine = engines.engine("moorethreads")
    assert engine is not None
    return ChipBackend(chip, machine.host).inside(engine)


def test_it_runs_in_the_engine_and_not_here(machine: Machine, imported: Importer) -> None:
    """A device per card, on the engine's own version, which the vendor file asks for and ours is not."""
    assert not ort.runtime().__version__.startswith("1.26.")
    made = threads(machine)
    devices = made.devices()
    assert made.absent() is None
    assert [one.id for one in devices] == ["moorethreads:0", "moorethreads:1"]
    assert "onnxruntime 1.26.0, " in devices[0].backend
    assert "engine, Python 3.11" in devices[0].backend
    model = imported(graphs.mlp())
    x = np.random.default_rng(6).normal(size=(3, 16)).astype(np.float32)
    session = made.prepare(model, devices[1], Options())
    assert (session.placement.on_device, session.placement.fallen_back) == (3, ())
    there: Any = session.run({"x": x})["y"]
    here: Any = choose(["cpu"], model).session.run({"x": x})["y"]
    np.testing.assert_allclose(there, here, atol=1e-4)


def test_one_device_for_all_cards_is_told_the_number(machine: Machine, imported: Importer) -> None:
    """Where an option takes the card's number it reaches the provider, which here knows no such option."""
    made = threads(machine, options={"device": "device_id"})
    with pytest.raises(UnsupportedModelError, match="Unknown provider option 'device_id'"):
        made.prepare(imported(graphs.mlp()), made.devices()[1], Options())


def test_a_module_of_another_provider_is_refused_by_name(machine: Machine) -> None:
    """The engine says what the module offers, and which interpreter was asked."""
    absent = threads(machine, provider="OtherExecutionProvider").absent()
    assert absent is not None
    assert f"offers OtherExecutionProvider, not {simnpu.NAME}" in absent.reason


def test_simnpu_itself_runs_there(place: Place, imported: Importer) -> None:
    """A vendor whose plugin is a library by its path, in the same environment."""
    place("simnpu", "plugin")
    made = inference.backend("simnpu")
    assert "onnxruntime 1.26.0, engine" in made.devices()[0].backend
    session = made.prepare(imported(graphs.mlp()), made.devices()[1], Options())
    assert session.placement.on_device == 3
