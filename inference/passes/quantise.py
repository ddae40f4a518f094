"""Computes in int8 (QuantizeLinear, DequantizeLinear), with ranges found by calibration; ONNX Runtime's quantiser."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx

from inference.passes import PassError, names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inference import Tensor


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
        message = "int8 needs calibration data: add a calibration.npz with in/NAME to the package"
        raise PassError(message)
    made = _quantised(names.apply(model), calibration)
    if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
        message = "no node of it can compute in int8"
        raise PassError(message)
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
            message = f"ONNX Runtime's quantiser gives up: {str(error)[:300]}"
            raise PassError(message) from error
        return onnx.load_model(target)


def _tool() -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
    try:
        return importlib.import_module("onnxruntime.quantization")
    except ImportError as error:
        message = f"the quantiser is a part of ONNX Runtime, which is absent ({error})"
        raise PassError(message) from error
