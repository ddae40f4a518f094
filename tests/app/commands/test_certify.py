"""`headrace apply --override`, `certify`, `certificates` and what `status` says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def dry(plant: Path) -> Path:
    """The plant file on the dry run, which computes nothing and passes no check."""
    text = plant.read_text(encoding="utf-8")
    plant.write_text(text.replace("    window: {trigger", '    devices: ["null", cpu]\n    window: {trigger'))
    return plant


def test_nothing_is_applied_without_a_certificate_unless_somebody_says_why(run: Run, dry: Path) -> None:
    """In either language; who overrides it reads that answers will be Uncertain, and so does whoever looks later."""
    refused = run("apply", dry, "--yes")
    assert refused.exit_code == 1
    assert "The model check failed for tightening: null: " in refused.stderr
    assert "headrace lint-model" in refused.stderr
    assert "流水线 tightening 的模型检查未通过：null：" in run("apply", dry, "--yes", "--lang", "zh-CN").stderr
    assert json.loads(run("revisions", "--json").stdout) == []
    applied = json.loads(run("apply", dry, "--yes", "--json", "--override", "a trial run").stdout)
    assert (applied["revision"], applied["overridden"]) == (1, ["tightening"])
    status = run("status")
    assert "tightening runs without a certificate, by " in status.stdout
    assert "a trial run" in status.stdout
    (shown,) = json.loads(run("status", "--json").stdout)["pipelines"]
    assert (shown["device_wanted"], shown["certificate"]) == ("null", None)


def test_models_are_checked_on_each_device_and_listed(run: Run, dry: Path) -> None:
    """The exit status says whether all passed; the list is the same later, newest first."""
    run("apply", dry, "--yes", "--override", "a trial run")
    found = run("certify", "--json")
    assert found.exit_code == 1
    null, cpu = json.loads(found.stdout)
    assert (null["device"], null["outcome"], null["occasion"]) == ("null", "failed", "certify")
    assert (cpu["device"], cpu["outcome"], cpu["batch"]) == ("cpu", "passed", 64)
    assert run("certify", "--device", "cpu").exit_code == 0
    listed = json.loads(run("certificates", "--json").stdout)
    assert [one["device"] for one in listed] == ["cpu", "cpu", "null", "cpu", "null"]
    assert run("certificates", "--model", cpu["model_digest"]).exit_code == 0
    chinese = run("certificates", "--lang", "zh-CN").stdout
    assert "通过" in chinese
    assert "个节点中有" in chinese
    assert "nodes are not on the device" in run("certificates").stdout


def test_a_limit_on_p99_is_part_of_the_check(run: Run, dry: Path) -> None:
    """Of the wanted batch, in the sentence."""
    run("apply", dry, "--yes", "--override", "a trial run")
    found = run("certify", "--pipeline", "tightening", "--device", "cpu", "--batch", "8", "--p99-ms", "0.000001")
    assert found.exit_code == 1
    assert "p99 at batch 8 is" in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pipeline", "nobody"], "No pipeline nobody is in force."),
        (["--model", "nothing", "--device", "cpu"], "There is no model nothing."),
        (["--model", "nothing"], "--model takes --device."),
        (["--precision", "fp13"], "--precision is one of "),
    ],
)
def test_what_is_not_there_is_said(run: Run, dry: Path, words: list[str], said: str) -> None:
    """By name, and nothing is checked."""
    run("apply", dry, "--yes", "--override", "a trial run")
    found = run("certify", *words)
    assert found.exit_code in {1, 2}
    assert said in found.stderr
