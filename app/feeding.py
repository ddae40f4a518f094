"""What a model is fed: windows in its layout and element type, and constants beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.adapters.tensors import numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.pipelines.schemas import PipelineSpec
    from inference import Model


def feed(
    spec: PipelineSpec, model: Model, windows: NDArray[np.floating[Any]]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Windows of shape (n, length, inputs) in the layout and element type of the model, and which of them fit it.

    Only a narrower float is converted to: what does not fit its range is not fed. Whole numbers are left to the
    session, which takes them when nothing is lost.
    """
    laid = _laid(spec, windows)
    wanted = next((numpy_dtype(one.dtype) for one in model.inputs if one.name == spec.model_input), laid.dtype)
    with np.errstate(over="ignore"):
        fed = np.ascontiguousarray(laid, dtype=wanted if wanted.kind == "f" else np.float64)
    return fed, np.isfinite(fed.reshape(len(fed), -1)).all(axis=1)


def _laid(spec: PipelineSpec, windows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """In the model's layout. A message has channels last, and one of them where its shape has none."""
    count, shape = len(windows), spec.window.shape
    if spec.layout == "NC":
        return windows.reshape(count, -1)
    if shape:
        axes = 2 if spec.layout in {"NTC", "NCT"} else 3
        windows = windows.reshape(count, *shape, *(1,) * (axes - len(shape)))
    return np.moveaxis(windows, -1, 1) if spec.layout in {"NCT", "NCHW"} else windows


def constants(spec: PipelineSpec, model: Model, count: int) -> dict[str, NDArray[Any]]:
    """What is fed besides windows, for so many of them."""
    made = {}
    for one in model.inputs:
        if one.name in spec.constants:
            value = np.asarray(spec.constants[one.name], dtype=numpy_dtype(one.dtype))
            rows = bool(one.shape) and one.shape[0] is None
            made[one.name] = np.broadcast_to(value, (count, *value.shape)).copy() if rows else value
    return made
