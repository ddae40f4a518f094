"""Inputs of a model that no window feeds: constants, in the model's own shape and type, and what it carries on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.adapters.tensors import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from inference import Model, TensorSpec


def fitted(spec: TensorSpec, value: Any) -> NDArray[Any]:  # noqa: ANN401 - whatever the file holds
    """As the model takes it, but for the first dimension where that counts rows: then it is that of one row.

    ValueError with what the model takes where it does not fit, or where a whole number would become another one.
    """
    takes = f"the input {spec.name!r} takes {spec.dtype} {_said(spec)}"
    dtype = numpy_dtype(spec.dtype)
    try:
        given = np.asarray(value)
        made = given.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        message = f"{takes}, which this is not: {error}"
        raise ValueError(message) from error
    if given.dtype.kind not in "fiub" or dtype.kind not in "fiub":
        message = f"{takes}, and constants are numbers"
        raise ValueError(message)
    if not np.isfinite(given.astype(np.float64)).all() or (dtype.kind != "f" and not np.array_equal(made, given)):
        message = f"{takes}, which cannot hold it"
        raise ValueError(message)
    dims = spec.shape[1:] if spec.shape and spec.shape[0] is None else spec.shape
    if len(made.shape) != len(dims) or any(has not in {None, is_} for has, is_ in zip(dims, made.shape, strict=True)):
        each = " for each window" if len(dims) < len(spec.shape) else ""
        message = f"{takes}; a constant for it has the shape {list(dims)}{each}, not {list(made.shape)}"
        raise ValueError(message)
    return made


def uncarried(
    name: str, output: str, constants: Collection[str], others: Mapping[str, TensorSpec], model: Model
) -> str:
    """Why an input cannot be carried from an output; empty where it can."""
    spec, left = others.get(name), next((one for one in model.outputs if one.name == output), None)
    if spec is None or name in constants:
        return f"{name!r} is not an input that nothing else feeds"
    if left is None:
        return f"the model has no output {output!r}"
    if spec.dtype != left.dtype or len(spec.shape) != len(left.shape):
        return f"{name!r} takes {spec.dtype} {_said(spec)}, {output!r} is {left.dtype} {_said(left)}"
    if numpy_dtype(spec.dtype).kind not in "fiub":
        return f"{name!r} takes {spec.dtype}: only numbers are carried"
    return ""


def _said(spec: TensorSpec) -> list[int | str]:
    return ["N" if at == 0 and size is None else size or "any" for at, size in enumerate(spec.shape)]
