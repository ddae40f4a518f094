"""Huawei's ONNX Runtime without its toolkit and without a card: it lists its provider, and is never believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inference import Options, UnsupportedModelError, engines
from inference.adapters.chip import ChipBackend, chips
from tests.inference import onnx_graphs as graphs
from tests.inference.machines import Machine, described

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

    from inference import Model
    from tests.inference.accelerators.conftest import Place

CHIP = next(chip for chip in chips() if chip.vendor == "ascend")
SAID = described()["ascend"]


@pytest.fixture
def machine(place: Place, tmp_path: Path) -> Machine:
    """A machine that shows two cards, with Huawei's runtime in an engine's environment."""
    place("ascend", "cann")
    made = Machine(tmp_path)
    made.hardware(SAID)
    return made


def ascend(machine: Machine) -> ChipBackend:
    """On that machine, in that engine."""
    engine = engines.engine("ascend")
    assert engine is not None
    return ChipBackend(CHIP, machine.host).inside(engine)


def test_without_the_toolkit_the_library_is_named_and_nothing_else(machine: Machine) -> None:
    """Python, numpy, version and provider of the environment are right: what is missing is CANN's own library."""
    made = ascend(machine)
    assert made.devices() == ()
    absent = made.absent()
    assert absent is not None
    assert "the library libascendcl.so" in absent.reason
    for there in ("Python", "numpy", "CANNExecutionProvider ("):
        assert f"lacks: {there}" not in absent.reason
        assert f", {there} " not in absent.reason


def test_a_library_that_only_lies_there_makes_no_session(
    machine: Machine, imported: Callable[[onnx.ModelProto], Model]
) -> None:
    """The cards are shown, and preparing is refused by the runtime itself: never a session on the CPU."""
    machine.runtime(SAID)
    made = ascend(machine)
    found = made.devices()
    assert [device.id for device in found] == ["ascend:0", "ascend:1"]
    assert "engine" in found[0].backend
    with pytest.raises(UnsupportedModelError) as refused:
        made.prepare(imported(graphs.mul()), found[0], Options())
    assert "CANN" in str(refused.value)
