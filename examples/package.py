"""Writes a model package: the graph, its contract in YAML, golden vectors on which two runtimes must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import yaml
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Tolerance = tuple[float, float]
"""Relative, absolute: |answer - expected| <= absolute + relative * |expected|."""


def run(model: onnx.ModelProto, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Every output of the model by name, computed by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def write(
    folder: Path,
    model: onnx.ModelProto,
    manifest: Mapping[str, object],
    feeds: Mapping[str, NDArray[np.generic]],
    tolerances: Mapping[str, Tolerance],
) -> None:
    """Write `model.onnx`, `model.yaml` and `golden.npz`. AssertionError if onnx's own evaluator disagrees."""
    expected = run(model, feeds)
    names = list(expected)
    reference = ReferenceEvaluator(model).run(names, dict(feeds))
    for name, other in zip(names, reference, strict=True):
        relative, absolute = tolerances[name]
        one, two = np.asarray(other, dtype=np.float64), expected[name].astype(np.float64)
        np.testing.assert_allclose(one, two, rtol=relative, atol=absolute, err_msg=name)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, folder / "model.onnx")
    text = yaml.safe_dump(dict(manifest), sort_keys=False, allow_unicode=True, width=118)
    (folder / "model.yaml").write_text(text, encoding="utf-8")
    golden: dict[str, NDArray[np.generic]] = {f"in/{name}": value for name, value in feeds.items()}
    golden |= {f"out/{name}": value for name, value in expected.items()}
    golden |= {f"tol/{name}": np.asarray(tolerances[name], dtype=np.float64) for name in names}
    np.savez_compressed(folder / "golden.npz", **golden)  # type: ignore[arg-type]
