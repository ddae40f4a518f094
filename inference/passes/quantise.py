"""Computes in int8 (QuantizeLinear, DequantizeLinear), with ranges found by calibration; ONNX Runtime's quantiser."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import onnx

from inference.chip import Text
from inference.passes import PassError, names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inference import Tensor


NO_FEEDS: Final = Text(
    "int8 needs calibration data: add a calibration.npz with in/NAME to the package",
    "int8 需要校准数据：请在模型包中加入含 in/名称 的 calibration.npz",
)


class _Rows:
    """Feeds one after the other, as ONNX Runtime asks for them."""

    def __init__(self, feeds: Sequence[dict[str, Tensor]]) -> None:
        self._feeds: Iterator[dict[str, Tensor]] = iter(feeds)

    def get_next(self) -> dict[str, Tensor] | None:
        """The next feeds, None after the last."""
        return next(self._feeds, None)


def apply(model: onnx.ModelProto, *, calibration: Sequence[dict[str, Tensor]]) -> onnx.ModelProto:
    """`calibration`: feeds that are typical of the plant, each for one run; min and max of every value are taken.

    Raises PassError without feeds, without ONNX Runtime's quantiser, and where it finds nothing to quantise.
    """
    if not calibration:
        raise PassError(NO_FEEDS)
    made = _quantised(names.apply(model), calibration)
    if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
        said = Text("no node of it can compute in int8", "没有可用 int8 计算的节点")
        raise PassError(said)
    return made


def _quantised(model: onnx.ModelProto, calibration: Sequence[dict[str, Tensor]]) -> onnx.ModelProto:
    tool = _tool()
    with TemporaryDirectory(prefix="headrace-int8-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = Path(folder, "int8.onnx")
        try:
            tool.quantize_static(
                model, target, _Rows(calibration), quant_format=tool.QuantFormat.QDQ,
                activation_type=tool.QuantType.QInt8, weight_type=tool.QuantType.QInt8,
            )
        except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            why = str(error)[:300]
            said = Text(
                f"ONNX Runtime's quantiser gives up: {why}", f"ONNX Runtime 的量化工具无法处理：{why}"
            )
            raise PassError(said) from error
        return onnx.load_model(target)


def _tool() -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
    try:
        return importlib.import_module("onnxruntime.quantization")
    except ImportError as error:
        said = Text(
            f"the quantiser is a part of ONNX Runtime, which is absent ({error})",
            f"量化工具属于 ONNX Runtime，而它不可用（{error}）",
        )
        raise PassError(said) from error
