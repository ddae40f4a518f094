"""Inputs of a model that no window feeds: what a plant file gives for them, in the model's own shape and type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.adapters.tensors import numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inference import TensorSpec


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


def _said(spec: TensorSpec) -> list[int | str]:
    return ["N" if at == 0 and size is None else size or "any" for at, size in enumerate(spec.shape)]
