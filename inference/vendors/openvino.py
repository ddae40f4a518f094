"""Intel's OpenVINO on any x86 CPU: a provider built into an ONNX Runtime of its own, in an environment of its own.

It is here for what it proves: the path of CANN, MACA and TopsInference is the same code, and this one can be run.
"""

from __future__ import annotations

from typing import Final

from inference.adapters.ort import OrtBackend, Provider
from inference.vendors.cpu import name

SPEC: Final = Provider(
    vendor="openvino", provider="OpenVINOExecutionProvider", evidence="verified-ci", package="onnxruntime-openvino",
    describe=lambda: f"OpenVINO, {name()}",
    options={"device_type": "CPU"},
    # Said outright: OpenVINO by itself may choose bfloat16 where the CPU has it, at 10,000 times the error.
    precisions={"fp32": ({"precision": "FP32"},)},
)


def backend() -> OrtBackend:
    """OpenVINO's CPU device; in an engine, since two ONNX Runtimes in one environment destroy each other."""
    return OrtBackend(SPEC)
