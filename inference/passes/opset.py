"""Converts to an opset and an IR version that a runtime reads, by ONNX's own converter."""

from __future__ import annotations

from typing import Final

import onnx
from onnx import checker, defs, version_converter

from inference.adapters.reference import SINCE
from inference.chip import Text
from inference.graph import graphs, opset
from inference.passes import PassError
from inference.passes.values import STANDARD, copied

_LEAST_IR: Final = 4
"""From here on a weight need not stand among the inputs; in older files the converter wants every one there."""


def apply(model: onnx.ModelProto, *, version: int | None, ir: int | None) -> onnx.ModelProto:
    """The standard operators in opset `version`, the file in IR version `ir` at most; None leaves it as it is.

    Raises PassError where ONNX has no way back or on for a node.
    """
    made = copied(model)
    if version is not None and standard(model) not in (None, version):
        made = _converted(made, version)
    if ir is not None and made.ir_version > ir:
        made.ir_version = max(ir, _LEAST_IR)
        _without_metadata(made)
    try:
        checker.check_model(made)
    except (checker.ValidationError, ValueError) as error:
        now = f"opset {opset(made)}, IR {made.ir_version}"
        said = Text(
            f"as {now}, the model is not valid: {_first(error)}", f"转换为 {now} 后模型无效：{_first(error)}"
        )
        raise PassError(said) from error
    return made


def standard(model: onnx.ModelProto) -> int | None:
    """The opset of the standard operators, None where the model has none."""
    return next((one.version for one in model.opset_import if one.domain in STANDARD), None)


def _converted(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    model.ir_version = max(model.ir_version, _LEAST_IR)
    try:
        made: onnx.ModelProto = version_converter.convert_version(model, version)
    except (version_converter.ConvertError, RuntimeError, ValueError) as error:
        now = standard(model) or version
        if version < now and all(_as_before(node, version) for body in graphs(model) for node in body.node):
            return _restated(model, version)
        said = Text(
            f"ONNX cannot convert opset {now} to {version}: {_first(error)}",
            f"ONNX 无法将 opset {now} 转换为 {version}：{_first(error)}",
        )
        raise PassError(said) from error
    made.ir_version = model.ir_version
    others = [one for one in model.opset_import if one.domain not in STANDARD]
    present = {one.domain for one in made.opset_import}
    made.opset_import.extend(one for one in others if one.domain not in present)
    return made


def _as_before(node: onnx.NodeProto, version: int) -> bool:
    """Whether the operator was there already, and meant the same as today."""
    if node.domain not in STANDARD:
        return True
    return version >= SINCE.get(node.op_type, 0) and defs.has(node.op_type, version, "")


def _restated(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The same nodes under an older number: ONNX has no converter for many operators that only learned new types.

    What is not valid under that number is found by ONNX's checker, what means something else by the golden vectors.
    """
    made = copied(model)
    for one in made.opset_import:
        if one.domain in STANDARD:
            one.version = version
    return made


def _without_metadata(model: onnx.ModelProto) -> None:
    """Notes on graphs, nodes and values came with IR 10; they compute nothing."""
    for body in graphs(model):
        body.ClearField("metadata_props")
        for one in (*body.node, *body.value_info):
            one.ClearField("metadata_props")


def _first(error: Exception) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in text if line.strip()), text[0])[:300]
