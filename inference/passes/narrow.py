"""Computes in int32 in place of int64, for chips without it; inputs, outputs and what ONNX fixes to int64 stay."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from inference.passes import retype

_RANGE = np.iinfo(np.int32)


def apply(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes that take a constant beyond int32 are left; a graph that does not compute in int64 is returned as it is.

    What comes in at a run must fit int32, as a cast does not tell: the check on golden vectors is all there is.
    """
    return retype.apply(model, change(model))


def change(model: onnx.ModelProto) -> retype.Change:
    """From int64 to int32; constants beyond it, as weights or as nodes, do not fit."""
    wide = {one.name for one in model.graph.initializer if not _fits(one)}
    stated = {
        name for node in model.graph.node for name in node.output
        if any(one.HasField("t") and not _fits(one.t) for one in node.attribute)
    }
    return retype.Change(onnx.TensorProto.INT64, onnx.TensorProto.INT32, unfit=frozenset(wide | stated))


def _fits(one: onnx.TensorProto) -> bool:
    if one.data_type != onnx.TensorProto.INT64:
        return True
    array = numpy_helper.to_array(one)
    return not array.size or bool(array.min() >= _RANGE.min and array.max() <= _RANGE.max)
