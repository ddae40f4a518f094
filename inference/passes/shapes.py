"""Fixes free dimensions: the first of each input to a batch, the others to sizes that are given by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import onnx

from inference.chip import Text
from inference.passes import PassError
from inference.passes.values import copied, fed, values

if TYPE_CHECKING:
    from collections.abc import Mapping

_NONE: Final[Mapping[str, int]] = {}


def apply(model: onnx.ModelProto, *, batch: int, sizes: Mapping[str, int] = _NONE) -> onnx.ModelProto:
    """Every shape that follows is stated in the graph. `sizes`: by the name of a dimension, or as `input/axis`.

    Raises PassError naming the dimensions that stay free.
    """
    made = copied(model)
    named = dict(sizes)
    left = []
    for one in fed(made):
        for axis, dim in enumerate(one.type.tensor_type.shape.dim):
            if dim.dim_value > 0:
                continue
            size = batch if axis == 0 else named.get(dim.dim_param or f"{one.name}/{axis}")
            if size is None:
                left.append(f"{dim.dim_param or axis} of {one.name!r}")
                continue
            if dim.dim_param:
                named.setdefault(dim.dim_param, size)
            dim.dim_value = size
    if left:
        told = ", ".join(left)
        said = Text(
            f"dimensions other than the first are free and no size is given: {told}",
            f"首维以外的维度不固定且未给出大小：{told}",
        )
        raise PassError(said)
    _restate(made)
    return made


def _restate(model: onnx.ModelProto) -> None:
    """What was stated of values within still has the free dimensions: state what follows in its place."""
    del model.graph.value_info[:]
    open_ended = copied(model)
    for one in open_ended.graph.output:
        if one.type.HasField("tensor_type"):
            one.type.tensor_type.ClearField("shape")
    known = values(open_ended)
    for one in model.graph.output:
        dims = one.type.tensor_type.shape.dim
        shape = known.shapes.get(one.name, ())
        if len(dims) != len(shape):
            continue
        for dim, size in zip(dims, shape, strict=True):
            if size is not None:
                dim.dim_value = size
