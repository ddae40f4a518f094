"""Plans of passes: each is held to golden vectors, one that fails leaves the graph from before it, none goes unsaid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import pytest

from inference import InvalidModelError, Options, backend
from inference.golden import Golden, write
from inference.judge import Judge, save
from inference.legalize import Done, Legalizer, Step
from inference.model import import_model
from inference.passes import half
from inference.passes.opset import standard
from inference.passes.values import values
from tests.inference import onnx_graphs as graphs
from tests.inference.onnx_graphs import FLOAT, build, constant, node, value

if TYPE_CHECKING:
    from inference import Model

Importer = Callable[[onnx.ModelProto], "Model"]
EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SAFE: Final = (Step("opset", opset=13, ir=7), Step("shapes", batch=4), Step("fold"), Step("names"), Step("int32"))


def legalizer(model: Model, folder: Path) -> Legalizer:
    """Of a stored model."""
    return Legalizer(model.path, model.golden, folder)


def outcomes(done: tuple[Done, ...]) -> dict[str, str]:
    """What became of each step, by its name."""
    return {one.name: one.outcome for one in done}


@pytest.mark.parametrize("name", ["tep", "tightening"])
def test_the_examples_go_through_what_keeps_precision(name: str, tmp_path: Path) -> None:
    """Opset, fixed shapes and int32: each applied pass is computed anew and agrees; fp16 and int8 are refused."""
    model = import_model(EXAMPLES / name / "package", tmp_path)
    made = legalizer(model, tmp_path).applied((*SAFE, Step("fp16"), Step("int8")))
    assert outcomes(made.done) == {
        "opset": "applied", "shapes": "applied", "fold": "unchanged", "names": "unchanged", "int32": "applied",
        "fp16": "refused", "int8": "refused",
    }
    assert made.applied == ("opset", "shapes", "int32")
    for one in made.done:
        if one.outcome == "applied":
            assert one.judge
            assert one.max_abs is not None
            assert one.max_abs < 1e-3
    assert (standard(made.model), made.model.ir_version) == (13, 7)
    fp16 = next(one for one in made.done if one.name == "fp16")
    assert fp16.reason is not None
    assert "output 'score' differs by up to" in fp16.reason.en
    assert "最大偏差" in fp16.reason.zh


def test_a_legalized_model_answers_on_the_cpu(tmp_path: Path) -> None:
    """Its file is a model like any other: it is imported and gives the golden answers of the one it came from."""
    model = import_model(EXAMPLES / "tightening" / "package", tmp_path / "store")
    made = legalizer(model, tmp_path).applied((Step("opset", opset=15, ir=8), Step("int32")))
    path = tmp_path / "legal.onnx"
    onnx.save_model(made.model, path)
    after = import_model(path, tmp_path / "store")
    assert (after.inputs[0].dtype, after.opset) == (model.inputs[0].dtype, 15)
    cpu = backend("cpu")
    device, = cpu.devices()
    curve = np.random.default_rng(1).uniform(0, 10, (3, 128, 2)).astype(np.float32)
    before, now = (cpu.prepare(one, device, Options()).run({"curve": curve}) for one in (model, after))
    for name, expected in before.items():
        np.testing.assert_allclose(now[name].astype(float), expected.astype(float), rtol=1e-5, atol=1e-5)


def test_a_pass_that_changes_answers_is_undone(imported: Importer, tmp_path: Path) -> None:
    """Half precision overflows: refused with the reason, the graph from before it goes on to the next step."""
    model = imported(graphs.overflowing())
    made = legalizer(model, tmp_path).applied((Step("fp16", everything=True), Step("shapes", batch=2)))
    refused, fixed = made.done
    assert (refused.outcome, fixed.outcome) == ("refused", "applied")
    assert refused.reason is not None
    assert refused.reason == ("output 'y' is not finite", "输出 'y' 含非有限值")
    known = values(made.model)
    assert "float16" not in known.types.values()
    assert known.shapes["x"] == (2, 16)


def test_onnx_s_own_evaluator_decides(imported: Importer, tmp_path: Path) -> None:
    """ONNX Runtime computes half precision in float32 on a CPU and would let the overflow pass."""
    nodes = [node("Mul", ["x", "thousand"], ["a"]), node("Mul", ["a", "thousand"], ["b"]),
             node("Div", ["b", "thousand"], ["c"]), node("Div", ["c", "thousand"], ["y"])]
    proto = build(nodes, [value("x", FLOAT, ["N", 16])], [value("y", FLOAT, ["N", 16])], [constant("thousand", 1e3)])
    model = imported(proto)
    made = legalizer(model, tmp_path).applied((Step("fp16", everything=True),))
    assert (made.done[0].outcome, made.done[0].judge.partition(" ")[0]) == ("refused", "onnx")
    path = tmp_path / "half.onnx"
    onnx.save_model(half.apply(proto, hot=None), path)
    cpu = backend("cpu")
    session = cpu.prepare(replace(model, path=path), cpu.devices()[0], Options())
    assert np.isfinite(session.run({"x": np.ones((1, 16), np.float32)})["y"]).all()


def test_where_the_evaluator_has_no_code_onnx_runtime_judges(imported: Importer, tmp_path: Path) -> None:
    """Quantised weights of opset 17 are such a case; the judge is named."""
    made = legalizer(imported(graphs.mul()), tmp_path).applied((Step("int8"),))
    assert (made.done[0].outcome, made.done[0].judge.partition(" ")[0]) == ("applied", "onnxruntime")


@pytest.mark.parametrize("proto", [graphs.refused_batch, graphs.mixed_batch])
def test_a_false_batch_can_be_fixed_to_one_row_only(
    proto: Callable[[], onnx.ModelProto], imported: Importer, tmp_path: Path
) -> None:
    """With four rows at a time its answers are others, or none."""
    made = legalizer(imported(proto()), tmp_path)
    assert outcomes(made.applied((Step("shapes", batch=4),)).done) == {"shapes": "refused"}
    assert outcomes(made.applied((Step("shapes", batch=1),)).done) == {"shapes": "applied"}


def test_what_counts_no_rows_cannot_be_fixed(imported: Importer, tmp_path: Path) -> None:
    """A mean over the first dimension is another one when it is fixed."""
    made = legalizer(imported(graphs.whole()), tmp_path)
    for batch in (1, 4):
        assert outcomes(made.applied((Step("shapes", batch=batch),)).done) == {"shapes": "refused"}


def test_the_tolerance_follows_the_precision(imported: Importer, tmp_path: Path) -> None:
    """After half precision its class holds for all that follows; a refused one changes nothing."""
    model = imported(graphs.mlp())
    made = legalizer(model, tmp_path).applied((Step("fp16"), Step("shapes", batch=2)))
    assert outcomes(made.done) == {"fp16": "applied", "shapes": "applied"}
    assert all(one.max_abs is not None and 1e-4 < one.max_abs < 5e-2 for one in made.done)
    strict = build([node("Relu", ["x"], ["y"])], [value("x", FLOAT, ["N", 2])], [value("y", FLOAT, ["N", 2])])
    judge = Judge(_golden(tolerance=True), ("x",), tmp_path)
    assert judge.opened(strict).accepted
    half_off = build([node("Add", ["x", "off"], ["a"]), node("Relu", ["a"], ["y"])], [value("x", FLOAT, ["N", 2])],
                     [value("y", FLOAT, ["N", 2])], [constant("off", 5e-3)])
    assert not judge.judged(half_off, "fp16").accepted
    assert Judge(_golden(tolerance=False), ("x",), tmp_path).judged(half_off, "fp16").accepted


def _golden(*, tolerance: bool) -> Golden:
    """Of y = x; with a tolerance of the package's own, or by the class of the precision."""
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    return Golden({"x": x}, {"y": x}, {"y": (0.0, 1e-4)} if tolerance else {})


