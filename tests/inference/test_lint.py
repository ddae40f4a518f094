"""The linter as a whole: in a child with limits, passes that are really tried, a file that is really written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from inference import InvalidModelError, Options, backend
from inference.golden import read
from inference.lint import LIMITS, Verdict, lint, routes, vendors
from inference.model import import_model
from inference.passes.opset import standard
from tests.inference import onnx_graphs as graphs
from tests.inference.onnx_graphs import FLOAT, build, constant, node, value

if TYPE_CHECKING:
    from inference import Model

Importer = Callable[[onnx.ModelProto], "Model"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "tightening" / "package"


def by_vendor(verdicts: tuple[Verdict, ...]) -> dict[str, Verdict]:
    """One for each vendor."""
    assert len({one.vendor for one in verdicts}) == len(verdicts)
    return {one.vendor: one for one in verdicts}


def test_a_model_is_judged_for_every_maker(imported: Importer) -> None:
    """A multiplication of opset 9 with a free batch: what runs, what passes make run, what no document decides."""
    found = by_vendor(lint(imported(graphs.old_softmax())))
    assert sorted(found) == sorted(vendors())
    assert (found["cpu"].outcome, found["cpu"].problems) == ("runs", ())
    assert (found["moorethreads"].outcome, found["moorethreads"].passes) == ("after_passes", ("opset",))
    assert (found["simnpu"].outcome, found["simnpu"].passes[0]) == ("after_passes", "shapes")
    assert found["ascend"].outcome == "undocumented"
    assert [one.en for one in found["ascend"].unknown] == ["operators"]
    assert all(one.evidence == routes(one.vendor)[0].evidence for one in found.values())


def test_a_maker_s_every_route_is_judged(imported: Importer) -> None:
    """In the order of its file."""
    verdicts = lint(imported(graphs.mul()), ["enflame"], every=True)
    assert [one.route for one in verdicts] == [one.name for one in routes("enflame")]


def shape_arithmetic() -> onnx.ModelProto:
    """Flattens x [N, 2, 3] by arithmetic on its shape, in int64."""
    nodes = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["rows"], axis=0),
             node("Mul", ["rows", "one"], ["times"]), node("Concat", ["times", "minus"], ["to"], axis=0),
             node("Reshape", ["x", "to"], ["y"])]
    weights = [constant("zero", [0], "int64"), constant("one", [1], "int64"), constant("minus", [-1], "int64")]
    return build(nodes, [value("x", FLOAT, ["N", 2, 3])], [value("y", FLOAT, ["N", 6])], weights)


def test_what_a_maker_rejects_is_folded_away(imported: Importer) -> None:
    """Arithmetic on shapes in int64 is gone once the shapes are fixed and the constants folded; each step is shown."""
    verdict = by_vendor(lint(imported(shape_arithmetic()), ["enflame"]))["enflame"]
    assert verdict.outcome == "undocumented"
    assert verdict.passes == ("shapes", "fold")
    assert {one.operator for one in verdict.problems if one.kind == "type"} == {"Gather", "Mul", "Concat", "Reshape"}
    assert [(one.name, one.outcome) for one in verdict.done] == [
        ("shapes", "applied"), ("fold", "applied"), ("int32", "unchanged"),
    ]


def test_the_model_after_the_passes_is_written(tmp_path: Path) -> None:
    """The file gives the golden answers of the package on the CPU; the shape is fixed, the opset stays."""
    model = import_model(EXAMPLE, tmp_path / "store")
    target = tmp_path / "legal.onnx"
    verdict, = lint(model, ["enflame"], write=target)
    assert verdict.passes == ("shapes", "int32")
    made = onnx.load_model(target)
    assert [one.dim_value for one in made.graph.input[0].type.tensor_type.shape.dim] == [1, 128, 2]
    assert standard(made) == 17
    after = import_model(target, tmp_path / "store")
    cpu = backend("cpu")
    session = cpu.prepare(after, cpu.devices()[0], Options())
    assert model.golden is not None
    golden = read(model.golden)
    given: dict[str, Any] = {name: [] for name in golden.outputs}
    for row in range(len(golden.inputs["curve"])):
        for name, output in session.run({"curve": golden.inputs["curve"][row:row + 1]}).items():
            given[name].append(output)
    for name, expected in golden.outputs.items():
        np.testing.assert_allclose(np.concatenate(given[name]).astype(float), expected.astype(float), atol=1e-3)


def test_nothing_is_written_for_a_refusal(imported: Importer, tmp_path: Path) -> None:
    """A model that stays refused leaves no file."""
    verdict, = lint(imported(graphs.labels()), ["moorethreads"], write=tmp_path / "out.onnx")
    assert verdict.outcome == "refused"
    assert not (tmp_path / "out.onnx").exists()


def test_a_lower_precision_is_asked_for_and_judged(imported: Importer, tmp_path: Path) -> None:
    """Weights are halved where answers allow it; one that overflows is refused, and so is what a chip does not have."""
    target = tmp_path / "half.onnx"
    model = imported(graphs.mlp())
    verdict, = lint(model, ["moorethreads"], precision="fp16", write=target)
    assert (verdict.outcome, verdict.passes) == ("after_passes", ("fp16",))
    assert {one.data_type for one in onnx.load_model(target).graph.initializer} == {onnx.TensorProto.FLOAT16}
    refused, = lint(model, ["moorethreads"], precision="int8")
    assert {one.operator for one in refused.problems} == {"QuantizeLinear", "DequantizeLinear"}
    hot, = lint(imported(graphs.overflowing()), ["ascend"], precision="fp16")
    assert [one.kind for one in hot.problems] == ["precision"]
    assert "comes near 65504" in hot.problems[0].reason.en


def test_without_golden_vectors_no_pass_is_believed(imported: Importer) -> None:
    """What needs none keeps its verdict; what needs passes is refused, and the reason says what to add."""
    model = replace(imported(graphs.mul(opset=21)), golden=None)
    found = by_vendor(lint(model, ["cpu", "moorethreads"]))
    assert found["cpu"].outcome == "runs"
    refused = found["moorethreads"]
    assert refused.outcome == "refused"
    assert "add a golden.npz" in refused.problems[-1].reason.en
    assert refused.problems[-1].kind == "pass"


def test_a_pass_that_was_refused_says_why(imported: Importer) -> None:
    """A mean over the first dimension cannot be fixed: the verdict names shapes, the pass, and its check."""
    verdict, = lint(imported(graphs.whole()), ["biren"])
    assert verdict.outcome == "refused"
    assert [one.kind for one in verdict.problems] == ["shape", "pass"]
    assert "the pass shapes was refused: it fails on the golden vectors" in verdict.problems[-1].reason.en
    assert "变换 shapes 被拒绝" in verdict.problems[-1].reason.zh


def test_the_child_has_limits(imported: Importer) -> None:
    """A model that takes more time than allowed is refused in words; an unknown vendor is named."""
    model = imported(graphs.mul(opset=21))
    with pytest.raises(InvalidModelError, match=r"judging the model took longer than 0\.01 s"):
        lint(model, limits=replace(LIMITS, wall_s=0.01))
    with pytest.raises(KeyError, match="'nobody' has no routes"):
        lint(model, ["nobody"])
