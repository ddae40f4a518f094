"""`headrace lint-model`: a model against every maker, in a table, in full, as JSON; and the model after the passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import Result

from inference.lint import routes, vendors

EXAMPLE = Path(__file__).parents[3] / "examples" / "tightening" / "package"
Run = Callable[..., Result]


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    """A model of one Relu, opset 9, with a free batch."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="only")], "g", [x], [y])
    path = tmp_path / "relu.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4), path)
    return path


def test_every_maker_has_a_line(run: Run, relu: Path) -> None:
    """With its verdict, the passes it needs, and what no document says; the last line says whose verdict it is."""
    done = run("lint-model", relu)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    rows = {vendor: next(one for one in lines if f"│ {vendor} " in one) for vendor in vendors()}
    assert "│ runs " in rows["cpu"]
    assert all(part in rows["moorethreads"] for part in ("runs after passes", "│ opset ", "opset 9"))
    assert all(part in rows["simnpu"] for part in ("runs after passes", "│ shapes "))
    assert all(part in rows["ascend"] for part in ("nothing documented against it", "│ operators "))
    assert lines[-1].startswith("Verdicts come from documents")


def test_the_table_is_in_chinese_where_asked(run: Run) -> None:
    """Verdicts, reasons and what is not documented; a long list of reasons is cut, and says how many are left."""
    shown = run("lint-model", EXAMPLE, "--lang", "zh-CN").stdout
    parts = ("厂商", "结论", "变换", "未见文档", "可运行", "文档中未见障碍", "被拒", "另有", "不固定", "以 fp16 计算：")
    assert [one for one in parts if one not in shown] == []
    assert "refused" not in shown


def test_one_maker_is_told_in_full(run: Run) -> None:
    """Each route, each reason with its node, each pass with how its answers compare; a refusal is exit status 1."""
    done = run("lint-model", EXAMPLE, "--vendor", "enflame")
    assert done.exit_code == 0
    for route in routes("enflame"):
        assert f"enflame, {route.name} (documented): nothing documented against it" in done.stdout
    assert "verdict: Mul computes in int64, which it rejects" in done.stdout
    assert "pass int32: applied, onnx" in done.stdout
    assert "pass fold: nothing to do" in done.stdout
    refused = run("lint-model", EXAMPLE, "--vendor", "simnpu")
    assert refused.exit_code == 1
    assert "argmax_27: ArgMax is not among the operators it has" in refused.stdout


def test_json_has_everything(run: Run, relu: Path) -> None:
    """Verdicts, problems with kind, node and operator in both languages, passes tried, facts not documented."""
    found = {one["vendor"]: one for one in json.loads(run("lint-model", relu, "--json").stdout)}
    assert sorted(found) == sorted(vendors())
    moved = found["moorethreads"]
    assert (moved["verdict"], moved["passes"], moved["not_documented"]) == ("after_passes", ["opset"], ["shapes"])
    assert moved["problems"] == [{
        "kind": "opset", "node": "", "operator": "", "reason": "it has opset 9, the route takes 13 to 17",
        "reason_zh": "模型为 opset 9，该路线支持 13 至 17",
    }]
    tried, = moved["tried"]
    assert tried.pop("judge").startswith("onnx ")
    assert tried == {"pass": "opset", "outcome": "applied", "reason": "", "max_abs": 0.0}


def test_the_model_is_written_as_the_maker_takes_it(run: Run, relu: Path, tmp_path: Path) -> None:
    """In the opset and with the shapes of the passes; not without a maker, nor into a folder that is not there."""
    target = tmp_path / "out.onnx"
    done = run("lint-model", relu, "--vendor", "moorethreads", "--output", target)
    assert done.exit_code == 0, done.output
    assert f"{target} is written for {routes('moorethreads')[0].name}." in done.stdout
    assert onnx.load_model(target).opset_import[0].version == 17
    for words in (("--output", target), ("--vendor", "moorethreads", "--output", tmp_path / "none" / "out.onnx")):
        wrong = run("lint-model", relu, *words)
        assert wrong.exit_code == 2
        assert "--output takes a file in a folder that is there" in wrong.stderr


def test_what_is_no_model_or_no_maker_is_named(run: Run, relu: Path, tmp_path: Path) -> None:
    """Foreign bytes, a missing file and an unknown maker end in a sentence, in either language."""
    (tmp_path / "bad.onnx").write_bytes(b"\x00\x01 no model")
    for words, says in (
        ((tmp_path / "bad.onnx",), "no ONNX model"), ((tmp_path / "none.onnx",), "does not exist"),
        ((relu, "--vendor", "nobody"), "There is no maker nobody"),
    ):
        done = run("lint-model", *words)
        assert (done.exit_code, says in done.stderr) == (1, True), done.output
    assert "没有厂商 nobody" in run("lint-model", relu, "--vendor", "nobody", "--lang", "zh-CN").stderr
