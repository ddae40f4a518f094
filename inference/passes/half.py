"""Computes in half precision (fp16), the inputs and outputs as they were; what overflows stays in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from inference.chip import Text
from inference.passes import PassError, retype

if TYPE_CHECKING:
    from collections.abc import Iterable

HIGHEST: Final = 65504.0
"""The largest finite number of IEEE 754 binary16."""
_ROOM: Final = 0.25
"""A value that comes within this part of the highest in the trial may well pass it in the plant."""


def apply(model: onnx.ModelProto, *, hot: Iterable[str] | None = ()) -> onnx.ModelProto:
    """`hot`: values that come near the highest number; the nodes that give or take them stay in float32.

    So do those that take a weight beyond it, and operators that have no half precision. With None nothing is kept for
    what it holds, as on a chip that has only halves. Raises PassError where all that there is comes near the highest
    number; a graph without float32 is returned as it is.
    """
    kept = set() if hot is None else {*hot, *_beyond(model)}
    change = retype.Change(
        onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, lambda node: bool(kept & {*node.input, *node.output})
    )
    made = retype.apply(model, change)
    if made == model and kept:
        said = Text(
            "every node that could compute in half precision comes near 65504, its highest number",
            "所有可用半精度计算的节点都接近其最大值 65504",
        )
        raise PassError(said)
    return made


def is_hot(value: Any) -> bool:  # noqa: ANN401 - whatever a node gives
    """Whether an array of floats holds a number that comes near the highest of half precision."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not value.size:
        return False
    return not bool((np.abs(value) < HIGHEST * _ROOM).all())


def _beyond(model: onnx.ModelProto) -> set[str]:
    """Weights that have no half."""
    return {
        one.name for one in model.graph.initializer
        if one.data_type == onnx.TensorProto.FLOAT
        and not bool((np.abs(numpy_helper.to_array(one)) <= HIGHEST).all())
    }