def test_calibration_data_of_the_package_is_used(tmp_path: Path) -> None:
    """Ranges come from calibration.npz: with a range that is far too narrow the answers are cut off, and refused."""
    folder = tmp_path / "package"
    folder.mkdir()
    onnx.save_model(graphs.mul(), folder / "model.onnx")
    x = np.random.default_rng(3).normal(size=(80, 3)).astype(np.float32)
    for spread, outcome in ((1.0, "applied"), (1e-3, "refused")):
        write(Golden({"x": x * np.float32(spread)}, {}), folder / "calibration.npz")
        model = import_model(folder, tmp_path / "store")
        assert outcomes(legalizer(model, tmp_path).applied((Step("int8"),)).done) == {"int8": outcome}


def test_external_weights_are_read_and_judged(tmp_path: Path) -> None:
    """A model with its weights in another file goes through passes like any other."""
    path = tmp_path / "big.onnx"
    onnx.save_model(graphs.mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = import_model(path, tmp_path / "store")
    made = legalizer(model, tmp_path).applied((Step("shapes", batch=2), Step("fp16")))
    assert outcomes(made.done) == {"shapes": "applied", "fp16": "applied"}


def test_large_weights_are_written_beside_the_graph(tmp_path: Path) -> None:
    """Again and again, without the graph in memory losing them: both files are the model."""
    model, path = graphs.mlp(), tmp_path / "large.onnx"
    model.graph.initializer[0].CopyFrom(constant("w1", np.arange(4096).reshape(16, 256)))
    for _ in range(2):
        save(model, path, inline=100)
        assert (tmp_path / "large.onnx.data").stat().st_size >= 4096 * 4
        assert path.stat().st_size < 4096
    assert onnx.load_model(path).graph.initializer[0].raw_data == model.graph.initializer[0].raw_data
    size = (tmp_path / "large.onnx.data").stat().st_size
    save(model, path, inline=100)
    assert (tmp_path / "large.onnx.data").stat().st_size == size


def test_what_plans_have_in_common_is_done_once(imported: Importer, tmp_path: Path) -> None:
    """The second plan begins with the graph that the first one had at that point."""
    made = legalizer(imported(graphs.mlp()), tmp_path)
    first, second = (made.applied((Step("shapes", batch=2), last)) for last in (Step("fold"), Step("fp16")))
    assert first.done[0] is second.done[0]
    assert first.model is made.applied((Step("shapes", batch=2),)).model


def test_a_model_that_cannot_be_judged_is_not_changed(imported: Importer, tmp_path: Path) -> None:
    """Without golden vectors, or with vectors it does not answer itself, no pass is tried."""
    model = imported(graphs.mlp())
    with pytest.raises(InvalidModelError, match=r"add a golden\.npz"):
        Legalizer(model.path, None, tmp_path)
    x = np.ones((2, 16), np.float32)
    write(Golden({"x": x}, {"y": np.ones((2, 4), np.float32)}), tmp_path / "wrong.npz")
    with pytest.raises(InvalidModelError, match="does not answer its golden vectors: output 'y' differs"):
        Legalizer(model.path, tmp_path / "wrong.npz", tmp_path)
