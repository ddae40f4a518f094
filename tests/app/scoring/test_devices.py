"""What becomes of windows when the device they are scored on fails: the order of devices decides, and it is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sqlalchemy import select

from app.db import reading
from app.readings.service import counts
from app.scoring.tables import PredictionRow
from connectors import Status
from tests.app.works import LENGTH, Works
from tests.inference.plugins import needs_compiler

pytestmark = needs_compiler
FLOAT = TensorProto.FLOAT
OUTPUTS = [{"name": "score", "tag": 2, "tag_name": "watch.score"}]
ORDER = ("simnpu:0", "cpu")
Make = Callable[..., Works]


def constant(name: str, data: object) -> onnx.TensorProto:
    """A float32 initializer."""
    return numpy_helper.from_array(np.array(data, dtype=np.float32), name)


def million_model() -> onnx.ModelProto:
    """Of x, float32 [N, 8], `score` is a / (a + 1) of a = 1e6 times the sum; NaN where half precision overflows."""
    nodes = [
        helper.make_node("Gemm", ["x", "ones"], ["sum"]), helper.make_node("Mul", ["sum", "million"], ["a"]),
        helper.make_node("Add", ["a", "one"], ["b"]), helper.make_node("Div", ["a", "b"], ["score"]),
    ]
    weights = [constant("ones", [[1.0]] * 2 * LENGTH), constant("million", 1e6), constant("one", 1.0)]
    x = helper.make_tensor_value_info("x", FLOAT, ["N", 2 * LENGTH])
    y = helper.make_tensor_value_info("score", FLOAT, ["N", 1])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """A variable of this process, which is where the simulator's library reads it."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@pytest.fixture
def works(here: str, tmp_path: Path) -> Iterator[Works]:
    """A pipeline that wants the simulator and then the CPU."""
    made = Works(here, tmp_path, proto=million_model(), spec={"devices": ORDER, "layout": "NC", "outputs": OUTPUTS})
    yield made
    made.close()


def scored(works: Works, number: int) -> PredictionRow:
    """The prediction of one more message of one window, that came through the worker."""
    works.scorer.apply(works.message(number, works.block([2.0], number)))
    with reading(works.engine) as session:
        found = session.scalars(select(PredictionRow).order_by(PredictionRow.sequence)).all()
        session.expunge_all()
    assert len(found) == number
    return found[-1]


def test_the_passport_names_the_device(works: Works) -> None:
    """The first of the order takes the model, with every node, and is what the passport says."""
    row = scored(works, 1)
    assert (row.device_wanted, row.device, row.reason) == ("simnpu:0", "simnpu:0", "")
    assert row.backend.endswith(", SimNPUExecutionProvider")
    assert row.nodes == row.nodes_on_device == 4
    assert row.outputs["score"] == pytest.approx(1.0)


@pytest.mark.parametrize("fault", ["create", "compile"])
def test_a_device_that_does_not_open_is_passed_over(
    fault: str, works: Works, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next of the order answers; the passport has both, and the log says which device refused and why."""
    with variable("SIMNPU_FAULT", fault):
        row = scored(works, 1)
    assert (row.device_wanted, row.device, row.reason) == ("simnpu:0", "cpu", "")
    assert row.outputs["score"] == pytest.approx(1.0)
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "device_refused" in one]
    assert "simnpu:0" in line
    assert f"injected {'driver' if fault == 'create' else 'compiler'}" in line


def test_a_device_unplugged_under_a_pipeline_moves_its_work(
    works: Works, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The window that found the device gone is answered by the next of the order; the log says lost, then refused."""
    plug = tmp_path / "unplugged"
    with variable("SIMNPU_UNPLUGGED", str(plug)):
        assert scored(works, 1).device == "simnpu:0"
        plug.touch()
        row = scored(works, 2)
    assert (row.device_wanted, row.device, row.reason) == ("simnpu:0", "cpu", "")
    events = [one for one in capsys.readouterr().out.splitlines() if "the device is gone" in one]
    assert [("device_lost" in one, "device_refused" in one) for one in events] == [(True, False), (False, True)]
    assert counts(works.engine) == {1: 2}


def test_a_device_that_fails_at_every_run_gives_its_work_to_the_next(works: Works) -> None:
    """It opens again and fails again: then the next of the order answers the same window, and those that follow."""
    with variable("SIMNPU_FAULT", "run"):
        for number in (1, 2):
            row = scored(works, number)
            assert (row.device_wanted, row.device, row.reason) == ("simnpu:0", "cpu", "")
    assert counts(works.engine) == {1: 2}


def test_a_device_alone_that_fails_at_every_run_refuses_and_keeps_readings(works: Works) -> None:
    """The window is refused with the reason, Bad: no device is used that the order does not name."""
    works.version = works.put_in_force(**{**works.spec, "devices": ("simnpu:0",)})
    with variable("SIMNPU_FAULT", "run"):
        row = scored(works, 1)
    assert row.reason.startswith("device_lost: ")
    assert "injected device fault" in row.reason
    assert (row.outputs, row.status) == ({}, Status.BAD_DATA_UNAVAILABLE)
    assert counts(works.engine) == {1: 1}


def test_an_overflow_of_half_precision_is_a_bad_status(works: Works) -> None:
    """A device that computes in half precision though nobody asked: what is NaN is refused as not finite, and Bad."""
    with variable("SIMNPU_FAULT", "half"):
        row = scored(works, 1)
    assert row.device == "simnpu:0"
    assert row.reason == "not_finite:score"
    assert (row.outputs, row.status) == ({}, Status.BAD_OUT_OF_RANGE)
