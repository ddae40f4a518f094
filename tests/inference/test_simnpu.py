"""SimNPU, built here by a real compiler: what it takes, how it computes, how it fails, what it leaves on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from inference import BackendNotInstalledError, Options, UnsupportedModelError, simnpu
from inference.devices import choose
from tests.inference.onnx_graphs import FLOAT, build, constant, node, value
from tests.inference.plugins import needs_compiler, told

if TYPE_CHECKING:
    import onnx

    from inference import Model

X: Final = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)
DRAW: Final = np.random.default_rng(8)
WEIGHTS: Final = {
    "row": DRAW.normal(size=4), "column": DRAW.normal(size=(3, 1)), "tall": DRAW.normal(size=(3, 5)),
    "wide": DRAW.normal(size=(4, 5)), "flat": DRAW.normal(size=(5, 4)), "cube": DRAW.normal(size=(2, 3, 4)),
    "bricks": DRAW.normal(size=(2, 4, 5)),
}
OPERATORS: Final[dict[str, tuple[str, list[str], dict[str, Any]]]] = {
    **{op: (op, ["x"], {}) for op in ("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Exp", "Identity", "Flatten")},
    **{f"{op} a row": (op, ["x", "row"], {}) for op in ("Add", "Sub", "Mul", "Div")},
    "Sub a column": ("Sub", ["x", "column"], {}), "Sub from a cube": ("Sub", ["cube", "x"], {}),
    "MatMul": ("MatMul", ["x", "wide"], {}), "Gemm": ("Gemm", ["x", "wide"], {}),
    "Gemm B": ("Gemm", ["x", "flat"], {"transB": 1, "alpha": 0.5}),
    "Gemm A": ("Gemm", ["x", "tall"], {"transA": 1}),
    "Gemm C": ("Gemm", ["x", "wide", "bias"], {"beta": -2.0}),
    "Softmax": ("Softmax", ["x"], {"axis": -1}), "Softmax without axis": ("Softmax", ["x"], {}),
}
LEFT: Final[dict[str, tuple[str, list[str], dict[str, Any]]]] = {
    "Softmax over rows": ("Softmax", ["x"], {"axis": 0}), "Flatten all": ("Flatten", ["x"], {"axis": 0}),
    "MatMul of a cube": ("MatMul", ["x", "bricks"], {}), "no kernel": ("Cos", ["x"], {}),
}
Importer = Callable[["onnx.ModelProto"], "Model"]


def one(case: tuple[str, list[str], dict[str, Any]]) -> onnx.ModelProto:
    """A model of one node; x float32 [3, 4]."""
    op, inputs, attributes = case
    weights = [constant(name, data) for name, data in (WEIGHTS | {"bias": DRAW.normal(size=5)}).items()]
    made = node(op, inputs, ["y"], **attributes)
    return build([made], [value("x", FLOAT, [3, 4])], [value("y", FLOAT, None)],
                 [one for one in weights if one.name in inputs])


@needs_compiler
@pytest.mark.parametrize("case", OPERATORS)
def test_each_operator_computes_as_the_cpu_does(case: str, imported: Importer) -> None:
    """With broadcasting, transposition and factors, one node of each agrees with ONNX Runtime's own."""
    model, made = imported(one(OPERATORS[case])), told()
    session = made.prepare(model, made.devices()[0], Options())
    wanted: np.ndarray[Any, Any] = choose(["cpu"], model).session.run({"x": X})["y"]
    given: np.ndarray[Any, Any] = session.run({"x": X})["y"]
    assert session.placement.on_device == 1
    np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("case", LEFT)
def test_what_it_would_compute_otherwise_is_left_to_others(case: str, imported: Importer) -> None:
    """An axis or a rank that its kernels do not have, and an operator without one, refuse the model."""
    made = told()
    with pytest.raises(UnsupportedModelError, match=f"takes 0 of 1 nodes and leaves: {LEFT[case][0]}"):
        made.prepare(imported(one(LEFT[case])), made.devices()[0], Options())


def test_it_is_built_once_where_nobody_else_may_write(tmp_path: Path) -> None:
    """A library once built is taken as it is; a folder that others may write to is refused."""
    folder = tmp_path / "built"
    folder.mkdir(mode=0o700)
    there = simnpu.built_at(folder)
    there.write_bytes(b"built before")
    assert simnpu.library(folder) == there
    assert there.read_bytes() == b"built before"
    os.chmod(folder, 0o777)  # noqa: PTH101, S103 - what must be refused
    with pytest.raises(BackendNotInstalledError, match="others may write"):
        simnpu.library(folder)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where there is no place to build in, the reason says which."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendNotInstalledError, match=f"cannot be built in {tmp_path}/file/in"):
        simnpu.library(tmp_path / "file" / "in")
