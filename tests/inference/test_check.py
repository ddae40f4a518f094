"""The activation check passes what is right and fails, with the reason, what is not."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inference.check import verify
from inference.devices import choose, devices
from inference.golden import Golden, read, write
from tests.inference import onnx_graphs as graphs

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from inference import Model
    from inference.check import Verdict

ROOT = Path(__file__).resolve().parents[2]


def judged(model: Model, device: str = "cpu", p99_limit_s: float | None = None) -> Verdict:
    """The verdict on a device."""
    session, found, _ = choose([device], model)
    return verify(model, found, session, runs=30, batch=8, p99_limit_s=p99_limit_s)


def spoiled(model: Model, tmp_path: Path, by: float, atol: float | None = None) -> Model:
    """The model with expected outputs that are off by a number."""
    assert model.golden is not None
    golden = read(model.golden)
    moved = {
        name: (np.asarray(value, dtype=np.float64) + by).astype(value.dtype) for name, value in golden.outputs.items()
    }
    tolerances = {} if atol is None else dict.fromkeys(moved, (0.0, atol))
    path = tmp_path / "spoiled.npz"
    write(Golden(golden.inputs, moved), path)
    stored = dict(np.load(path)) | {f"tol/{name}": np.array(pair) for name, pair in tolerances.items()}
    np.savez(path, **stored)
    return replace(model, golden=path)


def test_a_right_model_passes(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A sound model on the CPU passes, and the verdict says by whom and how fast."""
    verdict = judged(imported(graphs.mlp()))
    assert verdict.passed
    assert [each.batch for each in verdict.latency] == [1, 8]
    assert all(0 < each.p50_ns <= each.p99_ns for each in verdict.latency)
    assert "onnxruntime" in verdict.golden_made_by
    assert verdict.as_dict()["passed"] is True


def test_an_answer_off_by_more_than_its_tolerance_fails(
    imported: Callable[[onnx.ModelProto], Model], tmp_path: Path
) -> None:
    """0.01 is too much for fp32, and enough where the package allows 0.1."""
    model = imported(graphs.mul())
    verdict = judged(spoiled(model, tmp_path, 0.01))
    assert not verdict.passed
    assert "output 'y': differs by up to 0.01" in verdict.failures[0].en
    assert judged(spoiled(model, tmp_path, 0.01, atol=0.1)).passed


def test_an_integer_off_by_one_fails(imported: Callable[[onnx.ModelProto], Model], tmp_path: Path) -> None:
    """Integers are exact unless the package says otherwise."""
    assert not judged(spoiled(imported(graphs.integers()), tmp_path, 1)).passed


def test_nan_fails_even_where_expected(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A model that answers NaN to everything never passes."""
    verdict = judged(imported(graphs.not_finite()))
    (failure,) = verdict.failures
    assert failure.en.startswith("output 'y': not finite")
    assert math.isnan(verdict.golden[0].max_abs)


def test_the_dry_run_never_passes(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """No node on the device and no finite answer: both are said."""
    verdict = judged(imported(graphs.mlp()), "null")
    assert [text.en.partition(" ")[0] for text in verdict.failures] == ["3", "output"]


def test_no_golden_vectors_is_a_failure(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A model nobody can hold to anything is not activated."""
    assert "no golden vectors" in judged(replace(imported(graphs.mul()), golden=None)).failures[0].en


def test_a_p99_beyond_the_limit_fails(imported: Callable[[onnx.ModelProto], Model]) -> None:
    """A latency limit that cannot be met is a failure at each batch size."""
    assert all("p99" in text.en for text in judged(imported(graphs.mul()), p99_limit_s=1e-9).failures)
    assert len(judged(imported(graphs.mul()), p99_limit_s=1e-9).failures) == 2


def test_without_onnx_runtime_the_cpu_is_absent_and_says_why() -> None:
    """An environment that lacks the runtime lists the reason and raises nothing."""
    script = ("import sys; sys.modules['onnxruntime'] = None\n"
              "from inference.devices import devices\n"
              "found, missing = devices()\n"
              "print([d.id for d in found], *(f'{a.vendor} {a.reason}' for a in missing if a.vendor == 'cpu'))")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True,
    )
    assert "['null', 'reference'] cpu" in done.stdout
    assert "install onnxruntime" in done.stdout
    assert "cpu" in {device.id for device in devices()[0]}
