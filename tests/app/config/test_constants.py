"""Inputs of a model that no window feeds: constants, held to what the model takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest

from app.config.check import check_file
from app.config.constants import fitted
from app.config.document import DocumentError
from inference import TensorSpec
from tests.inference.onnx_graphs import FLOAT, build, node, value

Sizes = tuple[int | None, ...]


@pytest.mark.parametrize(("dtype", "shape", "given", "made"), [
    ("float32", (), 0.5, (0.5, ())), ("float32", (1,), [0.5], ([0.5], (1,))), ("int64", (), 3.0, (3, ())),
    ("float32", (None,), 2, (2, ())), ("float32", (None, 2), [1, 2], ([1, 2], (2,))),
    ("bool", (2,), [1, 0], ([True, False], (2,))), ("uint8", (None, 1, 2), [[7, 8]], ([[7, 8]], (1, 2))),
    ("float32", (2, None), [[1, 2, 3]] * 2, ([[1, 2, 3]] * 2, (2, 3))),
])  # fmt: skip
def test_a_constant_is_of_the_model_s_type_and_shape(
    dtype: str, shape: Sizes, given: Any, made: tuple[Any, Any]  # noqa: ANN401 - as a file has it
) -> None:
    """A first dimension that is free counts windows: the constant is that of each of them."""
    found = fitted(TensorSpec("c", dtype, shape), given)
    assert (found.tolist(), found.shape) == made


@pytest.mark.parametrize(("dtype", "shape", "given", "says"), [
    ("int64", (), 0.5, "cannot hold it"), ("uint8", (), 256, "cannot hold it"), ("uint8", (), -1, "cannot hold it"),
    ("float32", (), float("nan"), "cannot hold it"), ("float32", (), [1.0], "has the shape [], not [1]"),
    ("float32", (None, 2), [[1, 2]], "has the shape [2] for each window, not [1, 2]"),
    ("float32", (2,), [1, 2, 3], "has the shape [2], not [3]"), ("float32", (2,), [[1], [2, 3]], "this is not"),
    ("str", (), 1.0, "constants are numbers"),
])  # fmt: skip
def test_what_the_model_does_not_take_says_so(dtype: str, shape: Sizes, given: Any, says: str) -> None:  # noqa: ANN401 - as a file
    """With the input's name."""
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        fitted(TensorSpec("c", dtype, shape), given)
    assert "'c'" in str(caught.value)


TEXT = """\
version: 1
plant: {enterprise: acme}
connections: [{name: station, connector: mqtt, options: {url: "mqtt://127.0.0.1:1883"}}]
tags: [{name: torque, connection: station, address: "st/t#/t"}]
models: [{name: scaled, path: scaled.onnx}]
pipelines:
  - name: p
    model: scaled
    window: {length: 2}
    inputs: {input: x, tags: [torque], constants: CONSTANTS}
"""


@pytest.mark.parametrize(("constants", "says"), [
    ("{}", "needs other inputs too: gain, offset"), ("{gain: 2}", "needs other inputs too: offset"),
    ("{gain: 2, offset: 1, x: 1}", "'x' is what windows feed"),
    ("{gain: 2, offset: 1, gian: 1}", "did you mean 'gain'"),
    ("{gain: [1, 2], offset: 1}", "has the shape []"), ("{gain: 2, offset: 1}", ""),
])  # fmt: skip
def test_a_model_of_several_inputs_is_taken_with_its_constants(constants: str, says: str, tmp_path: Path) -> None:
    """Each input that no window feeds has one; what is missing, unknown or does not fit is named."""
    x, gain, offset = value("x", FLOAT, ["N", 2, 1]), value("gain", FLOAT, []), value("offset", FLOAT, ["N"])
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0), node("Mul", ["m", "gain"], ["s"]),
             node("Add", ["s", "offset"], ["y"])]  # fmt: skip
    onnx.save_model(build(nodes, [x, gain, offset], [value("y", FLOAT, ["N"])]), tmp_path / "scaled.onnx")
    file = tmp_path / "plant.yaml"
    file.write_text(TEXT.replace("CONSTANTS", constants), encoding="utf-8")
    if not says:
        entry = check_file(file, tmp_path / "models").pipelines["p"].entry
        assert entry.inputs.constants == {"gain": 2.0, "offset": 1.0}
        return
    with pytest.raises(DocumentError, match=re.escape(says)):
        check_file(file, tmp_path / "models")


STATEFUL = TEXT.replace("inputs: {input: x, tags: [torque], constants: CONSTANTS}", "inputs: {tags: [torque], STATE}")


@pytest.mark.parametrize(("given", "says"), [
    ("state: {h: left}", ""), ("state: {h: lfet}", "no output 'lfet'"),
    ("state: {g: left}", "the model has no input 'g'"), ("state: {h: y}", "'y' is float32 ['N']"),
    ("constants: {h: [[1]]}, state: {h: left}", "'h' is not an input that nothing else feeds"),
])  # fmt: skip
def test_a_model_that_carries_a_state_is_taken(given: str, says: str, tmp_path: Path) -> None:
    """Its input and its output are named; windows feed the one that is left, and the state is no output to publish."""
    x, h = value("x", FLOAT, ["N", 2, 1]), value("h", FLOAT, [1, "N", 1])
    nodes = [node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0), node("Add", ["y", "h"], ["left"])]
    outputs = [value("y", FLOAT, ["N"]), value("left", FLOAT, [1, "N", 1])]
    onnx.save_model(build(nodes, [x, h], outputs), tmp_path / "scaled.onnx")
    file = tmp_path / "plant.yaml"
    file.write_text(STATEFUL.replace("STATE", given), encoding="utf-8")
    if not says:
        pipeline = check_file(file, tmp_path / "models").pipelines["p"]
        assert (pipeline.model_input, pipeline.entry.inputs.state) == ("x", {"h": "left"})
        assert [one.name for one in pipeline.outputs] == ["y"]
        file.write_text(file.read_text(encoding="utf-8") + "    catch_up: newest_first\n", encoding="utf-8")
        with pytest.raises(DocumentError, match=re.escape("state (h)")):
            check_file(file, tmp_path / "models")
        return
    with pytest.raises(DocumentError, match=re.escape(says)):
        check_file(file, tmp_path / "models")
