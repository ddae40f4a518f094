"""The committed model packages: golden vectors on two runtimes, the promised opset, a contract that fits the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx.reference import ReferenceEvaluator

import examples

ROOT = Path(examples.__file__).parent
PACKAGES = ("tep", "tightening")
MOST_BYTES = 2_000_000

Arrays = dict[str, Any]


def golden(name: str) -> tuple[Arrays, Arrays, Arrays]:
    """Inputs, expected outputs and tolerances of a package."""
    with np.load(ROOT / name / "package" / "golden.npz") as file:
        parts = [{k.split("/")[1]: file[k] for k in file.files if k.startswith(p)} for p in ("in/", "out/", "tol/")]
    return parts[0], parts[1], parts[2]


def answers(name: str, runtime: str, feeds: Arrays) -> Arrays:
    """Every output of a package's model on one of two runtimes."""
    path = str(ROOT / name / "package" / "model.onnx")
    if runtime == "reference":
        evaluator = ReferenceEvaluator(path)
        return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@pytest.mark.parametrize("name", PACKAGES)
def test_golden_vectors_hold(name: str, runtime: str) -> None:
    """Every golden output is met within its tolerance, on ONNX Runtime and on onnx's own evaluator."""
    feeds, expected, tolerance = golden(name)
    got = answers(name, runtime, feeds)
    assert set(got) == set(expected) == set(tolerance)
    for output, value in expected.items():
        relative, absolute = tolerance[output]
        assert got[output].dtype == value.dtype
        np.testing.assert_allclose(got[output], value, rtol=relative, atol=absolute, err_msg=output)


@pytest.mark.parametrize("name", PACKAGES)
def test_golden_vectors_hold_both_sides_of_the_limit(name: str) -> None:
    """The golden vectors hold quiet windows and alarms, and a class is named exactly where the score is above 1."""
    _, expected, _ = golden(name)
    named = expected["fault" if name == "tep" else "verdict"]
    alarm = expected["score"] > 1.0
    assert alarm.any()
    assert not alarm.all()
    np.testing.assert_array_equal(named > 0, alarm)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_graph_is_on_the_common_ground(name: str) -> None:
    """Opset 17 of the standard domain alone, IR 8, no external data, small enough for a repository."""
    folder = ROOT / name / "package"
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert sum(file.stat().st_size for file in folder.iterdir()) < MOST_BYTES


@pytest.mark.parametrize("name", PACKAGES)
def test_the_contract_fits_the_graph(name: str) -> None:
    """`model.yaml` names the graph's inputs and outputs with their shapes, and one column per tag."""
    folder = ROOT / name / "package"
    manifest = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for key, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        assert [m["name"] for m in manifest[key]] == [v.name for v in values]
        shapes = [[None if isinstance(d, str) else d for d in v.shape] for v in values]
        assert [m["shape"] for m in manifest[key]] == shapes
    (given,) = manifest["inputs"]
    assert given["shape"] == [None, manifest["window"]["length"], len(given["columns"])]
    assert len({column["tag"] for column in given["columns"]}) == len(given["columns"])
    assert manifest["licence"] == "Apache-2.0"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_window_is_judged_alone(name: str) -> None:
    """The answer to a window does not depend on the others in its batch."""
    feeds, expected, tolerance = golden(name)
    one = answers(name, "onnxruntime", {k: v[-1:] for k, v in feeds.items()})
    for output, value in expected.items():
        relative, absolute = tolerance[output]
        np.testing.assert_allclose(one[output], value[-1:], rtol=relative, atol=absolute, err_msg=output)
