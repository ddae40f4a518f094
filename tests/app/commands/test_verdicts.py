"""What `model import`, `check` and `apply` say of makers' devices: told with node and reason, never refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from typer.testing import Result

from app.config.portable import judge
from inference.limits import Limits
from inference.lint import vendors
from inference.model import import_model, load_model
from tests.inference import onnx_graphs as graphs

Run = Callable[..., Result]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose one Add of int64 WebGPU and SimNPU do not take."""
    path = tmp_path / "adds.onnx"
    onnx.save_model(graphs.integers(), path)
    return path


def test_an_import_says_what_every_maker_does_with_the_model(run: Run, model: Path, tmp_path: Path) -> None:
    """The model is in the store whatever they say, under the digest that a plant file names; in either language."""
    data = tmp_path / "data"
    done = run("--data", data, "model", "import", model, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    (judged,) = told["portability"]
    assert [one["vendor"] for one in judged["verdicts"]] == list(vendors())
    of = {one["vendor"]: one for one in judged["verdicts"]}
    assert of["cpu"]["verdict"] == "runs"
    assert of["simnpu"]["verdict"] == "refused"
    assert {one["kind"] for one in of["simnpu"]["problems"]} >= {"type"}
    assert load_model(data / "models", told["digest"]).name == told["name"]
    shown = run("--data", data, "model", "import", model, "--vendor", "simnpu", "--lang", "zh-CN")
    assert "已存入模型库" in shown.stdout
    assert "被拒" in shown.stdout
    assert "│ cpu" not in shown.stdout


def test_a_maker_that_nobody_knows_is_named_before_anything_is_imported(run: Run, model: Path, tmp_path: Path) -> None:
    """And what is no model is refused as ever."""
    data = tmp_path / "data"
    done = run("--data", data, "model", "import", model, "--vendor", "ascent")
    assert (done.exit_code, (data / "models").exists()) == (1, False)
    assert "ascend" in done.stderr
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    assert run("--data", data, "model", "import", broken).exit_code == 1


def _ordered(plant: Path, *devices: str) -> Path:
    """The plant with this order of devices."""
    told = f"    devices: {list(devices)}\n    window: {{trigger: counter}}\n"
    plant.write_text(plant.read_text(encoding="utf-8").replace("    window: {trigger: counter}\n", told))
    return plant


@pytest.mark.parametrize(("language", "mark"), [("en", "Warning: tightening: "), ("zh-CN", "警告：tightening：")])
def test_a_first_device_that_will_refuse_the_model_is_a_warning(
    run: Run, plant: Path, language: str, mark: str
) -> None:
    """With a node and its reason, in the language of the reader; the file is as good as it was."""
    done = run("check", _ordered(plant, "simnpu:0", "cpu"), "--lang", language)
    assert done.exit_code == 0
    assert mark + "simnpu:0" in done.stderr
    assert "slice_1: Slice " in done.stderr
    assert "simnpu" in done.stdout


def test_programs_are_told_the_same(run: Run, plant: Path, data: Path) -> None:
    """Both members stand in the JSON of `check` and of `apply`, which names the pipeline, the device and each node."""
    _ordered(plant, "simnpu", "cpu")
    checked = json.loads(run("check", plant, "--json").stdout)
    applied = json.loads(run("apply", plant, "--dry-run", "--json", "--data", data).stdout)
    for told in (checked, applied):
        (warned,) = told["warnings"]
        assert (warned["pipeline"], warned["device"], warned["vendor"]) == ("tightening", "simnpu", "simnpu")
        assert "slice_1" in {one["node"] for one in warned["problems"]}
        assert {one["vendor"] for one in told["portability"][0]["verdicts"]} == {"simnpu", "cpu"}


def test_a_device_that_refuses_further_down_is_no_warning(run: Run, plant: Path) -> None:
    """It is in the table, and the first one takes the model."""
    done = run("check", _ordered(plant, "cpu", "simnpu"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "refused" in done.stdout


def test_pipelines_on_the_cpu_alone_are_not_judged(run: Run, plant: Path) -> None:
    """The import has run the model there: nobody waits for a verdict that is known."""
    told = json.loads(run("check", plant, "--json").stdout)
    assert (told["portability"], told["warnings"]) == ([], [])


def test_a_model_that_cannot_be_judged_in_time_is_said_to_be_so(model: Path, tmp_path: Path) -> None:
    """Limits of the child end the judgement, not the import."""
    found = judge("adds", import_model(model, tmp_path / "store"), ["simnpu"], Limits(cpu_s=60, wall_s=0.01))
    assert (found.verdicts, "took longer than" in found.problem) == ((), True)
